"""Parameters of a detector and the work of one forward pass."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import DictAction


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape', type=int, nargs='+', default=[800, 1333], metavar='PIXELS', help='height and width, or one side'
    )
    parser.add_argument('--num-images', type=int, default=0, help='mean over so many pictures of the val set instead')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    if len(args.shape) > 2 or min(args.shape) < 1:
        parser.error(f'--shape takes a height and a width, or one number, not {args.shape}')
    return args


def count(model, data):
    """Multiply-adds of the network by submodule, '' for all; box decoding and NMS are not part of it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    data = model.data_preprocessor(data)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)  # the counter looks for gradients of what modules are given, also of parameters
    with torch.no_grad(), FlopCounterMode(display=False, depth=1) as counter:
        model(**data, mode='tensor')
    for parameter in trained:
        parameter.requires_grad_(True)
    counts = {name: sum(kinds.values()) // 2 for name, kinds in counter.get_flop_counts().items()}
    result = {'': counts.pop('Global', 0)}
    root = type(model).__name__
    for name, value in counts.items():
        parents = name.split('.')[:-1]
        if name == root or any('.'.join(parents[:k]) in counts for k in range(2, len(parents) + 1)):
            continue  # counted with its parent; the parts count where a head's forward is called past the module
        child = name.split('.')[1] if parents else name
        result[child] = result.get(child, 0) + value
    return result


def random_picture(shape):
    import torch

    from mmdet.structures import DetDataSample

    height, width = shape * 2 if len(shape) == 1 else shape
    meta = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
    meta['batch_input_shape'] = meta['pad_shape'] = (height, width)
    picture = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return dict(inputs=[picture], data_samples=[DetDataSample(metainfo=meta)])


def pictures(cfg, number):
    from mmengine.dataset import pseudo_collate

    from mmdet.registry import DATASETS

    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    for index in range(min(number, len(dataset))):
        yield pseudo_collate([dataset[index]])


def main(args):
    from mmengine.registry import init_default_scope

    from mmdet.checks import load_with_options
    from mmdet.registry import MODELS

    cfg = load_with_options(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = MODELS.build(cfg.model).eval()
    data = pictures(cfg, args.num_images) if args.num_images else [random_picture(args.shape)]
    counts = [count(model, batch) for batch in data]
    mean = {name: sum(each.get(name, 0) for each in counts) / len(counts) for name in counts[0]}
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    what = f'{len(counts)} pictures of the val set' if args.num_images else 'x'.join(map(str, args.shape))
    print(f'input: {what}')
    print(f'{"":<20}{"multiply-adds":>16}{"parameters":>14}')
    for name, module in model.named_children():
        size = sum(p.numel() for p in module.parameters())
        if size or mean.get(name):
            print(f'{name:<20}{mean.get(name, 0) / 1e9:>14.2f} G{size / 1e6:>12.2f} M')
    print(f'{"all":<20}{mean[""] / 1e9:>14.2f} G{total / 1e6:>12.2f} M')
    print(f'parameters that are trained: {trained / 1e6:.2f} M')
    print('Multiply-adds of convolutions and matrix products; other publications often call these FLOPs.')
    return mean[''], total


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))
