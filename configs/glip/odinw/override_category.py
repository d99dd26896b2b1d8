"""Put the class names of ODinW that say nothing to a language model into words.

Three of the 35 data sets are read from ``new_annotations_without_background.json``, which this script writes beside the
original file: the categories keep their ids and take, in order of id, the names of ``odinw35.py``.

    python configs/glip/odinw/override_category.py --root data/odinw
"""

import argparse
import json
from pathlib import Path


def main():
    from mmengine.config import Config

    table = Path(__file__).resolve().parents[2] / '_base_' / 'datasets' / 'odinw35.py'
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path('data/odinw'))
    root = parser.parse_args().root
    for _, folder, split, classes in Config.fromfile(table).odinw_table:
        path = root / folder / split['ann_file']
        if not path.name.startswith('new_'):
            continue
        data = json.loads(path.with_name(path.name.removeprefix('new_')).read_text())
        categories = sorted(data['categories'], key=lambda category: category['id'])
        if len(categories) != len(classes):
            raise ValueError(f'{folder} has {len(categories)} categories, the config names {len(classes)}.')
        data['categories'] = [dict(category, name=name) for category, name in zip(categories, classes, strict=True)]
        path.write_text(json.dumps(data))


if __name__ == '__main__':
    main()
