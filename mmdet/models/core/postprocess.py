"""From the maps of a dense head to detections.

Letters: B images, A anchors per location, C classes, K candidates kept of a level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.structures.bbox import get_box_tensor, get_box_wh, scale_boxes


@dataclass(frozen=True)
class TestCfg:
    """The part of ``test_cfg`` that every dense head reads, with the defaults of MMDetection in one place.

    Attributes:
        nms_pre: Candidates kept of each level before NMS; all if not positive.
        score_thr: Candidates must score above it.
        min_bbox_size: Boxes must be wider and higher than this, in pixels after rescaling; at 0 only empty boxes go,
            below 0 none.
        max_per_img: Detections kept of each image.
    """

    nms_pre: int = -1
    score_thr: float = 0.0
    min_bbox_size: float = -1
    nms: dict | None = None
    max_per_img: int | None = None

    @classmethod
    def read(cls, cfg: Any) -> TestCfg:
        cfg = cfg or {}
        given = {name: cfg[name] for name in cls.__dataclass_fields__ if cfg.get(name) is not None}
        return cls(**given)


def gather_rows(level: Tensor, index: Tensor, dim: int) -> Tensor:
    """Rows ``(B, K, dim)`` of a level map ``(B, A * dim, H, W)`` at flat positions ``index (B, K)`` (y, x, anchor).

    Reads only what it returns, whatever the memory layout of the map.
    """
    view = level.unflatten(1, (-1, dim)).permute(0, 3, 4, 1, 2)  # (B, H, W, A, dim)
    width, anchors = view.shape[2], view.shape[3]
    batch = torch.arange(len(view), device=level.device)[:, None]
    return view[batch, index // (width * anchors), index // anchors % width, index % anchors]


def select_topk(
    cls_score: Tensor, channels: int, nms_pre: int, activate: Callable[[Tensor], Tensor], monotonic: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """The ``nms_pre`` best pairs of prior and class of one level, in descending order.

    Args:
        cls_score: ``(B, A * channels, H, W)`` logits.
        activate: Logits ``(..., channels)`` to scores ``(..., C)``.
        monotonic: Whether a higher logit is a higher score. Then the best pairs are found among the ``nms_pre`` priors
            of the highest logit, and only theirs are activated.

    Returns:
        scores, labels and flat positions, each ``(B, K)`` with K known without looking at the data.
    """
    maps = cls_score.unflatten(1, (-1, channels))  # (B, A, channels, H, W)
    num_priors = maps.shape[1] * maps.shape[3] * maps.shape[4]
    if monotonic and 0 < nms_pre < num_priors:
        peaks = maps.amax(2).permute(0, 2, 3, 1).flatten(1)  # (B, H * W * A)
        candidates = peaks.topk(nms_pre, sorted=False).indices
        scores = activate(gather_rows(cls_score, candidates, channels).float())
    else:
        candidates = None
        scores = activate(maps.permute(0, 3, 4, 1, 2).flatten(1, 3).float())  # (B, P, C)
    num_classes = scores.shape[-1]
    flat = scores.flatten(1)
    if 0 < nms_pre < flat.shape[1]:
        top, order = flat.topk(nms_pre)
    else:
        top, order = flat.sort(1, descending=True)
    labels, position = order % num_classes, order // num_classes
    return top, labels, position if candidates is None else candidates.gather(1, position)


def image_results(fields: dict[str, Tensor], score_thr: float) -> list[InstanceData]:
    """Candidates ``{name: (B, K, ...)}`` above the threshold as one ``InstanceData`` for each image."""
    keep = fields['scores'] > score_thr
    results = []
    for b in range(len(keep)):
        instances = InstanceData()
        for name, value in fields.items():
            setattr(instances, name, value[b][keep[b]])
        results.append(instances)
    return results


def suppress(results: InstanceData, test_cfg: TestCfg, with_nms: bool = True, groups: str = 'labels') -> InstanceData:
    """Drop small boxes, then suppress overlapping ones of the same ``groups`` value and keep the best.

    Raises:
        ValueError: if NMS is asked for and ``test_cfg`` has no ``nms``.
    """
    if test_cfg.min_bbox_size >= 0:
        width, height = get_box_wh(results.bboxes)
        results = results[(width > test_cfg.min_bbox_size) & (height > test_cfg.min_bbox_size)]
    if not with_nms:
        return results
    if test_cfg.nms is None:
        raise ValueError("test_cfg has no 'nms', for example nms=dict(type='nms', iou_threshold=0.5)")
    if len(results):
        from mmdet.ops import batched_nms

        boxes = get_box_tensor(results.bboxes)
        detections, keep = batched_nms(boxes, results.scores, getattr(results, groups), test_cfg.nms)
        results = results[keep]
        results.scores = detections[:, -1]  # soft NMS lowers them
    return results[: test_cfg.max_per_img]


def rescale_results(results: InstanceData, img_meta: dict) -> InstanceData:
    """Boxes, and keypoints where there are any, in pixels of the original image."""
    if img_meta.get('scale_factor') is None:
        raise ValueError("the image's meta information has no 'scale_factor', which rescale=True needs")
    results.bboxes = scale_boxes(results.bboxes, [1 / s for s in img_meta['scale_factor']])
    if 'keypoints' in results:
        results.keypoints = results.keypoints / results.keypoints.new_tensor(img_meta['scale_factor'])
    return results


def image_shapes(metas: Sequence[dict]) -> list[tuple[int, int]]:
    """Height and width of each network input without its padding."""
    return [tuple(meta['img_shape'][:2]) for meta in metas]
