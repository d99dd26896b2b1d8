"""Mask targets and losses of SOLOv2, CondInst and RTMDet-Ins beside a loop over images and objects.

The outputs of the heads are random tensors that require a gradient, so no network is timed. The loop follows the same
rule one object at a time, as the papers tell it: which cells or points learn its mask, the target by its bitmap, the
convolution that makes the mask, the loss. Losses and gradients of both must agree; they take turns in one process. Peak
memory is that of a process of its own for each side, and of one for a picture with a crowd.

    python benchmarks/dense_masks.py
    python benchmarks/dense_masks.py --heads CondInst --batch 4 --objects 7 --size 256 256 --crowd 0
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from types import SimpleNamespace

import report
import two_sides
from many_objects import peak

CLASSES = 80
STRIDES = [8, 16, 32, 64, 128]
DICE = dict(type='DiceLoss', use_sigmoid=True, loss_weight=1.0, eps=5e-6)
FEATURES = dict(in_channels=8, feat_channels=8, start_level=0, end_level=2, out_channels=8, mask_stride=8)
SOLO = dict(
    type='SOLOV2Head',
    num_classes=CLASSES,
    in_channels=8,
    feat_channels=32,
    strides=[8, 8, 16, 32, 32],
    scale_ranges=((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
    num_grids=[40, 36, 24, 16, 12],
    mask_feature_head=dict(FEATURES, out_channels=256, mask_stride=4, norm_cfg=None),
)
HEADS = {
    'SOLOv2': SOLO,
    'CondInst': dict(type='CondInstMaskHead', mask_feature_head=FEATURES, max_masks_to_train=300, loss_mask=DICE),
    'RTMDet-Ins': dict(
        type='RTMDetInsSepBNHead',
        num_classes=CLASSES,
        in_channels=8,
        feat_channels=8,
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=STRIDES[:3]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_mask=DICE,
    ),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--heads', nargs='+', default=list(HEADS), choices=list(HEADS), metavar='NAME')
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--objects', type=int, default=20, help='in each picture')
    parser.add_argument('--size', nargs=2, type=int, default=[512, 512], metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--crowd', type=int, default=300, help='objects of one picture whose memory is measured too')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=3, help='timed turns of each, after one for warm-up')
    parser.add_argument('--out', help='a JSON file for the results')
    parser.add_argument('--child', choices=['batched', 'loop'], help=argparse.SUPPRESS)
    return parser.parse_args()


# The case: objects and outputs.


def make_objects(args: argparse.Namespace, counts) -> list:
    """Boxes, labels and elliptic masks for each picture; the masks packed, as a data loader hands them on."""
    import numpy as np
    import torch
    from mmengine.structures import InstanceData

    from mmdet.structures.mask import BitmapMasks

    height, width = args.size
    y, x = np.ogrid[:height, :width]
    pictures = []
    for count in counts:
        center = torch.rand(count, 2) * torch.tensor([width, height])
        half = torch.exp(torch.rand(count, 2) * 2.5 + 2.0)
        low, high = (center - half).clamp(min=0), torch.minimum(center + half, torch.tensor([width, height]))
        boxes = torch.cat([low, high], 1)
        bitmaps = [
            ((x + 0.5 - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((y + 0.5 - (y1 + y2) / 2) / (y2 - y1)) ** 2 <= 0.25
            for x1, y1, x2, y2 in boxes.tolist()
        ]
        masks = BitmapMasks(np.array(bitmaps, np.uint8).reshape(-1, height, width), height, width)
        picture = InstanceData(bboxes=boxes.to(args.device), labels=torch.randint(CLASSES, (count,)).to(args.device))
        picture.masks, picture.bitmaps = masks.packed(), torch.from_numpy(masks.masks).to(args.device)
        pictures.append(picture)
    return pictures


def points_of(args: argparse.Namespace, strides, offset: float):
    """Points of all levels ``(P, 2)`` and their strides ``(P,)``."""
    import torch

    points, every = [], []
    for stride in strides:
        y, x = torch.meshgrid(*((torch.arange(side // stride) + offset) * stride for side in args.size), indexing='ij')
        points.append(torch.stack([x, y], -1).flatten(0, 1).float())
        every.append(torch.full((len(points[-1]),), float(stride)))
    return torch.cat(points).to(args.device), torch.cat(every).to(args.device)


def owners_of(points, strides, picture, levels):
    """0-based object of each point that learns one, else -1: those near its centre, on the level of its size."""
    import torch

    owners = torch.full((len(points),), -1, device=points.device)
    for i, box in enumerate(picture.bboxes):
        side = (box[2:] - box[:2]).max().item()
        stride = next((s for s in levels if side <= 8 * s), levels[-1])
        near = (points - (box[:2] + box[2:]) / 2).abs().amax(1) < 1.6 * stride
        owners[near & (strides == stride)] = i
    return owners


def make_case(name: str, args: argparse.Namespace, counts) -> SimpleNamespace:
    """The head, its random outputs as ``leaves``, and the objects of each picture."""
    import torch
    from mmengine.config import ConfigDict

    from mmdet.registry import MODELS

    torch.manual_seed(0)
    head = MODELS.build(ConfigDict(HEADS[name])).to(args.device).train()
    pictures, batch = make_objects(args, counts), len(counts)
    leaf = lambda *shape, shift=0.0: (torch.randn(shape, device=args.device) * 0.5 + shift).requires_grad_()
    height, width = args.size
    if name == 'SOLOv2':
        grids = head.num_grids
        kernels = [leaf(batch, 256, n, n) for n in grids]
        scores = [leaf(batch, CLASSES, n, n, shift=-4.0) for n in grids]
        feats = leaf(batch, 256, height // 4, width // 4)
        return SimpleNamespace(head=head, pictures=pictures, leaves=[*kernels, *scores, feats])
    levels = STRIDES if name == 'CondInst' else STRIDES[:3]
    points, strides = points_of(args, levels, 0.5 if name == 'CondInst' else 0.0)
    owners = torch.stack([owners_of(points, strides, picture, levels) for picture in pictures])
    leaves = [leaf(batch, 8, height // 8, width // 8), leaf(batch, len(points), 169)]
    return SimpleNamespace(
        head=head, pictures=pictures, leaves=leaves, points=points, strides=strides, owners=owners, size=args.size
    )


# Ours.


def batched(name: str, case: SimpleNamespace) -> dict:
    import torch

    from mmdet.models.core import Slots
    from mmdet.structures import DetDataSample

    if name == 'SOLOv2':
        count = len(case.head.num_grids)
        outs = case.leaves[:count], case.leaves[count : 2 * count], case.leaves[-1]
        return case.head.loss_by_feat(*outs, case.pictures, [{} for _ in case.pictures])
    feats, params = case.leaves
    if name == 'RTMDet-Ins':
        priors = torch.cat([case.points, case.strides[:, None].expand(-1, 2)], 1)
        samples = []
        for owners in case.owners:
            inds = (owners >= 0).nonzero()[:, 0]
            samples.append(SimpleNamespace(pos_inds=inds, pos_assigned_gt_inds=owners[inds], pos_priors=priors[inds]))
        return dict(loss_mask=case.head.loss_mask_by_feat(feats, params, samples, case.pictures))
    size = case.owners.shape
    infos = dict(
        param_preds=params,
        points=case.points.expand(*size, 2),
        strides=case.strides.expand(size),
        pos_assigned_gt_inds=case.owners.clamp(min=0),
    )
    case.head.mask_feature_head = torch.nn.Identity()
    samples = [DetDataSample(gt_instances=picture, metainfo={}) for picture in case.pictures]
    return case.head.loss(feats, samples, positive_infos=Slots(infos, case.owners >= 0))


# The loop. Its parts use torch alone, so that no change of the package moves both sides.


def dice(logits, target, eps: float):
    """Losses ``(n,)`` of logits ``(n, h, w)`` against one target ``(h, w)``."""
    found = logits.sigmoid().flatten(1)
    target = target.flatten().to(found)
    both = (found * target).sum(1)
    return 1 - 2 * both / (found.square().sum(1) + target.square().sum() + 2 * eps)


def cells_of(box, bitmap, scale_range, count: int, shape):
    """Cells of a grid whose centre region holds the object's centre of mass (SOLO, Sec. 3.3.1), if it fits its size."""
    import torch

    low, high = scale_range
    side = (box[2:] - box[:2]).prod().sqrt()
    if not low <= side <= high or not bitmap.any():
        return []
    y, x = bitmap.nonzero().double().mean(0).float()
    half_w, half_h = (box[2:] - box[:2]) * 0.5 * 0.2
    ranges = []
    for place, half, extent in ((y, half_h, shape[0]), (x, half_w, shape[1])):
        cell = lambda at, extent=extent: int((at / extent) // torch.tensor(1 / count))
        first, last, middle = max(0, cell(place - half)), min(count - 1, cell(place + half)), cell(place)
        ranges.append(range(max(first, middle - 1), min(last, middle + 1) + 1))
    return [row * count + column for row in ranges[0] for column in ranges[1]]


def focal_sum(logits, labels):
    import torch.nn.functional as F

    target = F.one_hot(labels, CLASSES + 1)[:, :-1].to(logits.dtype)
    probability = logits.sigmoid()
    miss = (1 - probability) * target + probability * (1 - target)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
    return (loss * (0.25 * target + 0.75 * (1 - target)) * miss.pow(2)).sum()


def loop_solov2(case: SimpleNamespace) -> dict:
    import torch
    import torch.nn.functional as F

    head = case.head
    count = len(head.num_grids)
    kernels, scores, feats = case.leaves[:count], case.leaves[count : 2 * count], case.leaves[-1]
    size = feats.shape[2:]
    shape = size[0] * 4, size[1] * 4
    masks = sum(level.sum() for level in kernels) * 0  # so that each level has a gradient
    classes, learned = 0.0, 0
    images = [
        level.flatten(2).transpose(1, 2).unbind() for level in (*kernels, *scores)
    ]  # so that no picture's gradient
    for picture, maps, *rows in zip(case.pictures, feats.unbind(), *images):  # has the size of the batch
        labels = [torch.full((n * n,), CLASSES, device=feats.device) for n in head.num_grids]
        for box, label, bitmap in zip(picture.bboxes, picture.labels, picture.bitmaps):
            target = None
            for level, (n, scales) in enumerate(zip(head.num_grids, head.scale_ranges)):
                cells = cells_of(box, bitmap, scales, n, shape)
                if not cells:
                    continue
                labels[level][cells] = label
                if target is None:
                    target = F.interpolate(bitmap[None, None].float(), size, mode='bilinear')[0, 0] >= 0.5
                logits = F.conv2d(maps[None], rows[level][cells][..., None, None])[0]
                masks = masks + 3 * dice(logits, target, 1e-3).sum()
        for level, grid in enumerate(labels):
            classes = classes + focal_sum(rows[count + level], grid)
            learned += int((grid < CLASSES).sum())
    return dict(loss_mask=masks / max(learned, 1), loss_cls=classes / (learned + 1))


def dynamic_masks(feats, params, points, reach, places):
    """Logits ``(n, h, w)`` of three grouped convolutions (CondInst, Sec. 3.2) of features ``(8, h, w)``."""
    import torch
    import torch.nn.functional as F

    n, (x, y) = len(params), places
    ways = torch.stack(
        [
            ((points[:, 0, None] - x) / reach)[:, None].expand(n, len(y), len(x)),
            ((points[:, 1, None] - y) / reach)[:, :, None].expand(n, len(y), len(x)),
        ],
        1,
    )
    found = torch.cat([ways, feats.expand(n, -1, -1, -1)], 1).reshape(1, n * 10, len(y), len(x))
    w1, w2, w3, b1, b2, b3 = params.split([80, 64, 8, 8, 8, 1], 1)
    found = F.conv2d(found, w1.reshape(n * 8, 10, 1, 1), b1.flatten(), groups=n).relu()
    found = F.conv2d(found, w2.reshape(n * 8, 8, 1, 1), b2.flatten(), groups=n).relu()
    return F.conv2d(found, w3.reshape(n, 8, 1, 1), b3.flatten(), groups=n)[0]


def aligned(logits):
    """Twice the size, so that cell i lies on cell ``2 * i + 1``, as CondInst has it."""
    import torch.nn.functional as F

    height, width = logits.shape[1:]
    large = F.pad(logits[None], (0, 1, 0, 1), mode='replicate')
    large = F.interpolate(large, (2 * height + 1, 2 * width + 1), mode='bilinear', align_corners=True)
    return F.pad(large, (1, 0, 1, 0), mode='replicate')[0, :, : 2 * height, : 2 * width]


def loop_points(name: str, case: SimpleNamespace) -> dict:
    import torch
    import torch.nn.functional as F

    feats, params = case.leaves
    start = 4.0 if name == 'CondInst' else 0.0
    places = [torch.arange(side, device=feats.device) * 8 + start for side in reversed(feats.shape[2:])]
    total, learned = 0.0, 0
    images = case.pictures, case.owners, feats.unbind(), params.unbind()
    for picture, owners, maps, rows in zip(*images):
        for i, bitmap in enumerate(picture.bitmaps):
            inds = (owners == i).nonzero()[:, 0]
            if not len(inds):
                continue
            reach = case.strides[inds, None] * 8
            logits = dynamic_masks(maps, rows[inds], case.points[inds], reach, places)
            if name == 'CondInst':
                logits = aligned(logits)
            else:
                logits = F.interpolate(logits[None], scale_factor=2, mode='bilinear')[0]
            total = total + dice(logits, bitmap[2::4, 2::4], 5e-6).sum()
            learned += len(inds)
    return dict(loss_mask=total / max(learned, 1))


# Both.


def sides(name: str, case: SimpleNamespace) -> dict:
    loop = loop_solov2 if name == 'SOLOv2' else lambda case: loop_points(name, case)
    return dict(batched=lambda: batched(name, case), loop=lambda: loop(case))


def memory(args: argparse.Namespace) -> dict:
    """GiB of this process before and at the peak of one step of a side."""
    counts = [args.objects] * args.batch
    case = make_case(args.heads[0], args, counts)
    for leaf in case.leaves:  # their gradients are counted beforehand, since both sides have them
        leaf.grad = leaf.detach().clone()
    before = peak()
    sum(sides(args.heads[0], case)[args.child]().values()).backward()
    return dict(before=before, peak=peak())


def memory_of_process(name: str, side: str, batch: int, objects: int, args: argparse.Namespace) -> dict:
    options = ['--child', side, '--heads', name, '--batch', batch, '--objects', objects, '--size', *args.size]
    command = [sys.executable, __file__, *map(str, options)]
    return json.loads(subprocess.check_output(command, text=True).splitlines()[-1])


def main() -> None:
    args = parse_args()
    import torch
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    if args.child:
        print(json.dumps(memory(args)))
        return
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else f'{torch.get_num_threads()} CPU threads'
    print(f'torch {torch.__version__}, Python {platform.python_version()}, {where}')
    print(f'{args.batch} pictures of {args.size[0]}x{args.size[1]} with {args.objects} objects each')
    rows = []
    for name in args.heads:
        case = make_case(name, args, [args.objects] * args.batch)
        ours, loop = sides(name, case).values()
        part, peer = f'{name}: mask targets and losses', 'loop over images and objects'
        rows.append(two_sides.compare(name, ours, loop, case.leaves, args.rounds, args.device, part, peer))
        del case, ours, loop
        cases = [('batched', args.batch, args.objects), ('loop', args.batch, args.objects)]
        cases += [('batched', 1, args.crowd)] if args.crowd else []
        for side, batch, objects in cases:
            found = memory_of_process(name, side, batch, objects, args)
            told = f'{side}, {batch} x {objects} objects'
            print(f'{name:11s} {told:28s} {found["before"]:5.2f} GiB before, peak {found["peak"]:5.2f} GiB', flush=True)
            rows.append(report.row(f'{name}: peak of a step, {told}', found['peak'], 'GiB'))
    report.save(args.out, rows, **{name: value for name, value in vars(args).items() if name not in ('out', 'child')})


if __name__ == '__main__':
    main()
