"""Turn the boxes of Open Images into a file of ODVG.

    python tools/dataset_converters/openimages2odvg.py data/OpenImages/annotations

reads oidv6-train-annotations-bbox.csv and class-descriptions-boxable.csv there, and the sizes of the pictures, by
default in data/OpenImages/OpenImages/train; writes oidv6-train-annotations_od.json and openimages_label_map.json. Boxes
around groups of objects are left out.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError, UserKeyError

COLUMNS = ('ImageID', 'LabelName', 'XMin', 'XMax', 'YMin', 'YMax')


def boxes_by_picture(path: Path, classes: dict) -> dict[str, list]:
    """(class id, x1, y1, x2, y2 as parts of the sides) by the id of the picture, in the order of the file."""
    import csv

    found: dict[str, list] = {}
    with open(path, newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise UserKeyError(f'{path}: the first line has no column {missing[0]!r}')
        for number, row in enumerate(reader, 2):
            if row['LabelName'] not in classes:
                raise UserKeyError(f'{path}, line {number}: {row["LabelName"]!r} is no class of the descriptions')
            boxes = found.setdefault(row['ImageID'], [])
            if row.get('IsGroupOf') != '1':
                boxes.append((row['LabelName'], *(float(row[side]) for side in ('XMin', 'YMin', 'XMax', 'YMax'))))
    return found


def lines(boxes: dict[str, list], classes: dict, pictures: Path):
    """Of all pictures that are there."""
    from mmdet.utils.pictures import picture_size

    labels = {own: label for label, own in enumerate(classes)}
    for own, rows in boxes.items():
        path = pictures / f'{own}.jpg'
        if not path.is_file():
            continue
        width, height = picture_size(str(path))
        instances = []
        for name, *sides in rows:
            x1, y1, x2, y2 = (round(part * side, 3) for part, side in zip(sides, (width, height) * 2, strict=True))
            if x2 - x1 >= 1 and y2 - y1 >= 1:
                instances.append(dict(bbox=[x1, y1, x2, y2], label=labels[name], category=classes[name]))
        yield dict(filename=path.name, height=height, width=width, detection=dict(instances=instances))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input_dir', type=Path, help='folder of the CSV files')
    parser.add_argument('--img-prefix', type=Path, help='folder of the pictures')
    parser.add_argument('-o', '--output', type=Path, help='ODVG file to write')
    args = parser.parse_args(argv)
    table, names = (
        args.input_dir / name for name in ('oidv6-train-annotations-bbox.csv', 'class-descriptions-boxable.csv')
    )
    pictures = args.img_prefix or args.input_dir.absolute().parent / 'OpenImages' / 'train'
    for path in (table, names, pictures):
        if not path.exists():
            raise UserFileError(f'there is no {path}')
    from mmdet.datasets.reading.odvg_file import write_lines
    from mmdet.datasets.reading.to_odvg import write_label_map

    rows = (line.partition(',') for line in names.read_text(encoding='utf-8').splitlines() if line.strip())
    classes = {own: name.strip('"') for own, _, name in rows if own != 'LabelName'}
    output = args.output or args.input_dir / 'oidv6-train-annotations_od.json'
    count = write_lines(str(output), lines(boxes_by_picture(table, classes), classes, pictures))
    write_label_map(output.with_name('openimages_label_map.json'), classes.values())
    print(f'{output}: {count} pictures, {len(classes)} classes')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
