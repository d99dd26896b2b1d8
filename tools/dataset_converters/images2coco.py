"""Make a COCO file without boxes for the pictures of a folder, so that a detector can be tested on them.

python tools/dataset_converters/images2coco.py data/pictures classes.txt pictures.json -e bmp
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserError, UserFileError


def collect(folder: Path, exclude: tuple[str, ...] = ()) -> list[dict]:
    """``images`` of a COCO file for the readable pictures under a folder, by name."""
    from mmdet.utils.pictures import picture_size

    skipped = {f'.{extension.lower().lstrip(".")}' for extension in exclude}
    images = []
    for path in sorted(folder.rglob('*')):
        if not path.is_file() or path.suffix.lower() in skipped:
            continue
        try:
            width, height = picture_size(str(path))
        except UserError as error:
            print(f'left out, not a picture: {error}', file=sys.stderr)
            continue
        images.append(dict(id=len(images), file_name=path.relative_to(folder).as_posix(), width=width, height=height))
    if not images:
        raise UserFileError(f'{folder} holds no pictures')
    return images


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('img_path', type=Path, help='folder with pictures, searched with its subfolders')
    parser.add_argument('classes', type=Path, help='text file with one class name a line')
    parser.add_argument('out', type=Path, help='JSON file to write (a bare name: into annotations/ beside img_path)')
    parser.add_argument('-e', '--exclude-extensions', nargs='+', default=(), help='extensions to leave out')
    args = parser.parse_args(argv)
    if not args.classes.is_file():
        raise UserFileError(f'there is no list of classes {args.classes}')
    names = [line.strip() for line in args.classes.read_text().splitlines() if line.strip()]
    categories = [dict(id=i, name=name, supercategory='none') for i, name in enumerate(names)]
    content = dict(images=collect(args.img_path, args.exclude_extensions), categories=categories)
    out = args.img_path.parent / 'annotations' / args.out if args.out.parent == Path('.') else args.out
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f'.{out.name}.{os.getpid()}')
    temporary.write_text(json.dumps(content))
    os.replace(temporary, out)
    print(f'{out}: {len(content["images"])} images, {len(names)} classes')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
