"""The best of candidates that do not overlap much. Letters: B images, K candidates, M results."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.ops.fixed_size import is_fixed_size

from .fixed_results import fixed_distinct
from .postprocess import greedy_options


def best_distinct(
    boxes: Tensor, scores: Tensor, nms: Mapping, valid: Tensor | None = None, limit: int = -1
) -> tuple[Tensor, Tensor]:
    """What greedy suppression leaves, best first, without waiting for the device.

    Args:
        boxes: ``(B, K, 4)`` xyxy in any unit.
        scores: ``(B, K)``.
        nms: Of type 'nms', with its ``iou_threshold``.
        valid: ``(B, K)`` bool, the candidates that take part; None for all.
        limit: M; K if not positive or greater.

    Returns:
        Indices ``(B, M)``, and ``(B, M)`` bool, False where so many are not left.

    Raises:
        ValueError: for another suppression.
    """
    from mmdet.ops.padded_nms import padded_nms

    options = greedy_options(dict(nms))
    if options is None:
        raise UserValueError(f"distinct queries are found by type='nms' with an iou_threshold, got {dict(nms)!r}")
    limit = min((number for number in (limit, options.pop('max_num', -1)) if number > 0), default=-1)
    options.pop('class_agnostic')
    if is_fixed_size():
        return fixed_distinct(boxes, scores, valid, options, limit if limit > 0 else scores.shape[1])
    index, counts = padded_nms(boxes, scores, None, valid, max_num=limit, **options)
    return index, torch.arange(index.shape[1], device=index.device) < counts[:, None]
