"""Find the sizes of anchors that fit the boxes of a data set, for detectors with YOLOAnchorGenerator.

python tools/analysis_tools/optimize_anchors.py CONFIG --algorithm k-means --input-shape 608 608 --output-dir out
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import DictAction
from mmdet.apis.conversion import run
from mmdet.errors import UserValueError


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--device', default='cpu', help='taken as in MMDetection 3.x; all is computed on the CPU')
    parser.add_argument('--input-shape', type=int, nargs='+', default=[608, 608], help='width and height, or one side')
    parser.add_argument('--algorithm', choices=['k-means', 'differential_evolution'], default='differential_evolution')
    parser.add_argument('--iters', type=int, default=1000, help='iterations at most')
    parser.add_argument('--output-dir', type=Path, help='folder for anchor_optimize_result.json')
    parser.add_argument('--seed', type=int, default=0, help='of the first anchors')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    if len(args.input_shape) > 2 or min(args.input_shape) < 1:
        parser.error(f'--input-shape takes a width and a height, or one number, not {args.input_shape}')
    return args


def overlaps(sizes, anchors):
    """IoU (N, A) of boxes (N, 2) and anchors (A, 2) that share their centre."""
    common = np.minimum(sizes[:, None], anchors[None]).prod(-1)
    return common / (sizes.prod(-1)[:, None] + anchors.prod(-1)[None] - common)


def fit(sizes, anchors):
    """The mean over boxes of the IoU with the best anchor."""
    return float(overlaps(sizes, anchors).max(1).mean())


def k_means(sizes, count, iters, seed=0):
    """Anchors (A, 2): means of the boxes that they overlap most (YOLOv2, arXiv:1612.08242, Sec. 2)."""
    rng = np.random.default_rng(seed)
    anchors = sizes[rng.choice(len(sizes), count, replace=len(sizes) < count)].astype(np.float64)
    nearest = None
    for _ in range(iters):
        found = overlaps(sizes, anchors).argmax(1)
        if nearest is not None and (found == nearest).all():
            break
        nearest = found
        for index in range(count):
            mine = sizes[found == index]
            anchors[index] = mine.mean(0) if len(mine) else sizes[rng.integers(len(sizes))]
    return anchors


def differential_evolution(sizes, count, iters, input_shape, seed=0):
    """Anchors (A, 2) by differential evolution of their mean best IoU."""
    from scipy import optimize

    found = optimize.differential_evolution(
        lambda values: 1 - fit(sizes, values.reshape(-1, 2)),
        bounds=[(1, input_shape[0]), (1, input_shape[1])] * count,
        strategy='best1bin',
        maxiter=iters,
        updating='immediate',
        rng=np.random.default_rng(seed),
    )
    return found.x.reshape(-1, 2)


def box_sizes(dataset, input_shape):
    """Width and height (N, 2) of all boxes when their pictures are made to fit into ``input_shape``."""
    from mmdet.datasets.walk import data_info

    sizes = []
    for index in range(len(dataset)):
        info = data_info(dataset, index)
        scale = min(input_shape[0] / info['width'], input_shape[1] / info['height'])
        for entry in info['instances']:
            x1, y1, x2, y2 = entry['bbox']
            if not entry.get('ignore_flag', 0) and x2 > x1 and y2 > y1:
                sizes.append(((x2 - x1) * scale, (y2 - y1) * scale))
    if not sizes:
        raise UserValueError('the data set has no boxes')
    return np.array(sizes)


def main(argv=None):
    args = parse_args(argv)
    from mmengine.registry import init_default_scope

    from mmdet.apis.offline import dataset_of
    from mmdet.checks import load_with_options

    cfg = load_with_options(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    generator = cfg.model.get('bbox_head', {}).get('anchor_generator', {})
    if 'base_sizes' not in generator:
        raise UserValueError(
            f'{args.config} has no model.bbox_head.anchor_generator.base_sizes, as YOLOAnchorGenerator has them: '
            f'its anchors are of {generator.get("type", "no generator")}'
        )
    levels = [len(level) for level in generator['base_sizes']]
    width, height = args.input_shape * 2 if len(args.input_shape) == 1 else args.input_shape
    sizes = box_sizes(dataset_of(cfg, 'train_dataloader', test_mode=True), (width, height))
    before = np.array([size for level in generator['base_sizes'] for size in level], dtype=np.float64)
    if args.algorithm == 'k-means':
        anchors = k_means(sizes, sum(levels), args.iters, args.seed)
    else:
        anchors = differential_evolution(sizes, sum(levels), args.iters, (width, height), args.seed)
    anchors = anchors[np.argsort(anchors.prod(1))]
    rounded = [[max(round(w), 1), max(round(h), 1)] for w, h in anchors]
    print(f'{len(sizes)} boxes; mean best IoU {fit(sizes, before):.3f} before, {fit(sizes, anchors):.3f} now')
    by_level, rest = [], [tuple(size) for size in rounded]
    for count in levels:  # the first level is the coarsest
        by_level.append(rest[-count:])
        rest = rest[:-count]
    print(f'base_sizes={by_level}')
    if args.output_dir is not None:
        args.output_dir.mkdir(parents=True, exist_ok=True)
        out = args.output_dir / 'anchor_optimize_result.json'
        out.write_text(json.dumps(rounded))
        print(f'The anchors are in {out}')
    return rounded


if __name__ == '__main__':
    run(main)
