"""Make panoptic_image_info_test-dev2017.json: the pictures of COCO's test-dev with the categories of its panoptic task.

    python tools/misc/gen_coco_panoptic_test_info.py data/coco/annotations

COCO gives the list of pictures, image_info_test-dev2017.json, with the categories of the things alone; those of the
panoptic task are in panoptic_val2017.json.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError, UserKeyError

PICTURES, CATEGORIES = 'image_info_test-dev2017.json', 'panoptic_val2017.json'
OUT = 'panoptic_image_info_test-dev2017.json'


def read(path, key):
    """The content of a JSON file that has ``key``."""
    if not path.is_file():
        raise UserFileError(f'{path} does not exist')
    content = json.loads(path.read_text())
    if key not in content:
        raise UserKeyError(f'{path} has no {key!r}, only {", ".join(map(repr, content))}')
    return content


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', type=Path, help='folder of the annotation files')
    args = parser.parse_args(argv)
    content = read(args.data_root / PICTURES, 'images')
    content['categories'] = read(args.data_root / CATEGORIES, 'categories')['categories']
    out = args.data_root / OUT
    temporary = out.with_name(f'.{out.name}.{os.getpid()}')
    temporary.write_text(json.dumps(content))
    os.replace(temporary, out)
    print(f'{out}: {len(content["images"])} images, {len(content["categories"])} categories')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
