"""What heads share whose detections are peaks of heat maps.

Letters: B images, K candidates of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import PaddedGT, TestCfg, constant, detections, image_detections

LEAST_SCORE = -0.1
"""What is no detection has a score of -1. A ``score_thr`` is not read, as in MMDetection."""


def padded_gt(gt_bboxes: Sequence, gt_labels: Sequence[Tensor]) -> PaddedGT:
    """Boxes and labels by image as one batch."""
    pairs = zip(gt_bboxes, gt_labels)
    return PaddedGT.from_instances([InstanceData(bboxes=boxes, labels=labels) for boxes, labels in pairs])


def image_corners(metas: Sequence[dict], like: Tensor) -> Tensor:
    """``(B, 1, 2)`` x and y at which each image begins in the network input: what ``border`` says, top and left."""
    borders = [meta.get('border', (0, 0, 0, 0)) for meta in metas]
    return constant([[[float(border[2]), float(border[0])]] for border in borders], like)


def detections_of_peaks(
    head, fields: dict[str, Tensor], metas: Sequence[dict], rescale: bool, with_nms: bool
) -> list[InstanceData]:
    """Detections of each image from candidates ``{name: (B, K, ...)}``, by an own ``_bboxes_nms`` if there is one.

    Pipelines that only pad give no ``scale_factor``: then boxes are those of the original images.
    """
    rescale = rescale and metas[0].get('scale_factor') is not None
    test_cfg, by_batch = _read(head.test_cfg), hasattr(head._bboxes_nms, 'by_batch')
    results = detections(fields, test_cfg, metas, rescale, with_nms and by_batch, 'labels')
    if by_batch or not with_nms:
        return results
    kept = []
    for image in results:
        boxes, labels = head._bboxes_nms(_with_scores(image), image.labels, head.test_cfg)
        kept.append(InstanceData(bboxes=boxes[:, :4], scores=boxes[:, 4], labels=labels))
    return kept


def suppressed_peaks(bboxes: Tensor, labels: Tensor, cfg: Mapping) -> tuple[Tensor, Tensor]:
    """Boxes with scores ``(n, 5)`` and labels of one image after the suppression in ``cfg``."""
    kept = image_detections(dict(bboxes=bboxes[:, :4], scores=bboxes[:, 4], labels=labels), _read(cfg), None)
    return _with_scores(kept), kept.labels


def _with_scores(image: InstanceData) -> Tensor:
    return torch.cat([image.bboxes, image.scores[:, None]], -1)


def _read(cfg: Mapping) -> TestCfg:
    limit = cfg.get('max_per_img') or -1
    return TestCfg(score_thr=LEAST_SCORE, nms=cfg.get('nms'), max_per_img=limit if limit > 0 else None)


def detections_of_each_image(
    head, maps: Sequence[Tensor], metas: Sequence[dict], named: Mapping[str, Tensor | None], **options: Any
) -> list[InstanceData]:
    """Detections by a ``_predict_by_feat_single`` of research code, which takes maps ``(1, *, H, W)``."""
    results = []
    for b, meta in enumerate(metas):
        of_image = {name: None if value is None else value[b : b + 1] for name, value in named.items()}
        results.append(head._predict_by_feat_single(*(m[b : b + 1] for m in maps), meta, **of_image, **options))
    return results


def rows_by_level(levels: Sequence[Tensor]) -> Tensor:
    """Level maps ``[(B, D, H, W)]`` as rows ``(N, D)``, level by level and in each image by image."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in levels])
