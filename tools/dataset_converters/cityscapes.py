"""Turn the fine annotations of Cityscapes into COCO files with RLE masks.

    python tools/dataset_converters/cityscapes.py data/cityscapes -o data/cityscapes/annotations

Reads gtFine/<split>/<city>/*_instanceIds.png; cityscapesScripts is not needed. A pixel of an instance is its class id
times 1000 plus a number; a pixel of a crowd is the class id alone.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError

# The ids of cityscapesScripts of the classes that have instances and are evaluated.
CATEGORIES = {
    24: 'person',
    25: 'rider',
    26: 'car',
    27: 'truck',
    28: 'bus',
    31: 'train',
    32: 'motorcycle',
    33: 'bicycle',
}
SPLITS = ('train', 'val', 'test')


def read_instances(path: Path) -> tuple[tuple[int, int], list[dict]]:
    """(height, width) and the instances of a picture, without ids."""
    import pycocotools.mask as coco_mask

    from mmdet.utils.pictures import read_picture

    ids = read_picture(path, flag='unchanged').astype(np.int32)
    instances = []
    for value in np.unique(ids):
        category = int(value) if value < 1000 else int(value) // 1000
        if category not in CATEGORIES:
            continue
        rle = coco_mask.encode(np.asfortranarray(ids == value, dtype=np.uint8))
        instances.append(
            dict(
                category_id=category,
                iscrowd=int(value < 1000),
                area=int(coco_mask.area(rle)),
                bbox=coco_mask.toBbox(rle).tolist(),
                segmentation=dict(size=rle['size'], counts=rle['counts'].decode()),
            )
        )
    return ids.shape, instances


def read_all(paths: list[Path], workers: int) -> Iterator[tuple[tuple[int, int], list[dict]]]:
    if workers <= 1:
        yield from map(read_instances, paths)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(read_instances, paths, chunksize=8)


def convert(root: Path, split: str, img_dir: str, gt_dir: str, workers: int) -> dict:
    """The COCO dict of a split."""
    images, annotations = [], []
    pictures = sorted((root / img_dir / split).glob('*/*_leftImg8bit.png'))
    truths = []
    for picture in pictures:
        name = picture.name.replace('_leftImg8bit.png', '_gtFine_instanceIds.png')
        truths.append(root / gt_dir / split / picture.parent.name / name)
        if not truths[-1].is_file():
            raise UserFileError(f'{truths[-1]} does not exist, the annotation of {picture}')
    for picture, truth, (shape, instances) in zip(pictures, truths, read_all(truths, workers), strict=True):
        images.append(
            dict(
                id=len(images),
                file_name=picture.relative_to(root / img_dir / split).as_posix(),
                height=shape[0],
                width=shape[1],
                segm_file=truth.relative_to(root / gt_dir / split).as_posix(),
            )
        )
        annotations += [dict(x, image_id=images[-1]['id'], id=len(annotations) + i) for i, x in enumerate(instances, 1)]
    categories = [dict(id=number, name=name) for number, name in CATEGORIES.items()]
    return dict(images=images, categories=categories, annotations=annotations)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('cityscapes_path', type=Path, help='folder with leftImg8bit and gtFine')
    parser.add_argument('--img-dir', default='leftImg8bit')
    parser.add_argument('--gt-dir', default='gtFine')
    parser.add_argument('-o', '--out-dir', type=Path, help='folder for the JSON files (default: cityscapes_path)')
    parser.add_argument('--nproc', type=int, default=1, help='number of processes')
    args = parser.parse_args(argv)
    out_dir = args.out_dir or args.cityscapes_path
    out_dir.mkdir(parents=True, exist_ok=True)
    found = False
    for split in SPLITS:
        content = convert(args.cityscapes_path, split, args.img_dir, args.gt_dir, args.nproc)
        if not content['images']:
            continue
        found = True
        out = out_dir / f'instancesonly_filtered_{args.gt_dir}_{split}.json'
        temporary = out.with_name(f'.{out.name}.{os.getpid()}')
        temporary.write_text(json.dumps(content))
        os.replace(temporary, out)
        print(f'{out}: {len(content["images"])} images, {len(content["annotations"])} instances')
    if not found:
        sys.exit(f'error: no pictures under {args.cityscapes_path / args.img_dir}/<split>/<city>/*_leftImg8bit.png')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
