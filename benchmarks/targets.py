"""Assignment, targets and losses of dense heads: the batched core beside a plain loop over the images.

The outputs of the head are random tensors that require a gradient, so no convolution is timed. The loop follows the
same rule one picture at a time: drop the priors that do not count, match, pick the positives by index, put the targets
back, then sum the loss level by level. Losses and gradients of both must agree; they take turns in one process.

    python benchmarks/targets.py
    python benchmarks/targets.py --heads ATSSHead --batch 4 --boxes 20 --size 480 640
"""

from __future__ import annotations

import argparse
import platform

import report
import two_sides

STRIDES = [8, 16, 32, 64, 128]
COMMON = dict(num_classes=80, in_channels=8, feat_channels=8, stacked_convs=0)
FOCAL = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)
HEADS = {
    'RetinaHead': dict(
        type='RetinaHead',
        loss_cls=FOCAL,
        loss_bbox=dict(type='L1Loss'),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0), allowed_border=-1
        ),
        **COMMON,
    ),
    'FCOSHead': dict(
        type='FCOSHead', strides=STRIDES, loss_cls=FOCAL, loss_bbox=dict(type='GIoULoss'), norm_cfg=None, **COMMON
    ),
    'ATSSHead': dict(
        type='ATSSHead',
        anchor_generator=dict(
            type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=STRIDES
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_cls=FOCAL,
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        train_cfg=dict(assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1),
        **COMMON,
    ),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--heads', nargs='+', default=list(HEADS), choices=list(HEADS), metavar='NAME')
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--boxes', type=int, default=100, help='ground truths of each picture')
    parser.add_argument('--size', nargs=2, type=int, default=[800, 1333], metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=3, help='timed turns of each, after one for warm-up')
    parser.add_argument('--no-channels-last', action='store_true', help='outputs in the default memory format')
    parser.add_argument('--out', help='a JSON file for the results')
    return parser.parse_args()


def make_case(name: str, args: argparse.Namespace):
    """The head, its random outputs, ground truths and meta information."""
    import torch
    from mmengine.config import ConfigDict
    from mmengine.structures import InstanceData

    from mmdet.registry import MODELS

    torch.manual_seed(0)
    head = MODELS.build(ConfigDict(HEADS[name])).to(args.device)
    height, width = args.size
    padded = [-(-side // 32) * 32 for side in args.size]
    sizes = [[-(-side // stride) for side in padded] for stride in STRIDES]
    anchors = head.num_base_priors
    channels = [anchors * 80, anchors * 4] + ([anchors] if hasattr(head, 'loss_centerness') else [])
    layout = torch.contiguous_format if args.no_channels_last else torch.channels_last
    outs = []
    for i, count in enumerate(channels):
        levels = []
        for size in sizes:
            level = torch.rand(args.batch, count, *size, device=args.device)
            level = level * 2 - 5 if i == 0 else level * 64 if name == 'FCOSHead' and i == 1 else level - 0.5
            levels.append(level.contiguous(memory_format=layout).requires_grad_())
        outs.append(levels)
    gts = []
    for _ in range(args.batch):
        center = torch.rand(args.boxes, 2) * torch.tensor([width, height])
        half = torch.exp(torch.rand(args.boxes, 2) * 3.5 + 1.5)
        low, high = (center - half).clamp(min=0), torch.minimum(center + half, torch.tensor([width, height]))
        boxes = torch.cat([low, high], 1).to(args.device)
        gts.append(InstanceData(bboxes=boxes, labels=torch.randint(0, 80, (args.boxes,), device=args.device)))
    meta = dict(img_shape=(height, width), pad_shape=tuple(padded), batch_input_shape=tuple(padded))
    return head, outs, gts, [dict(meta) for _ in gts]


# The loop. Its parts use torch alone, so that no change of the package moves both sides.


def pair_iou(a, b):
    """``(len(a), len(b))``."""
    import torch

    low, high = torch.max(a[:, None, :2], b[None, :, :2]), torch.min(a[:, None, 2:], b[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    return overlap / (area_a[:, None] + area_b[None] - overlap).clamp(min=1e-6)


def focal_sum(logits, labels, weights=None):
    """Focal loss of logits ``(n, C)``, gamma 2 and alpha 0.25; a label of C is background."""
    import torch.nn.functional as F

    target = F.one_hot(labels, logits.shape[1] + 1)[:, :-1].to(logits.dtype)
    probability = logits.sigmoid()
    miss = (1 - probability) * target + probability * (1 - target)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
    loss = loss * (0.25 * target + 0.75 * (1 - target)) * miss.pow(2)
    return (loss if weights is None else loss * weights[:, None]).sum()


def giou_of(pred, target):
    import torch

    overlap = (torch.min(pred[:, 2:], target[:, 2:]) - torch.max(pred[:, :2], target[:, :2])).clamp(min=0).prod(-1)
    union = (pred[:, 2:] - pred[:, :2]).prod(-1) + (target[:, 2:] - target[:, :2]).prod(-1) - overlap
    union = union.clamp(min=1e-6)
    hull = (torch.max(pred[:, 2:], target[:, 2:]) - torch.min(pred[:, :2], target[:, :2])).clamp(min=0).prod(-1)
    hull = hull.clamp(min=1e-6)
    return overlap / union - (hull - union) / hull


def level_rows(level, dim):
    return level.permute(0, 2, 3, 1).reshape(-1, dim)


def by_level(per_image, sizes):
    """``[(P, ...)]`` of the images as ``[(B * P_level, ...)]``."""
    import torch

    return [part.flatten(0, 1) for part in torch.stack(per_image).split(sizes, 1)]


def put_back(values, inds, total, fill):
    out = values.new_full((total, *values.shape[1:]), fill)
    out[inds] = values
    return out


def max_iou_match(priors, sizes, boxes):
    """``(P,)``: -1 ignored, 0 background, i + 1 for box i."""
    import torch

    overlap = pair_iou(boxes, priors)  # (G, P)
    best, arg = overlap.max(0)
    inds = torch.full_like(arg, -1)
    inds[best < 0.4] = 0
    positive = best >= 0.5
    inds[positive] = arg[positive] + 1
    top = overlap.max(1).values
    for i in range(len(boxes)):
        if top[i] > 0:
            inds[overlap[i] == top[i]] = i + 1
    return inds


def atss_match(priors, sizes, boxes):
    import torch

    overlap = pair_iou(priors, boxes)  # (P, G)
    center, gt_center = (priors[:, :2] + priors[:, 2:]) / 2, (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = (center[:, None] - gt_center[None]).pow(2).sum(-1).sqrt()
    candidates, start = [], 0
    for size in sizes:
        near = distance[start : start + size].topk(min(9, size), dim=0, largest=False).indices
        candidates.append(near + start)
        start += size
    candidates = torch.cat(candidates)  # (K, G)
    column = torch.arange(len(boxes), device=boxes.device)
    found = overlap[candidates, column]
    positive = found >= found.mean(0) + found.std(0)
    chosen = center[candidates]  # (K, G, 2)
    positive &= torch.cat([chosen - boxes[:, :2], boxes[:, 2:] - chosen], -1).min(-1).values > 0.01
    score = torch.full_like(overlap, -1e8)
    rows, columns = candidates[positive], column.expand_as(candidates)[positive]
    score[rows, columns] = overlap[rows, columns]
    best, arg = score.max(1)
    return torch.where(best > -1e8, arg + 1, 0)


def deltas(priors, boxes):
    import torch

    size, gt_size = priors[:, 2:] - priors[:, :2], boxes[:, 2:] - boxes[:, :2]
    shift = ((boxes[:, :2] + boxes[:, 2:]) / 2 - (priors[:, :2] + priors[:, 2:]) / 2) / size
    return torch.cat([shift, torch.log(gt_size / size)], 1)


def from_deltas(priors, delta):
    import torch

    size, center = priors[:, 2:] - priors[:, :2], (priors[:, :2] + priors[:, 2:]) / 2
    center = center + delta[:, :2] * 0.1 * size
    half = size * (delta[:, 2:] * 0.2).clamp(-4.135, 4.135).exp() / 2
    return torch.cat([center - half, center + half], 1)


def anchor_targets(head, outs, gts, metas, match, encode):
    """Anchors, labels, label weights and box targets by level, and the positives that count."""
    import torch

    sizes = [tuple(level.shape[-2:]) for level in outs[0]]
    levels = head.prior_generator.grid_priors(sizes, device=outs[0][0].device)
    priors, counts = torch.cat(levels), [len(level) for level in levels]
    labels, weights, targets, num_pos = [], [], [], 0
    for gt, meta in zip(gts, metas):
        flags = torch.cat(head.prior_generator.valid_flags(sizes, meta['pad_shape'], device=priors.device))
        kept = priors[flags]
        inside = [int(part.sum()) for part in flags.split(counts)]
        inds = match(kept, inside, gt.bboxes)
        pos, neg = (inds > 0).nonzero().flatten(), (inds == 0).nonzero().flatten()
        label, weight = inds.new_full((len(kept),), 80), kept.new_zeros(len(kept))
        target = torch.zeros_like(kept)
        label[pos] = gt.labels[inds[pos] - 1]
        weight[pos], weight[neg] = 1.0, 1.0
        target[pos] = encode(kept[pos], gt.bboxes[inds[pos] - 1])
        labels.append(put_back(label, flags, len(priors), 80))
        weights.append(put_back(weight, flags, len(priors), 0))
        targets.append(put_back(target, flags, len(priors), 0))
        num_pos += max(len(pos), 1)
    columns = [by_level(values, counts) for values in ([priors] * len(gts), labels, weights, targets)]
    return *columns, num_pos


def retina_loop(head, outs, gts, metas):
    _, labels, weights, targets, count = anchor_targets(head, outs, gts, metas, max_iou_match, deltas)
    loss_cls = loss_bbox = 0
    for scores, preds, label, weight, target in zip(*outs, labels, weights, targets):
        loss_cls = loss_cls + focal_sum(level_rows(scores, 80), label, weight) / count
        box_weight = (label < 80).to(target.dtype)[:, None].expand_as(target)
        loss_bbox = loss_bbox + ((level_rows(preds, 4) - target).abs() * box_weight).sum() / count
    return dict(loss_cls=loss_cls, loss_bbox=loss_bbox)


def atss_loop(head, outs, gts, metas):
    import torch
    import torch.nn.functional as F

    keep_boxes = lambda kept, boxes: boxes
    anchors, labels, weights, targets, count = anchor_targets(head, outs, gts, metas, atss_match, keep_boxes)
    loss_cls = loss_bbox = loss_centerness = total = 0
    for scores, preds, centers, anchor, label, weight, target in zip(*outs, anchors, labels, weights, targets):
        loss_cls = loss_cls + focal_sum(level_rows(scores, 80), label, weight) / count
        pos = (label < 80).nonzero().flatten()
        anchor, target = anchor[pos], target[pos]
        middle = (anchor[:, :2] + anchor[:, 2:]) / 2
        low, high = middle - target[:, :2], target[:, 2:] - middle
        quality = (torch.min(low, high) / torch.max(low, high)).prod(-1).sqrt()
        pred = from_deltas(anchor, level_rows(preds, 4)[pos])
        loss_bbox = loss_bbox + 2 * ((1 - giou_of(pred, target)) * quality).sum()
        logits = level_rows(centers, 1)[pos, 0]
        loss_centerness = loss_centerness + F.binary_cross_entropy_with_logits(logits, quality, reduction='sum') / count
        total = total + quality.sum()
    return dict(loss_cls=loss_cls, loss_bbox=loss_bbox / total.clamp(min=1), loss_centerness=loss_centerness)


def fcos_match(points, ranges, boxes, labels):
    """Labels ``(P,)`` and distances ``(P, 4)``."""
    import torch

    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1).expand(len(points), -1).clone()  # (P, G)
    low, high = points[:, None] - boxes[None, :, :2], boxes[None, :, 2:] - points[:, None]
    distances = torch.cat([low, high], -1)  # (P, G, 4)
    farthest = distances.max(-1).values
    area[distances.min(-1).values <= 0] = 1e8
    area[(farthest < ranges[:, :1]) | (farthest > ranges[:, 1:])] = 1e8
    smallest, arg = area.min(1)
    label = labels[arg]
    label[smallest == 1e8] = 80
    return label, distances[torch.arange(len(points), device=points.device), arg]


def fcos_loop(head, outs, gts, metas):
    import torch
    import torch.nn.functional as F

    sizes = [tuple(level.shape[-2:]) for level in outs[0]]
    levels = head.prior_generator.grid_priors(sizes, dtype=torch.float32, device=outs[0][0].device)
    points, counts = torch.cat(levels), [len(level) for level in levels]
    ranges = torch.cat(
        [level.new_tensor(span).expand(len(level), 2) for level, span in zip(levels, head.regress_ranges)]
    )
    labels, distances = zip(*(fcos_match(points, ranges, gt.bboxes, gt.labels) for gt in gts))
    labels, distances = torch.cat(by_level(labels, counts)), torch.cat(by_level(distances, counts))
    all_points = torch.cat([level.repeat(len(gts), 1) for level in levels])
    scores, preds, centers = (torch.cat([level_rows(x, dim) for x in out]) for out, dim in zip(outs, (80, 4, 1)))
    pos = (labels < 80).nonzero().flatten()
    count = max(len(pos), 1)
    point, distance, pred = all_points[pos], distances[pos], preds[pos]
    left_right, top_bottom = distance[:, 0::2], distance[:, 1::2]
    quality = left_right.min(1).values / left_right.max(1).values * top_bottom.min(1).values / top_bottom.max(1).values
    quality = quality.sqrt()
    decode = lambda d: torch.cat([point - d[:, :2], point + d[:, 2:]], 1)
    return dict(
        loss_cls=focal_sum(scores, labels) / count,
        loss_bbox=((1 - giou_of(decode(pred), decode(distance))) * quality).sum() / quality.sum().clamp(min=1e-6),
        loss_centerness=F.binary_cross_entropy_with_logits(centers[pos, 0], quality, reduction='sum') / count,
    )


LOOPS = {'RetinaHead': retina_loop, 'FCOSHead': fcos_loop, 'ATSSHead': atss_loop}


def compare(name: str, args: argparse.Namespace) -> dict:
    head, outs, gts, metas = make_case(name, args)
    leaves = [level for levels in outs for level in levels]

    def batched():
        return {k: sum(v) if isinstance(v, list) else v for k, v in head.loss_by_feat(*outs, gts, metas).items()}

    loop = lambda: LOOPS[name](head, outs, gts, metas)
    part, peer = f'{name}: targets and losses', 'loop over images'
    return two_sides.compare(name, batched, loop, leaves, args.rounds, args.device, part, peer)


def main() -> None:
    args = parse_args()
    import torch
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else f'{torch.get_num_threads()} CPU threads'
    print(f'torch {torch.__version__}, Python {platform.python_version()}, {where}')
    print(f'batch {args.batch} of {args.size[0]}x{args.size[1]}, {args.boxes} boxes each')
    rows = [compare(name, args) for name in args.heads]
    report.save(args.out, rows, batch=args.batch, size=args.size, boxes=args.boxes, device=args.device)


if __name__ == '__main__':
    main()
