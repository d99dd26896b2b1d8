"""Matching and losses of DINO: all layers, images and groups of denoising at once beside a loop over them.

The outputs of the decoder, the encoder and the denoising part are random tensors that require a gradient, so no network
is timed. The loop follows the same rule one layer and one picture at a time: costs, one assignment problem, targets by
index, then the losses of a layer. Losses and gradients of both must agree; they take turns in one process.

    python benchmarks/set_matching.py
    python benchmarks/set_matching.py --batch 4 --queries 300 --boxes 10
"""

from __future__ import annotations

import argparse
import platform

import report
import two_sides

CLASSES = 80
SIZE = (800, 1333)
COSTS = [
    dict(type='FocalLossCost', weight=2.0),
    dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
    dict(type='IoUCost', iou_mode='giou', weight=2.0),
]
HEAD = dict(
    type='DINOHead',
    num_classes=CLASSES,
    embed_dims=8,
    sync_cls_avg_factor=True,
    loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
    loss_bbox=dict(type='L1Loss', loss_weight=5.0),
    loss_iou=dict(type='GIoULoss', loss_weight=2.0),
    train_cfg=dict(assigner=dict(type='HungarianAssigner', match_costs=COSTS)),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--layers', type=int, default=6, help='of the decoder; the encoder comes on top')
    parser.add_argument('--queries', type=int, default=900)
    parser.add_argument('--boxes', type=int, default=30, help='ground truths of each picture')
    parser.add_argument('--denoising', type=int, default=100, help='positives of all groups, for which groups are made')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=3, help='timed turns of each, after one for warm-up')
    parser.add_argument('--out', help='a JSON file for the results')
    return parser.parse_args()


