"""Peak memory of the losses of dense heads with thousands of objects in one picture.

Each head runs in a process of its own, whose greatest resident set is read before and after the loss:

    python benchmarks/many_objects.py
    python benchmarks/many_objects.py --heads ATSSHead --objects 3000 --limit 6 --backward
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import report

PYRAMID = [8, 16, 32, 64, 128]
STRIDES = [8, 16, 32]
COMMON = dict(num_classes=80, in_channels=64, feat_channels=64, stacked_convs=2)
ANCHOR = dict(type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=PYRAMID)
POINTS = dict(type='MlvlPointGenerator', offset=0, strides=STRIDES)
MAX_IOU = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1)
FOCAL = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)
QUALITY = dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0)
NEAREST = dict(type='ATSSAssigner', topk=9)
ALIGNED = dict(assigner=dict(type='TaskAlignedAssigner', topk=13), initial_assigner=NEAREST, alpha=1, beta=6)


def retina(**head) -> dict:
    return dict(COMMON, type='RetinaHead', loss_cls=FOCAL, train_cfg=dict(assigner=MAX_IOU), **head)


def fcos(**head) -> dict:
    return dict(COMMON, type='FCOSHead', strides=PYRAMID, **head)


def atss(assigner: dict, **head) -> dict:
    given = dict(type='ATSSHead', anchor_generator=ANCHOR, loss_cls=FOCAL, loss_bbox=dict(type='GIoULoss'))
    return {**COMMON, **given, 'train_cfg': dict(assigner=assigner), **head}


def rtmdet(**head) -> dict:
    distances = dict(type='DistancePointBBoxCoder')
    assigner = dict(type='DynamicSoftLabelAssigner', topk=13)
    return atss(assigner, anchor_generator=POINTS, bbox_coder=distances, loss_cls=QUALITY, **head)


def tood(initial_epoch: int) -> dict:
    losses = dict(initial_loss_cls=dict(FOCAL, activated=True), loss_cls=dict(QUALITY, activated=True))
    return atss({}, **losses, type='TOODHead', train_cfg=dict(ALIGNED, initial_epoch=initial_epoch))


HEADS = {
    'RetinaHead': retina(),
    'FCOSHead': fcos(),
    'FCOSHead center sampling': fcos(center_sampling=True),
    'ATSSHead': atss(NEAREST),
    'ATSSHead IoU': atss(MAX_IOU),
    'ATSSHead SSC': atss(dict(type='SpaceScaleAssigner')),
    'RTMDetHead': rtmdet(type='RTMDetHead'),
    'RTMDetSepBNHead': rtmdet(type='RTMDetSepBNHead', with_objectness=False),
    'YOLOXHead': dict(
        COMMON,
        type='YOLOXHead',
        strides=STRIDES,
        train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    ),
    'TOODHead': tood(0),
    'TOODHead initial epochs': tood(4),
}


def peak() -> float:
    """Greatest resident set of this process so far, in GiB."""
    status = Path('/proc/self/status')
    if status.exists():  # that of the rusage is at least what the parent held when it started this process
        return int(status.read_text().partition('VmHWM:')[2].split()[0]) / 1024**2
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return rss / 1024**3 if sys.platform == 'darwin' else rss / 1024**2


def measure(name: str, objects: int, height: int, width: int, backward: bool) -> dict:
    import torch
    from mmengine.config import ConfigDict
    from mmengine.registry import init_default_scope
    from mmengine.structures import InstanceData

    from mmdet.registry import MODELS

    init_default_scope('mmdet')
    torch.manual_seed(0)
    head = MODELS.build(ConfigDict(HEADS[name]))
    padded = [-(-side // 32) * 32 for side in (height, width)]
    strides = [max(stride) for stride in head.prior_generator.strides]
    features = [torch.randn(1, head.in_channels, *(-(-side // s) for side in padded)) for s in strides]
    with torch.no_grad():
        outs = [[level.requires_grad_() for level in output] for output in head(features)]
    center = torch.rand(objects, 2) * torch.tensor([width, height])
    half = torch.rand(objects, 2) * 60 + 4
    low, high = (center - half).clamp(min=0), torch.minimum(center + half, torch.tensor([width, height]))
    gt = InstanceData(bboxes=torch.cat([low, high], 1), labels=torch.randint(0, 80, (objects,)))
    meta = dict(img_shape=(height, width), pad_shape=tuple(padded), batch_input_shape=tuple(padded))
    before, start = peak(), time.perf_counter()
    losses = head.loss_by_feat(*outs, [gt], [meta], [None])
    total = sum(sum(v) if isinstance(v, list) else v for v in losses.values())
    if backward:
        total.backward()
    return dict(before=before, peak=peak(), seconds=time.perf_counter() - start, loss=total.item())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--heads', nargs='+', default=list(HEADS), choices=list(HEADS), metavar='NAME')
    parser.add_argument('--objects', type=int, default=3000)
    parser.add_argument('--size', type=int, nargs=2, default=[800, 1333], metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--backward', action='store_true', help='include the backward pass')
    parser.add_argument('--limit', type=float, help='fail where the peak is above so many GiB')
    parser.add_argument('--out', help='a JSON file for the results')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.child, args.objects, *args.size, args.backward)))
        return
    print(f'{args.objects} objects in {args.size[0]}x{args.size[1]}')
    print(f'{"head":26s} {"before":>8s} {"peak":>8s} {"seconds":>8s} {"loss":>8s}')
    options = ['--objects', str(args.objects), '--size', *map(str, args.size), *['--backward'] * args.backward]
    worst, rows = 0.0, []
    for name in args.heads:
        output = subprocess.check_output([sys.executable, __file__, '--child', name, *options], text=True)
        result = json.loads(output.splitlines()[-1])
        worst = max(worst, result['peak'])
        rows.append(report.row(f'{name}: peak with {args.objects} boxes', result['peak'], 'GiB'))
        print('{:26s} {before:7.2f}G {peak:7.2f}G {seconds:8.1f} {loss:8.3f}'.format(name, **result), flush=True)
    report.save(args.out, rows)
    if args.limit is not None and worst > args.limit:
        sys.exit(f'peak of {worst:.2f} GiB is above {args.limit} GiB')


if __name__ == '__main__':
    main()
