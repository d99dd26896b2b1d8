"""Split the classes of COCO for open-vocabulary detection: 48 to train with and 17 new ones (arXiv:2011.10678).

    python tools/dataset_converters/coco2ovd.py data/coco

writes annotations/instances_train2017_seen_2.json, which has the 48 classes and the pictures that show any of them, and
annotations/instances_val2017_all_2.json, which has all 65.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError, UserKeyError

SEEN = (
    'person bicycle car motorcycle train truck boat bench bird horse sheep bear zebra giraffe backpack handbag '
    'suitcase frisbee skis kite surfboard bottle fork spoon bowl banana apple sandwich orange broccoli carrot pizza '
    'donut chair bed toilet tv laptop mouse remote microwave oven toaster refrigerator book clock vase toothbrush'
)
UNSEEN = (
    'airplane bus cat dog cow elephant umbrella tie snowboard skateboard cup knife cake couch keyboard sink scissors'
)


def only(content: dict, names: dict[str, str], source: Path) -> dict:
    """The categories of these names, their objects, and the pictures that have any; names tell ``split``."""
    from mmdet.datasets.reading.coco_file import require

    require(content, ('images', 'annotations', 'categories'), 'the file', str(source))
    categories = [
        dict(category, split=names[category['name']]) for category in content['categories'] if category['name'] in names
    ]
    missing = set(names) - {category['name'] for category in categories}
    if missing:
        raise UserKeyError(f'{source} has no class {min(missing)!r}; is it a file of COCO?')
    ids = {category['id'] for category in categories}
    annotations = [annotation for annotation in content['annotations'] if annotation['category_id'] in ids]
    shown = {annotation['image_id'] for annotation in annotations}
    images = [image for image in content['images'] if image['id'] in shown]
    return dict(content, images=images, annotations=annotations, categories=categories)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', type=Path, help='folder of COCO')
    args = parser.parse_args(argv)
    from mmdet.datasets.reading.coco_file import read_json
    from mmdet.datasets.reading.to_odvg import write_json

    seen = dict.fromkeys(SEEN.split(), 'seen')
    every = seen | dict.fromkeys(UNSEEN.split(), 'unseen')
    for split, names, kind in (('train', seen, 'seen'), ('val', every, 'all')):
        source = args.data_root / 'annotations' / f'instances_{split}2017.json'
        if not source.is_file():
            raise UserFileError(f'there is no {source}; data_root must be the folder of COCO')
        content, out = only(read_json(str(source)), names, source), source.with_name(f'{source.stem}_{kind}_2.json')
        write_json(out, content)
        print(f'{out}: {len(content["images"])} pictures, {len(content["categories"])} classes')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
