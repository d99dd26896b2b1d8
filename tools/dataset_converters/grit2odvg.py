"""Turn GRIT, as img2dataset downloads it and unpacked, into a file of ODVG.

    python tools/dataset_converters/grit2odvg.py data/grit

reads the JSON file of each picture below data/grit/annotations (or below data/grit), whose picture lies at the same
place below data/grit/images (or beside it), and writes data/grit/grit20m_vg.json. The phrases are those of ref_exps;
of noun_chunks with --key noun_chunks.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError, UserValueError


def line(path: Path, picture: str, key: str) -> dict | None:
    """Of one picture; none if no phrase has a box of a pixel."""
    from mmdet.datasets.reading.coco_file import read_json, require
    from mmdet.datasets.reading.odvg_file import check_spans
    from mmdet.datasets.reading.to_odvg import add_region

    entry = read_json(str(path))
    require(entry, ('caption', 'width', 'height', key), 'the file', str(path))
    caption, width, height, regions = entry['caption'], entry['width'], entry['height'], {}
    for number, chunk in enumerate(entry[key], 1):
        if not isinstance(chunk, list) or len(chunk) < 6:
            raise UserValueError(f'{path}: entry {number} of {key} is {chunk!r}, not start, end, x1, y1, x2, y2, score')
        spans = check_spans([list(map(int, chunk[:2]))], caption, f'{path}: entry {number} of {key}')
        x1, y1, x2, y2 = (round(part * side, 3) for part, side in zip(chunk[2:6], (width, height) * 2, strict=True))
        if x2 - x1 >= 1 and y2 - y1 >= 1:
            add_region(regions, caption, spans, [x1, y1, x2, y2])
    if not regions:
        return None
    grounding = dict(caption=caption, regions=list(regions.values()))
    return dict(filename=picture, height=height, width=width, grounding=grounding)


def lines(root: Path, key: str):
    """Of all pictures that are there."""
    notes = root / 'annotations' if (root / 'annotations').is_dir() else root
    pictures = root / 'images' if (root / 'images').is_dir() else root
    for path in sorted(notes.rglob('*.json')):
        picture = pictures / path.relative_to(notes).with_suffix('.jpg')
        if picture.is_file():
            found = line(path, picture.relative_to(root).as_posix(), key)
            if found is not None:
                yield found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', type=Path, help='folder of GRIT')
    parser.add_argument('-o', '--out-ann', '--output', type=Path, help='ODVG file to write (DATA_ROOT/grit20m_vg.json)')
    parser.add_argument('--key', choices=('ref_exps', 'noun_chunks'), default='ref_exps', help='which phrases')
    args = parser.parse_args(argv)
    if not args.data_root.is_dir():
        raise UserFileError(f'there is no folder {args.data_root}')
    from mmdet.datasets.reading.odvg_file import write_lines

    output = args.out_ann or args.data_root / 'grit20m_vg.json'
    print(f'{output}: {write_lines(str(output), lines(args.data_root, args.key))} captions')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
