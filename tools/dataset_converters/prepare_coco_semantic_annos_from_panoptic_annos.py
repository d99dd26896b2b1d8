"""Turn COCO's panoptic maps into semantic ones: the 133 classes of CocoPanopticDataset, 255 for void.

    python tools/dataset_converters/prepare_coco_semantic_annos_from_panoptic_annos.py data/coco

Reads annotations/panoptic_{train,val}2017.json with the PNG files of the folders of the same name, and writes
annotations/panoptic_semseg_{train,val}2017/*.png.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError, UserValueError

SPLITS = ('val2017', 'train2017')
VOID = 255


def semantic_of(ids, segments, labels, path):
    """The label of each pixel of a map of segment ids (h, w)."""
    import numpy as np

    present, inverse = np.unique(ids, return_inverse=True)
    label = {0: VOID} | {segment['id']: labels[segment['category_id']] for segment in segments}
    unknown = [number for number in present.tolist() if number not in label]
    if unknown:
        raise UserValueError(f'{path} has the segment {unknown[0]}, which its annotation does not list')
    return np.array([label[number] for number in present.tolist()], dtype=np.uint8)[inverse].reshape(ids.shape)


def convert(folder, split):
    """Write the maps of a split; returns how many."""
    import cv2

    from mmdet.evaluation.functional.panoptic import read_panoptic_map

    file = folder / f'panoptic_{split}.json'
    content = json.loads(file.read_text())
    labels = {category['id']: label for label, category in enumerate(content['categories'])}
    if len(labels) >= VOID:
        raise UserValueError(f'{file} has {len(labels)} categories; there is room for {VOID} in a map of bytes')
    out = folder / f'panoptic_semseg_{split}'
    out.mkdir(exist_ok=True)
    for entry in content['annotations']:
        path = folder / f'panoptic_{split}' / entry['file_name']
        semantic = semantic_of(read_panoptic_map(str(path), None), entry['segments_info'], labels, path)
        if not cv2.imwrite(str(out / entry['file_name']), semantic):
            raise OSError(f'{out / entry["file_name"]} could not be written')
    print(f'{out}: {len(content["annotations"])} maps')
    return len(content['annotations'])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', nargs='?', type=Path, default='data/coco', help='folder of COCO (data/coco)')
    args = parser.parse_args(argv)
    folder = args.data_root / 'annotations'
    splits = [split for split in SPLITS if (folder / f'panoptic_{split}.json').is_file()]
    if not splits:
        raise UserFileError(
            f'there is neither {" nor ".join(str(folder / f"panoptic_{split}.json") for split in SPLITS)}'
        )
    for split in splits:
        convert(folder, split)


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