def make_case(args: argparse.Namespace):
    """The head, random outputs, ground truths and meta information."""
    import torch
    from mmengine.config import ConfigDict
    from mmengine.structures import InstanceData

    from mmdet.registry import MODELS

    torch.manual_seed(0)
    head = MODELS.build(ConfigDict(HEAD)).to(args.device)
    groups = max(1, args.denoising // args.boxes)
    meta = dict(num_denoising_queries=2 * groups * args.boxes, num_denoising_groups=groups)
    total = meta['num_denoising_queries'] + args.queries

    def outputs(*shape):
        center, size = torch.rand(*shape, 2), torch.rand(*shape, 2) * 0.4 + 0.02
        logits = torch.randn(*shape, CLASSES) - 3
        return [value.to(args.device).requires_grad_() for value in (logits, torch.cat([center, size], -1))]

    outs = outputs(args.layers, args.batch, total) + outputs(args.batch, args.queries)
    height, width = SIZE
    gts = []
    for _ in range(args.batch):
        center = torch.rand(args.boxes, 2) * torch.tensor([width, height])
        half = torch.exp(torch.rand(args.boxes, 2) * 3.5 + 1.5)
        low, high = (center - half).clamp(min=0), torch.minimum(center + half, torch.tensor([width, height]))
        boxes = torch.cat([low, high], 1).to(args.device)
        gts.append(InstanceData(bboxes=boxes, labels=torch.randint(0, CLASSES, (args.boxes,), device=args.device)))
    return head, outs, gts, [dict(img_shape=SIZE) for _ in gts], meta


# The loop. Its parts use torch and scipy alone, so that no change of the package moves both sides.


def corners_of(boxes):
    import torch

    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def centers_of(boxes):
    import torch

    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def giou_of(low_a, high_a, low_b, high_b):
    """Of corners ``(..., 2)`` that fit each other."""
    import torch

    overlap = (torch.min(high_a, high_b) - torch.max(low_a, low_b)).clamp(min=0).prod(-1)
    union = ((high_a - low_a).prod(-1) + (high_b - low_b).prod(-1) - overlap).clamp(min=1e-6)
    hull = (torch.max(high_a, high_b) - torch.min(low_a, low_b)).clamp(min=0).prod(-1).clamp(min=1e-6)
    return overlap / union - (hull - union) / hull


def match(logits, boxes, gt, size):
    """Queries and the objects that they are matched to."""
    import torch
    from scipy.optimize import linear_sum_assignment

    probability = logits.sigmoid()
    negative = -(1 - probability + 1e-12).log() * 0.75 * probability.pow(2)
    positive = -(probability + 1e-12).log() * 0.25 * (1 - probability).pow(2)
    cost = 2 * (positive[:, gt.labels] - negative[:, gt.labels])
    cost = cost + 5 * torch.cdist(boxes, centers_of(gt.bboxes) / size, p=1)
    corners = corners_of(boxes) * size
    pairs = corners[:, None, :2], corners[:, None, 2:], gt.bboxes[None, :, :2], gt.bboxes[None, :, 2:]
    rows, columns = linear_sum_assignment((cost - 2 * giou_of(*pairs)).cpu().numpy())
    return torch.as_tensor(rows, device=boxes.device), torch.as_tensor(columns, device=boxes.device)


def losses_of(logits, boxes, matches, gts, size):
    """Losses of one layer ``(B, Q, .)`` whose matches are known."""
    import torch
    import torch.nn.functional as F

    labels, found, truth = [], [], []
    for b, ((rows, columns), gt) in enumerate(zip(matches, gts)):
        label = torch.full((logits.shape[1],), CLASSES, device=logits.device)
        label[rows] = gt.labels[columns]
        labels.append(label)
        found.append(boxes[b, rows])
        truth.append(gt.bboxes[columns])
    found, truth, labels = torch.cat(found), torch.cat(truth), torch.cat(labels)
    target = F.one_hot(labels, CLASSES + 1)[:, :-1].to(logits.dtype)
    flat = logits.flatten(0, 1)
    probability = flat.sigmoid()
    miss = (1 - probability) * target + probability * (1 - target)
    focal = F.binary_cross_entropy_with_logits(flat, target, reduction='none')
    focal = focal * (0.25 * target + 0.75 * (1 - target)) * miss.pow(2)
    corners = corners_of(found) * size
    giou = giou_of(corners[:, :2], corners[:, 2:], truth[:, :2], truth[:, 2:])
    count = max(len(found), 1)
    distance = (found - centers_of(truth) / size).abs().sum()
    return focal.sum() / count, 5 * distance / count, 2 * (1 - giou).sum() / count


def loop(outs, gts, meta):
    """All losses by name."""
    import torch

    scores, boxes, enc_scores, enc_boxes = outs
    first, groups = meta['num_denoising_queries'], meta['num_denoising_groups']
    height, width = SIZE
    size = boxes.new_tensor([width, height, width, height])
    layers = [(f'd{n}.', scores[n, :, first:], boxes[n, :, first:]) for n in range(len(scores))]
    layers = [*layers[:-1], ('', *layers[-1][1:]), ('enc_', enc_scores, enc_boxes)]
    named = {}
    names = 'loss_cls', 'loss_bbox', 'loss_iou'
    for prefix, logits, places in layers:
        with torch.no_grad():
            matches = [match(*image, size) for image in zip(logits, places, gts)]
        values = losses_of(logits, places, matches, gts, size)
        named.update({prefix + name: value for name, value in zip(names, values)})
    for n in range(len(scores)):
        known = []
        for gt in gts:
            order = torch.arange(len(gt), device=size.device)
            rows = torch.arange(groups, device=size.device)[:, None] * (first // groups) + order
            known.append((rows.flatten(), order.repeat(groups)))
        values = losses_of(scores[n, :, :first], boxes[n, :, :first], known, gts, size)
        prefix = 'dn_' if n == len(scores) - 1 else f'd{n}.dn_'
        named.update({prefix + name: value for name, value in zip(names, values)})
    return named


def compare(args: argparse.Namespace) -> dict:
    head, outs, gts, metas, meta = make_case(args)
    batched, plain = lambda: head.loss_by_feat(*outs, gts, metas, meta), lambda: loop(outs, gts, meta)
    part, peer = 'DINOHead: matching and losses', 'loop over layers and images'
    return two_sides.compare('DINOHead', batched, plain, outs, args.rounds, args.device, part, peer)


def main() -> None:
    args = parse_args()
    import torch
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else f'{torch.get_num_threads()} CPU threads'
    print(f'torch {torch.__version__}, Python {platform.python_version()}, {where}')
    print(f'batch {args.batch}, {args.layers} + 1 layers of {args.queries} queries, {args.boxes} boxes each')
    row = compare(args)
    report.save(args.out, [row], **{name: value for name, value in vars(args).items() if name != 'out'})


if __name__ == '__main__':
    main()
