"""How far a reader travels through the package to follow one loss and one prediction of a detector.

The heads run on features that are ready: backbone, neck and everything that is made once are left out, and so is what
happens in other packages. Counted are the files entered, the functions, the different lines executed, and the moves:
how often two consecutively executed lines lie in different files.

    python benchmarks/reading_path.py configs/retinanet/retinanet_r50_fpn_1x_coco.py
    python benchmarks/reading_path.py configs/mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py --walk loss

Weights are random and detections of any score are kept, so nothing is downloaded. ``--walk`` prints the way itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument('--size', nargs=2, type=int, default=[256, 320], metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--boxes', type=int, default=5, help='ground truths of each image')
    parser.add_argument('--json', action='store_true', help='print the counts as JSON instead of a table')
    parser.add_argument('--walk', choices=['loss', 'predict'], help='print every stay in a file, with its functions')
    return parser.parse_args()


def build(config: str):
    """The detector of a config, with random weights."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mmdet.registry import MODELS

    init_default_scope('mmdet')
    cfg = Config.fromfile(config).model
    for part in (cfg.test_cfg, cfg.test_cfg.get('rcnn')):
        if part is not None and 'score_thr' in part:
            part.score_thr = 0.0
    torch.manual_seed(0)
    return MODELS.build(cfg)


def make_batch(args: argparse.Namespace):
    """Images and samples with boxes, masks and a semantic map; every object has class 0, which all detectors know."""
    import numpy as np
    import torch
    from mmengine.structures import InstanceData, PixelData

    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    height, width = args.size
    generator = torch.Generator().manual_seed(0)
    samples = []
    for i in range(args.batch):
        shape = dict(img_shape=(height, width), ori_shape=(height, width), pad_shape=(height, width))
        meta = dict(img_id=i, scale_factor=(1.0, 1.0), batch_input_shape=(height, width), **shape)
        sample = DetDataSample(metainfo=meta)
        low = torch.rand(args.boxes, 2, generator=generator) * torch.tensor([width, height]) * 0.5
        boxes = torch.cat([low, low + torch.tensor([width, height]) * 0.3], 1)
        masks = np.zeros((args.boxes, height, width), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
            mask[y1:y2, x1:x2] = 1
        labels = torch.zeros(args.boxes, dtype=torch.long)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=BitmapMasks(masks, height, width))
        sample.gt_sem_seg = PixelData(sem_seg=torch.zeros(1, height, width, dtype=torch.long))
        samples.append(sample)
    return torch.randn(args.batch, 3, height, width, generator=generator), samples


def trace(function: Callable) -> list[tuple[str, str, int]]:
    """File, function and number of each line of the package that ``function`` executes, in order."""
    import mmdet

    root = str(Path(mmdet.__file__).parent) + '/'
    lines = []

    def enter(frame, event, arg):
        return step if frame.f_code.co_filename.startswith(root) else None

    def step(frame, event, arg):
        if event == 'line':
            code = frame.f_code
            lines.append((code.co_filename.removeprefix(root), code.co_qualname, frame.f_lineno))
        return step

    sys.settrace(enter)
    try:
        function()
    finally:
        sys.settrace(None)
    return lines


def stays(lines: list[tuple[str, str, int]]) -> list[tuple[str, list[str]]]:
    """Each stay in one file, with the functions that were passed."""
    found: list[tuple[str, list[str]]] = []
    for file, function, _ in lines:
        if not found or found[-1][0] != file:
            found.append((file, []))
        if function not in found[-1][1]:
            found[-1][1].append(function)
    return found


def count(lines: list[tuple[str, str, int]]) -> dict[str, int]:
    return dict(
        files=len({file for file, _, _ in lines}),
        functions=len({(file, function) for file, function, _ in lines}),
        lines=len({(file, line) for file, _, line in lines}),
        moves=len(stays(lines)) - 1,
    )


def walk_through(config: str, args: argparse.Namespace) -> dict[str, list[tuple[str, str, int]]]:
    """The lines of one loss and of one prediction."""
    import torch

    model = build(config)
    inputs, samples = make_batch(args)
    with torch.no_grad():
        features = model.eval().extract_feat(inputs)
    model.extract_feat = lambda *_, **__: features
    steps = {}
    for name in ('loss', 'predict'):
        model.train(name == 'loss')
        with torch.set_grad_enabled(name == 'loss'):
            getattr(model, name)(inputs, samples)  # what is made once is made here
            steps[name] = trace(lambda name=name: getattr(model, name)(inputs, samples))
    return steps


def main() -> None:
    args = parse_args()
    report = []
    for config in args.configs:
        steps = walk_through(config, args)
        if args.walk:
            for file, functions in stays(steps[args.walk]):
                print(f'{file}: {", ".join(functions)}')
        report += [dict(config=Path(config).stem, step=step, **count(lines)) for step, lines in steps.items()]
    if args.json:
        print(json.dumps(report, indent=1))
        return
    width = max(len(row['config']) for row in report)
    print(
        f'{"config":{width}}  {"step":8}' + ''.join(f'{name:>10}' for name in ('files', 'functions', 'lines', 'moves'))
    )
    for row in report:
        counts = ''.join(f'{row[name]:>10}' for name in ('files', 'functions', 'lines', 'moves'))
        print(f'{row["config"]:{width}}  {row["step"]:8}{counts}')


if __name__ == '__main__':
    main()
