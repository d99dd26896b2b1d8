"""Write mmdet/zoo/manifest.json: the published weights of our configs, for their names on the command line.

    python tools/misc/weights_manifest.py --zoo model_zoo.json

The record of the models of MMDetection 3.x gives address and results, docs/catalogue.json the number of parameters. Of
the SHA-256 as much is known as the names of files carry. HUB has what lies on the Hugging Face hub.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.utils.downloads import digest_in_name, file_name

ROOT = Path(__file__).resolve().parents[2]
CONFIGS, FACTS = ROOT / 'configs', ROOT / 'docs' / 'catalogue.json'
MANIFEST = ROOT / 'mmdet' / 'zoo' / 'manifest.json'
LICENCE = 'Apache-2.0'  # of MMDetection's models, and of each of these
HUB = {
    'detr/detr_r50_8xb2-150e_coco.py': 'hf://facebook/detr-resnet-50',
    'conditional_detr/conditional-detr_r50_8xb2-50e_coco.py': 'hf://microsoft/conditional-detr-resnet-50',
    'dab_detr/dab-detr_r50_8xb2-50e_coco.py': 'hf://IDEA-Research/dab-detr-resnet-50',
    'rtdetr/rtdetr_r18vd_4xb4-72e_coco.py': 'hf://PekingU/rtdetr_r18vd',
    'rtdetr/rtdetr_r50vd_4xb4-72e_coco.py': 'hf://PekingU/rtdetr_r50vd',
    'lwdetr/lwdetr_small_8xb4-60e_coco.py': 'hf://AnnaZhang/lwdetr_small_60e_coco',
    'rfdetr/rfdetr_base_8xb2-60e_coco.py': 'hf://Roboflow/rf-detr-base',
    'dfine/dfine_hgnetv2-x_4xb4-74e_coco.py': 'hf://ustc-community/dfine-xlarge-coco',
}


def rows(zoo: dict, facts: dict) -> list[dict]:
    """The entries, by name; a model of the record comes before one of the hub."""
    urls = {config: url for config, url in HUB.items() if (CONFIGS / config).is_file()}
    for model in zoo['models']:
        config = model['config'].replace('%2B', '+')
        config = config if '/' in config else f'{model["family"]}/{config}'
        if isinstance(model.get('weights'), str) and (CONFIGS / config).is_file():
            urls[config] = model['weights']
    found = {}
    for config, url in sorted(urls.items()):
        measured = facts['measured'].get(config)
        found[Path(config).stem] = dict(
            name=Path(config).stem,
            config=config,
            url=url,
            sha256='' if url.startswith('hf://') else digest_in_name(file_name(url)) or '',
            parameters=measured and measured[0],
            licence=LICENCE,
            results=facts['published'].get(config, {}),
        )
    return [found[name] for name in sorted(found)]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--zoo', required=True, type=Path, help='record of the published models')
    parser.add_argument('--out', type=Path, default=MANIFEST, help='file to write')
    args = parser.parse_args(argv)
    found = rows(json.loads(args.zoo.read_text()), json.loads(FACTS.read_text()))
    args.out.write_text('[\n' + ',\n'.join(json.dumps(row) for row in found) + '\n]\n', encoding='utf-8')
    print(f'{args.out}: {len(found)} models')


if __name__ == '__main__':
    main()
