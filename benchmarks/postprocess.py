"""Detections of the outputs of a dense head: this package beside torchvision's RetinaNet.

Both get the same random logits and deltas of five levels and the same anchors: scores above 0.05, the best 1000 of each
level, decoding, clipping, suppression class by class, the best 100 of each picture. They take turns and must agree.
Boxes without area, which ours drops by default, are kept as torchvision keeps them.

    python benchmarks/postprocess.py
    python benchmarks/postprocess.py --batch 16 --size 800 1333 --device cuda
"""

from __future__ import annotations

import argparse
import statistics
import time

import report

STRIDES, CLASSES, ANCHORS = (8, 16, 32, 64, 128), 80, 9


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--size', nargs=2, type=int, default=[480, 640], metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=9, help='timed turns of each, after one for warm-up')
    parser.add_argument('--out', help='a JSON file for the results')
    return parser.parse_args()


def make_outputs(args: argparse.Namespace):
    """Logits of which about one in 400 passes the threshold, as in a trained network, and small deltas."""
    import torch

    generator = torch.Generator().manual_seed(0)
    logits, deltas = [], []
    for stride in STRIDES:
        size = [-(-side // stride) for side in args.size]
        logits.append(torch.randn(args.batch, ANCHORS * CLASSES, *size, generator=generator) * 1.5 - 7.1)
        deltas.append(torch.randn(args.batch, ANCHORS * 4, *size, generator=generator) * 0.3)
    return [level.to(args.device) for level in logits], [level.to(args.device) for level in deltas]


def build_ours(args: argparse.Namespace):
    from mmengine.config import ConfigDict
    from mmengine.registry import init_default_scope

    from mmdet.registry import MODELS

    init_default_scope('mmdet')
    test_cfg = dict(nms_pre=1000, min_bbox_size=-1, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5))
    head = MODELS.build(
        dict(
            type='RetinaHead',
            num_classes=CLASSES,
            in_channels=8,
            feat_channels=8,
            stacked_convs=0,
            test_cfg=ConfigDict(test_cfg, max_per_img=100),
        )
    )
    return head.to(args.device).eval()


def build_theirs():
    from torch import nn
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    backbone = nn.Identity()
    backbone.out_channels = 8
    anchors = AnchorGenerator(((32, 64, 128),) * len(STRIDES), ((0.5, 1.0, 2.0),) * len(STRIDES))
    return RetinaNet(backbone, CLASSES, anchor_generator=anchors, topk_candidates=1000, detections_per_img=100).eval()


def rows_of(level, width: int):
    """``(B, A * width, H, W)`` -> ``(B, H * W * A, width)``, as torchvision's head does at its end."""
    batch, _, height, columns = level.shape
    return level.view(batch, -1, width, height, columns).permute(0, 3, 4, 1, 2).reshape(batch, -1, width)


def main() -> None:
    args = parse_args()
    import torch

    logits, deltas = make_outputs(args)
    head, theirs = build_ours(args), build_theirs()
    size = tuple(args.size)
    metas = [dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))] * args.batch
    anchors = head.prior_generator.grid_priors([level.shape[-2:] for level in logits], device=args.device)

    def torchvision():
        outputs = dict(
            cls_logits=[rows_of(level, CLASSES) for level in logits],
            bbox_regression=[rows_of(level, 4) for level in deltas],
        )
        return theirs.postprocess_detections(outputs, [anchors] * args.batch, [size] * args.batch)

    sides = {
        'ours': lambda: head.predict_by_feat(logits, deltas, batch_img_metas=metas),
        'torchvision': torchvision,
    }
    times: dict = {name: [] for name in sides}
    found = {}
    for turn in range(args.rounds + 1):
        for name, detect in sides.items():
            start = time.perf_counter()
            with torch.inference_mode():
                found[name] = detect()
            if args.device.startswith('cuda'):
                torch.cuda.synchronize()
            if turn:
                times[name].append(time.perf_counter() - start)
    for ours, other in zip(found['ours'], found['torchvision'], strict=True):
        torch.testing.assert_close(ours.scores, other['scores'])
        torch.testing.assert_close(ours.bboxes, other['boxes'], rtol=1e-4, atol=1e-3)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f'{name:12s} {seconds * 1000:8.1f} ms')
    ratio = statistics.median(b / a for a, b in zip(times['ours'], times['torchvision']))
    print(f'detections agree; torchvision / ours = {ratio:.2f}')
    rows = [report.row('RetinaNet: decoding and NMS', medians['ours'], 's', medians['torchvision'], 'torchvision')]
    report.save(args.out, rows, batch=args.batch, size=args.size, device=args.device)


if __name__ == '__main__':
    main()
