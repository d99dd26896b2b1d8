"""Peak memory and CPU time of a training step of Mask2Former beside the number of points that masks are compared at.

Each number of points runs in a process of its own, whose greatest resident set is read before and after the step:

    python benchmarks/query_masks.py
    python benchmarks/query_masks.py --points 12544 --size 512 512 --objects 20
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import report
from many_objects import peak

CONFIG = Path(__file__).resolve().parents[1] / 'configs/mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'


def measure(points: int, batch: int, objects: int, height: int, width: int, config: str) -> dict:
    import torch
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs

    init_default_scope('mmdet')
    torch.manual_seed(0)
    cfg = Config.fromfile(config).model
    cfg.backbone.init_cfg = cfg.data_preprocessor.batch_augments = None
    cfg.train_cfg.num_points = points
    model = MODELS.build(cfg).train()
    shape = (3, height, width)
    data = demo_mm_inputs(batch, shape, num_items=[objects] * batch, num_classes=80, with_mask=True)
    data = model.data_preprocessor(data, True)
    before, start = peak(), time.process_time()
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    losses = peak()
    loss.backward()
    return dict(before=before, losses=losses, peak=peak(), seconds=time.process_time() - start, loss=loss.item())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=CONFIG)
    parser.add_argument('--points', type=int, nargs='+', default=[1024, 12544, 50176])
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--objects', type=int, default=7, help='in each picture')
    parser.add_argument('--size', type=int, nargs=2, default=[512, 512], metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--out', help='a JSON file for the results')
    parser.add_argument('--child', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        print(json.dumps(measure(args.child, args.batch, args.objects, *args.size, args.config)))
        return
    print(f'{args.batch} pictures of {args.size[0]}x{args.size[1]} with {args.objects} objects each')
    print(f'{"points":>8s} {"before":>9s} {"losses":>9s} {"peak":>9s} {"CPU s":>8s} {"loss":>8s}')
    rows = []
    options = ['--batch', args.batch, '--objects', args.objects, '--size', *args.size, '--config', args.config]
    for points in args.points:
        command = [sys.executable, __file__, '--child', str(points), *map(str, options)]
        result = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
        rows.append(report.row(f'Mask2Former: peak of a step with {points} points', result['peak'], 'GiB'))
        line = '{:8d} {before:8.2f}G {losses:8.2f}G {peak:8.2f}G {seconds:8.1f} {loss:8.2f}'
        print(line.format(points, **result), flush=True)
    report.save(args.out, rows)


if __name__ == '__main__':
    main()
