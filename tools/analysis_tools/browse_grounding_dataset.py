"""Show or write the training pictures of a config with boxes and prompts, as the pipeline makes them.

    python tools/analysis_tools/browse_grounding_dataset.py CONFIG --not-show -o browse

Each box has the words of the prompt that it is to be found by; of a prompt of classes those that are not in the picture
are plain.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import DictAction


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('-o', '--output-dir', type=Path, help='folder to write the pictures to')
    parser.add_argument('--not-show', action='store_true', help='open no window')
    parser.add_argument('-n', '--show-num', type=int, default=30, help='stop after so many pictures (30)')
    parser.add_argument('-i', '--show-interval', type=float, default=0, help='seconds that a picture stays')
    parser.add_argument('-r', '--shuffle', action='store_true', help='pictures by chance')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def drawn(visualizer, sample):
    """A packed sample, RGB."""
    import numpy as np

    from mmdet.visualization.caption import draw_grounded

    image = sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
    image = np.ascontiguousarray(image).clip(0, 255).astype(np.uint8)
    shown = sample['data_samples']
    if isinstance(shown.get('text'), str) and shown.get('tokens_positive') is not None:
        return draw_grounded(visualizer, image, shown)
    return visualizer.draw_datasample(image, shown, draw_pred=False)


def main(argv=None):
    args = parse_args(argv)
    if args.output_dir is None and args.not_show:
        sys.exit('error: without --output-dir, --not-show leaves nothing to do')
    if not args.not_show:
        from mmdet.visualization.window import require_display

        require_display('--not-show --output-dir DIR writes the pictures to a folder')
    import random

    from mmengine.registry import init_default_scope

    from mmdet.apis.offline import dataset_of
    from mmdet.checks import load_with_options
    from mmdet.datasets.walk import locate
    from mmdet.visualization import DetLocalVisualizer
    from mmdet.visualization.sheet import write_image

    cfg = load_with_options(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = dataset_of(cfg, 'train_dataloader')
    chosen = list(range(len(dataset)))
    if args.shuffle:
        random.shuffle(chosen)
    visualizer = DetLocalVisualizer(name='browse')
    for index in chosen[: args.show_num]:
        visualizer.dataset_meta = locate(dataset, index)[0].metainfo
        sample = dataset[index]
        name = f'{index:06}_{Path(sample["data_samples"].img_path).name}'
        image = drawn(visualizer, sample)
        if args.output_dir is not None:
            write_image(image, args.output_dir / name)
        if not args.not_show:
            visualizer.show(image, win_name=name, wait_time=args.show_interval)
    print(f'{len(chosen[: args.show_num])} of {len(dataset)} pictures')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
