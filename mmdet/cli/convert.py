"""Write annotations in another format.

  mmdet convert data/bccd data/bccd_yolo --to yolo
  mmdet convert export.json data/cells --to coco

Read are COCO JSON, YOLO, PASCAL VOC, CVAT, LabelMe, Label Studio, CSV and FiftyOne, told from the files.
"""

from __future__ import annotations

import argparse

FORMATS = ('coco', 'yolo', 'voc', 'cvat', 'label-studio', 'labelme', 'csv')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Input, output, formats."""
    parser.add_argument('data', help='folder with pictures and annotations, or an annotation file')
    parser.add_argument('out', help='folder to write, new or empty')
    parser.add_argument('--to', choices=FORMATS, default='coco', help='format to write (default: coco)')
    parser.add_argument('--from', dest='source', metavar='FORMAT', help='format to read, if it is not seen rightly')
    parser.add_argument(
        '--pictures',
        choices=('link', 'copy', 'none'),
        default='link',
        help='link (default) or copy the pictures into the folder, or name them where they are',
    )
    parser.add_argument(
        '--split', type=float, metavar='SHARE', help='make a validation split of this share of the training pictures'
    )


def run(args: argparse.Namespace) -> None:
    """Read, split, write, and tell what the new format cannot say."""
    from mmdet.datasets.formats import read_data, write_data
    from mmdet.datasets.formats.splitting import with_validation

    collection = read_data(args.data, args.source)
    if args.split is not None:
        collection = with_validation(collection, args.split)
    for line in describe(collection):
        print(line)
    for line in write_data(collection, args.out, args.to, args.pictures):
        print(f'lost: {line}')
    print(f'{args.out}: written as {args.to}')


def describe(collection) -> list[str]:
    """What was read, in lines for a person."""
    splits = ', '.join(f'{len(group)} {split or "pictures"}' for split, group in collection.splits.items())
    counts = collection.counts()
    lines = [
        f'{collection.root}: read as {collection.format}: {splits}; {sum(counts.values())} objects',
        'classes: ' + ', '.join(f'{name} ({counts[name]})' for name in collection.classes),
    ]
    for action in ('repaired', 'left out'):
        lines += [f'{action}: {kind}: {count}' for kind, count in collection.report.of(action).items()]
    return lines + [f'note: {note}' for note in collection.notes]
