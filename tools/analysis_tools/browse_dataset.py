"""Show or write the training pictures of a config with their annotations, as the pipeline makes them."""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import DictAction

SPLITS = ('train', 'val', 'test')


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--output-dir', type=Path, help='folder to write the pictures to')
    parser.add_argument('--not-show', action='store_true', help='open no window')
    parser.add_argument('--show-interval', type=float, default=2, help='seconds that a picture stays')
    parser.add_argument('--split', default='train', choices=SPLITS, help='which dataloader of the config (train)')
    parser.add_argument('--limit', type=int, help='stop after so many pictures')
    parser.add_argument('--seed', type=int, help='seed of the augmentations')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def packed_samples(sample):
    """(name, image, data sample) of what a pipeline packs: one, or one for each branch."""
    inputs, data_sample = sample['inputs'], sample['data_samples']
    if not isinstance(inputs, dict):
        return [('', inputs, data_sample)]
    return [(f'_{branch}', inputs[branch], data_sample[branch]) for branch in inputs if inputs[branch] is not None]


def to_rgb(image):
    """(C, H, W) BGR tensor of a pipeline -> (H, W, 3) RGB uint8 array."""
    image = image.permute(1, 2, 0).numpy()
    image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., 2::-1]
    return np.ascontiguousarray(image).clip(0, 255).astype(np.uint8)


def browse(dataset, visualizer, output_dir=None, show=False, show_interval=2.0, limit=None):
    """Draw the samples of a dataset; returns how many."""
    from mmdet.datasets.walk import locate
    from mmdet.visualization import LoadedPictures

    names, drawn = LoadedPictures(dataset).names, Counter()
    count = len(dataset) if limit is None else min(limit, len(dataset))
    for index in range(count):
        visualizer.dataset_meta = locate(dataset, index)[0].metainfo
        for suffix, image, data_sample in packed_samples(dataset[index]):
            path = data_sample.metainfo.get('img_path') or f'{index}.jpg'
            path = path[0] if isinstance(path, (list, tuple)) else path
            drawn[path, suffix] += 1
            again = f'_{drawn[path, suffix]}' if drawn[path, suffix] > 1 else ''  # a repeated data set
            name = names(path, f'{suffix}{again}')
            visualizer.add_datasample(
                name,
                to_rgb(image),
                data_sample,
                draw_pred=False,
                show=show,
                wait_time=show_interval,
                out_file=None if output_dir is None else str(Path(output_dir) / name),
            )
    return count


def main(argv=None):
    args = parse_args(argv)
    from mmdet.visualization.window import require_place

    require_place(args.not_show, args.output_dir)
    from mmengine.registry import init_default_scope

    from mmdet.apis.offline import dataset_of
    from mmdet.checks import load_with_options
    from mmdet.registry import VISUALIZERS
    from mmdet.utils.randomness import seed_all

    cfg = load_with_options(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if args.seed is not None:
        seed_all(args.seed)
    if cfg.get(f'{args.split}_dataloader') is None:
        sys.exit(f'error: {args.config} has no {args.split}_dataloader')
    visualizer = VISUALIZERS.build({'name': 'browse', **(cfg.get('visualizer') or dict(type='DetLocalVisualizer'))})
    dataset = dataset_of(cfg, f'{args.split}_dataloader')
    count = browse(dataset, visualizer, args.output_dir, not args.not_show, args.show_interval, args.limit)
    print(f'{count} of {len(dataset)} pictures' + (f' in {args.output_dir}' if args.output_dir else ''))


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
