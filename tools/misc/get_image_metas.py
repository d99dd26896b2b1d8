"""Write the name and the size of each picture of a data set, as OpenImagesDataset takes them by its meta_file.

python tools/misc/get_image_metas.py CONFIG --dataset val --out validation-image-metas.pkl
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import DictAction
from mmdet.apis.conversion import run


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--dataset', choices=['train', 'val', 'test'], default='val', help='of which loader')
    parser.add_argument('--out', type=Path, default=Path('validation-image-metas.pkl'), help='file to write, .pkl')
    parser.add_argument('--nproc', type=int, default=4, help='files that are read side by side')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def picture_names(dataset):
    """Each picture's path, and the name by which annotation files know it."""
    from mmdet.datasets import walk

    found = {}
    for leaf in walk.leaves(dataset):
        root = os.path.join((leaf.data_prefix or {}).get('img') or '', '')
        for index in range(len(leaf)):
            path = leaf.get_data_info(index)['img_path']
            found[path] = path.removeprefix(root)
    return found


def main(argv=None):
    args = parse_args(argv)
    from concurrent.futures import ThreadPoolExecutor

    from mmengine.fileio import dump
    from mmengine.registry import init_default_scope

    from mmdet.apis.offline import dataset_of
    from mmdet.checks import load_with_options
    from mmdet.config import innermost_datasets
    from mmdet.utils.pictures import picture_size

    cfg = load_with_options(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    for _, dataset in innermost_datasets(cfg, f'{args.dataset}_dataloader'):
        dataset['pipeline'] = []
        if 'meta_file' in dataset:
            dataset['meta_file'] = ''
    names = picture_names(dataset_of(cfg, f'{args.dataset}_dataloader', test_mode=True))
    with ThreadPoolExecutor(max(args.nproc, 1)) as pool:
        sizes = list(pool.map(picture_size, names))
    metas = [dict(filename=name, ori_shape=(h, w, 3)) for name, (w, h) in zip(names.values(), sizes)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    dump(metas, str(args.out))
    print(f'{args.out}: {len(metas)} pictures')


if __name__ == '__main__':
    run(main)
