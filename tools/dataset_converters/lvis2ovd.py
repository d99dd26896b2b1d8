"""Leave the 337 rare classes out of the training annotations of LVIS, for open-vocabulary detection (arXiv:2104.13921).

    python tools/dataset_converters/lvis2ovd.py data/coco

writes annotations/lvis_v1_train_norare.json, of which lvis2odvg.py makes files of ODVG.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError


def without_rare(content: dict, source: Path) -> dict:
    """The file without its categories of frequency 'r' and their objects; all pictures stay."""
    from mmdet.datasets.reading.coco_file import require

    require(content, ('images', 'annotations', 'categories'), 'the file', str(source))
    for category in content['categories']:
        require(category, ('id', 'frequency'), 'an entry of "categories"', str(source))
    categories = [category for category in content['categories'] if category['frequency'] != 'r']
    ids = {category['id'] for category in categories}
    annotations = [annotation for annotation in content['annotations'] if annotation['category_id'] in ids]
    return dict(content, annotations=annotations, categories=categories)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', type=Path, help='folder of COCO, with annotations/lvis_v1_train.json')
    args = parser.parse_args(argv)
    source = args.data_root / 'annotations' / 'lvis_v1_train.json'
    if not source.is_file():
        raise UserFileError(f'there is no {source}; data_root must be the folder of COCO')
    from mmdet.datasets.reading.coco_file import read_json
    from mmdet.datasets.reading.to_odvg import write_json

    content, out = without_rare(read_json(str(source)), source), source.with_name('lvis_v1_train_norare.json')
    write_json(out, content)
    print(f'{out}: {len(content["annotations"])} boxes, {len(content["categories"])} classes')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
