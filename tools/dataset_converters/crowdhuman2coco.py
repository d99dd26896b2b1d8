"""Turn the annotations of CrowdHuman into COCO files.

    python tools/dataset_converters/crowdhuman2coco.py -i data/crowdhuman -o data/crowdhuman/annotations

Reads annotation_train.odgt and annotation_val.odgt, of which one may be missing, and the sizes of the pictures in
train/ and val/. An object is a pedestrian with the box of its full body; what CrowdHuman ignores, or is no person, is a
crowd. Kept besides: vis_bbox and head_bbox, and visibility, the share of the area that is seen.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError, UserValueError


def convert(folder: Path, split: str) -> dict:
    """The COCO file of one split."""
    from mmdet.utils.pictures import picture_size  # torch comes with it, and --help waits for none

    images, annotations = [], []
    path = folder / f'annotation_{split}.odgt'
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            name, objects = f'{entry["ID"]}.jpg', entry['gtboxes']
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserValueError(f'{path}, line {number}: no object with ID and gtboxes: {error!r}') from error
        width, height = picture_size(str(folder / split / name))
        images.append(dict(id=len(images) + 1, file_name=name, width=width, height=height))
        for box in objects:
            annotations.append(dict(id=len(annotations) + 1, image_id=len(images), **annotation(box)))
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name='pedestrian')])


def annotation(box: dict) -> dict:
    """What COCO says of one of the ``gtboxes``."""
    _, _, width, height = box['fbox']
    ignored = box['tag'] != 'person' or (box.get('extra') or {}).get('ignore', 0) != 0
    found = dict(category_id=1, bbox=box['fbox'], area=width * height, iscrowd=int(ignored))
    if 'vbox' in box:
        found.update(vis_bbox=box['vbox'], visibility=box['vbox'][2] * box['vbox'][3] / max(width * height, 1))
    if 'hbox' in box:
        found.update(head_bbox=box['hbox'])
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-i', '--input', type=Path, required=True, help='folder of CrowdHuman')
    parser.add_argument('-o', '--output', type=Path, required=True, help='folder for the COCO files')
    args = parser.parse_args(argv)
    splits = [split for split in ('train', 'val') if (args.input / f'annotation_{split}.odgt').is_file()]
    if not splits:
        raise UserFileError(f'{args.input} has neither annotation_train.odgt nor annotation_val.odgt')
    args.output.mkdir(parents=True, exist_ok=True)
    for split in splits:
        content, out = convert(args.input, split), args.output / f'crowdhuman_{split}.json'
        temporary = out.with_name(f'.{out.name}.{os.getpid()}')
        temporary.write_text(json.dumps(content))
        os.replace(temporary, out)
        print(f'{out}: {len(content["images"])} images, {len(content["annotations"])} annotations')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
