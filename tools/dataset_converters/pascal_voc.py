"""Turn a PASCAL VOC folder (ImageSets, Annotations, JPEGImages) into COCO JSON files.

    python tools/dataset_converters/pascal_voc.py data/VOCdevkit -o data/voc_coco

The folder is a devkit (with VOC2007 and VOC2012 in it) or one such dataset. Each list under ImageSets/Main becomes one
file. A box is written as it is trained on elsewhere: coordinates count from 1 in VOC and from 0 in COCO. Boxes without
area are reported and left out, or kept with --keep-degenerate.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.datasets.reading.values import as_flag, as_size, numbers
from mmdet.errors import UserFileError, UserValueError
from mmdet.utils.class_names import VOC_CLASSES

SPLITS = ('train', 'val', 'trainval', 'test')


def parse_xml(path: Path) -> dict:
    """``size`` (height, width; None if none is written), ``filename`` and ``objects`` (name, difficult, bbox).

    Coordinates count from 1.
    """
    from mmdet.datasets.xml_style import xml_root

    try:
        root = xml_root(Path(path).read_bytes())
        objects = []
        for item in root.findall('object'):
            box, name = item.find('bndbox'), item.findtext('name').strip()
            x1, y1, x2, y2 = numbers(
                [box.findtext(key) for key in ('xmin', 'ymin', 'xmax', 'ymax')], f'a box of {name!r}'
            )
            objects.append(
                dict(
                    name=name,
                    difficult=as_flag(item.findtext('difficult')) or 0,
                    bbox=[min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)],
                )
            )
        size = as_size(*((root.findtext(f'size/{key}') or '').strip() for key in ('height', 'width')))
        return dict(size=size, filename=root.findtext('filename') or '', objects=objects)
    except FileNotFoundError:
        raise UserFileError(f'annotation file {path} does not exist') from None
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise UserValueError(f'{path} is not a PASCAL VOC annotation: {error}') from error


def image_name(root: Path, img_id: str, named: str) -> str:
    """Path of the picture, relative to the devkit; its extension is that of the file that is there."""
    suffixes = ['.jpg', Path(named).suffix, '.jpeg', '.png', '.JPG', '.PNG']
    for suffix in suffixes:
        if suffix and (root / 'JPEGImages' / f'{img_id}{suffix}').is_file():
            return f'JPEGImages/{img_id}{suffix}'
    raise UserFileError(f'there is no picture {root / "JPEGImages" / img_id}.jpg')


def read_split(dataset: Path, split: str, prefix: str) -> list[dict]:
    """The annotations of the pictures in a list, with ``file_name`` relative to the devkit."""
    from mmdet.utils.pictures import picture_size

    entries = []
    for line in (dataset / 'ImageSets' / 'Main' / f'{split}.txt').read_text().splitlines():
        if line.strip():
            img_id = line.split()[0]
            entry = parse_xml(dataset / 'Annotations' / f'{img_id}.xml')
            name = image_name(dataset, img_id, entry['filename'])
            if entry['size'] is None:
                entry['size'] = picture_size(str(dataset / name))[::-1]
                print(f'size taken from the picture: {dataset / name}', file=sys.stderr)
            entry['file_name'] = prefix + name
            entries.append(entry)
    return entries


def to_coco(entries: list[dict], classes: list[str], keep_degenerate: bool) -> tuple[dict, list[str]]:
    """The COCO dict, and a line for each box without area."""
    images, annotations, degenerate = [], [], []
    for img_id, entry in enumerate(entries):
        height, width = entry['size']
        images.append(dict(id=img_id, file_name=entry['file_name'], width=width, height=height))
        for item in entry['objects']:
            if item['name'] not in classes:
                continue
            x1, y1, x2, y2 = (value - 1 for value in item['bbox'])
            if x2 <= x1 or y2 <= y1:
                degenerate.append(f'{entry["file_name"]}: {item["name"]} {item["bbox"]}')
                if not keep_degenerate:
                    continue
            width, height = max(x2 - x1, 0), max(y2 - y1, 0)
            annotations.append(
                dict(
                    id=len(annotations) + 1,  # 0 means 'not matched' in COCO's evaluation
                    image_id=img_id,
                    category_id=classes.index(item['name']),
                    bbox=[x1, y1, width, height],
                    area=width * height,
                    iscrowd=0,
                    ignore=item['difficult'],
                    segmentation=[[x1, y1, x1, y2, x2, y2, x2, y1]],
                )
            )
    categories = [dict(id=i, name=name, supercategory='none') for i, name in enumerate(classes)]
    return dict(type='instance', images=images, annotations=annotations, categories=categories), degenerate


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)


def find_datasets(devkit: Path) -> list[tuple[str, Path]]:
    """(name, folder) of the VOC datasets in a folder, or of the folder itself (name '')."""
    if (devkit / 'Annotations').is_dir():
        return [('', devkit)]
    found = [(path.name, path) for path in sorted(devkit.glob('VOC*')) if (path / 'Annotations').is_dir()]
    if not found:
        raise UserFileError(f'{devkit} has neither a folder Annotations nor folders VOC* that have one')
    return found


def convert(devkit: Path, out_dir: Path, classes: list[str] | None, keep_degenerate: bool) -> list[Path]:
    """Write a file for each list, and one for the same list of all years; returns the files.

    Names are ``train.json`` for a single dataset, ``voc07_train.json`` and ``voc0712_train.json`` for a devkit.
    """
    datasets = find_datasets(devkit)
    years = {name: name.removeprefix('VOC')[-2:] for name, _ in datasets}
    splits: dict[str, list[dict]] = {}
    for split in SPLITS:
        parts = {}
        for name, path in datasets:
            if (path / 'ImageSets' / 'Main' / f'{split}.txt').is_file():
                parts[years[name]] = read_split(path, split, f'{name}/' if name else '')
        for year, entries in parts.items():
            splits[f'voc{year}_{split}' if year else split] = entries
        if len(parts) > 1:
            splits[f'voc{"".join(parts)}_{split}'] = [entry for entries in parts.values() for entry in entries]
    if not splits:
        raise UserFileError(f'{devkit} has no lists {", ".join(SPLITS)} under ImageSets/Main')
    present = {item['name'] for entries in splits.values() for entry in entries for item in entry['objects']}
    if classes is None:
        classes = VOC_CLASSES if present <= set(VOC_CLASSES) else sorted(present)
    elif set(classes) - present:
        raise UserValueError(f'no box is of class {sorted(set(classes) - present)}; there are {sorted(present)}')
    if present - set(classes):
        print(f'left out, as not among the classes: {", ".join(sorted(present - set(classes)))}', file=sys.stderr)
    written, reported = [], set()
    for name, entries in splits.items():
        content, degenerate = to_coco(entries, list(classes), keep_degenerate)
        for line in degenerate:
            if line not in reported:
                print(f'{"kept" if keep_degenerate else "left out"}, a box without area: {line}', file=sys.stderr)
                reported.add(line)
        written.append(out_dir / f'{name}.json')
        write_json(written[-1], content)
        boxes, images = len(content['annotations']), len(content['images'])
        print(f'{written[-1]}: {images} images, {boxes} boxes, {len(degenerate)} without area')
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('devkit_path', type=Path, help='PASCAL VOC devkit, or one dataset of its layout')
    parser.add_argument('-o', '--out-dir', type=Path, help='folder for the JSON files (default: devkit_path)')
    parser.add_argument('--out-format', default='coco', choices=('pkl', 'coco'), help='coco')
    parser.add_argument('--classes', nargs='+', help='class names in label order (default: those of VOC or as found)')
    parser.add_argument('--keep-degenerate', action='store_true', help='write boxes without area too')
    args = parser.parse_args()
    if args.out_format == 'pkl':
        parser.error('--out-format pkl was read by MMDetection 2.x only; use coco')
    try:
        convert(args.devkit_path, args.out_dir or args.devkit_path, args.classes, args.keep_degenerate)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
