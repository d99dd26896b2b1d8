"""Turn ADE20K into COCO's panoptic or instance format.

    python tools/dataset_converters/ade20k2coco.py data/ADEChallengeData2016 --task panoptic

Reads images/, annotations/ and annotations_instance/ with their folders training and validation, and writes into the
same folder: ade20k_panoptic_{train,val}.json with a folder of PNG files each, or ade20k_instance_{train,val}.json.

A map in annotations/ has a class from 1 to 150 at each pixel, 0 for none. One in annotations_instance/ has the number
of a thing class (1 to 100) in red and that of the object in green. In the panoptic maps objects lie on top of the
stuff; pixels of a thing class that no object covers are void.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError, UserValueError

SPLITS = {'training': 'train', 'validation': 'val'}
NUM_THINGS = 100


def read_map(path, picture):
    """The pixels of a map, with red first."""
    from mmdet.utils.pictures import read_picture

    if not path.is_file():
        raise UserFileError(f'{path} does not exist, the map of {picture}')
    pixels = read_picture(str(path), flag='unchanged')
    return pixels if pixels.ndim == 2 else pixels[..., 2::-1]


def objects_of(path, picture):
    """Label and mask of each object of a picture, in the order of label and number."""
    import numpy as np

    pixels = read_map(path, picture)
    if pixels.ndim != 3:
        raise UserValueError(f'{path} has one channel; a map of annotations_instance has the class in red')
    codes = pixels[..., 0].astype(np.int64) * 256 + pixels[..., 1]
    found = []
    for code in np.unique(codes[codes >= 256]).tolist():
        label = code // 256 - 1
        if label >= NUM_THINGS:
            raise UserValueError(f'{path} has an object of the class {label + 1}; thing classes are 1 to {NUM_THINGS}')
        found.append((label, codes == code))
    return found


def box_of(mask):
    import numpy as np

    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def panoptic_of(semantic, objects, path):
    """A map of segment ids from 1, 0 for void, and the category of each segment that is seen."""
    import numpy as np

    from mmdet.datasets.ade20k import SEMANTIC_TO_PANOPTIC

    count = len(SEMANTIC_TO_PANOPTIC)
    if int(semantic.max(initial=0)) > count:
        raise UserValueError(f'{path} has the class {int(semantic.max())}; those of ADE20K are 1 to {count}, 0 is none')
    table = np.array([-1, *(SEMANTIC_TO_PANOPTIC[label] for label in range(count))])
    stuff = table[semantic]
    ids, category = np.zeros(semantic.shape, dtype=np.int64), {}
    for label in np.unique(stuff[stuff >= NUM_THINGS]).tolist():
        category[len(category) + 1] = label
        ids[stuff == label] = len(category)
    for label, mask in objects:
        category[len(category) + 1] = label
        ids[mask] = len(category)
    return ids, {number: category[number] for number in np.unique(ids).tolist() if number}


def pictures_of(src, split):
    """Entries of ``images`` with the path of each picture."""
    from mmdet.utils.pictures import picture_size

    folder = src / 'images' / split
    found = sorted(folder.glob('*.jpg'))
    if not found:
        raise UserFileError(f'there are no pictures {folder}/*.jpg')
    for path in found:
        width, height = picture_size(str(path))
        yield path, dict(id=path.stem, file_name=path.name, width=width, height=height)


def convert_panoptic(src, split, out):
    """``images`` and ``annotations`` of a split; the maps are written into a folder beside ``out``."""
    import cv2
    import numpy as np

    folder = out.with_suffix('')
    folder.mkdir(exist_ok=True)
    images, annotations = [], []
    for path, image in pictures_of(src, split):
        name = f'{path.stem}.png'
        semantic = read_map(src / 'annotations' / split / name, path)
        objects = objects_of(src / 'annotations_instance' / split / name, path)
        ids, category = panoptic_of(semantic, objects, src / 'annotations' / split / name)
        cv2.imwrite(str(folder / name), np.stack([ids // 65536, ids // 256 % 256, ids % 256], -1).astype(np.uint8))
        segments = []
        for number, label in category.items():
            mask = ids == number
            segments.append(dict(id=number, category_id=label, area=int(mask.sum()), bbox=box_of(mask), iscrowd=0))
        images.append(image)
        annotations.append(dict(image_id=image['id'], file_name=name, segments_info=segments))
    return images, annotations


def convert_instance(src, split, out):
    """``images`` and ``annotations`` of a split, with masks as run-length codes."""
    import numpy as np
    import pycocotools.mask as coco_mask

    images, annotations = [], []
    for path, image in pictures_of(src, split):
        for label, mask in objects_of(src / 'annotations_instance' / split / f'{path.stem}.png', path):
            rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image['id'],
                    category_id=label,
                    bbox=box_of(mask),
                    area=int(mask.sum()),
                    iscrowd=0,
                    segmentation=dict(size=rle['size'], counts=rle['counts'].decode()),
                )
            )
        images.append(image)
    return images, annotations


def categories_of(task):
    from mmdet.datasets import ade20k

    if task == 'instance':
        names = ade20k.ADE20KInstanceDataset.METAINFO['classes']
        return [dict(id=i, name=name) for i, name in enumerate(names)]
    names = ade20k.ADE20KPanopticDataset.METAINFO['classes']
    return [dict(id=i, name=name, isthing=int(i < NUM_THINGS)) for i, name in enumerate(names)]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', type=Path, help='folder of ADE20K (ADEChallengeData2016)')
    parser.add_argument('--task', choices=['panoptic', 'instance'], default='panoptic')
    args = parser.parse_args(argv)
    convert = convert_panoptic if args.task == 'panoptic' else convert_instance
    for split, name in SPLITS.items():
        out = args.src / f'ade20k_{args.task}_{name}.json'
        images, annotations = convert(args.src, split, out)
        temporary = out.with_name(f'.{out.name}.{os.getpid()}')
        temporary.write_text(
            json.dumps(dict(images=images, annotations=annotations, categories=categories_of(args.task)))
        )
        os.replace(temporary, out)
        print(f'{out}: {len(images)} images')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
