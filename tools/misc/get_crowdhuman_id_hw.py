"""Write the height and width of each picture of CrowdHuman, so that the data set need not open them all.

    python tools/misc/get_crowdhuman_id_hw.py configs/crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman.py \\
        --dataset val

The file is id_hw_train.json or id_hw_val.json beside the annotation file, where CrowdHumanDataset looks for it.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import DictAction


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config whose dataset is CrowdHumanDataset')
    parser.add_argument('--dataset', choices=['train', 'val'], required=True, help='which of its datasets')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='as in train.py')
    args = parser.parse_args(argv)
    from mmengine.registry import init_default_scope

    from mmdet.config import load_config
    from mmdet.registry import DATASETS

    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    config = cfg[f'{args.dataset}_dataloader'].dataset
    config.update(test_mode=True, pipeline=[], extra_ann_file=os.devnull)  # all pictures, and no sizes of before
    dataset = DATASETS.build(config)
    sizes = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        sizes[info['img_id']] = [info['height'], info['width']]
    out = Path(dataset.ann_file).parent / f'id_hw_{args.dataset}.json'
    temporary = out.with_name(f'.{out.name}.{os.getpid()}')
    temporary.write_text(json.dumps(sizes))
    os.replace(temporary, out)
    print(f'{out}: {len(sizes)} pictures')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
