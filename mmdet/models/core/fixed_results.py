"""Results of all images together, in places whose number does not depend on data.

Letters: B images, K candidates, M results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.ops.fixed_nms import NONE, fixed_nms, greedy_decay, soft_decay
from mmdet.ops.fixed_size import at_least, fixed_options, is_fixed_size
from mmdet.structures.bbox import with_ends_moved


class FixedInstances(InstanceData):
    """The one result of a batch, with fields ``(B, M, ...)``; nothing asks for their lengths, which may be unknown."""

    def __setattr__(self, name: str, value: Any) -> None:
        BaseDataElement.__setattr__(self, name, value)


def fixed_instances(fields: dict[str, Tensor], counts: Tensor | None = None) -> FixedInstances:
    """Of ``fields (B, M, ...)`` of which the first ``counts (B,)`` are results; all if None."""
    if counts is not None:
        fields = dict(fields)
        valid = torch.arange(fields['scores'].shape[1], device=counts.device) < counts[:, None]
        fields['bboxes'] = torch.where(valid[..., None], fields['bboxes'], 0.0)
        fields['scores'] = torch.where(valid, fields['scores'], 0.0)
        if 'labels' in fields:
            fields['labels'] = torch.where(valid, fields['labels'], -1)
    return FixedInstances(**fields)


def unstacked(batch: Tensor) -> list[Tensor]:
    """The rows of each image; where results are fixed in size, all of them as those of the one result."""
    return [batch] if is_fixed_size() else list(batch)


def stacked(images: Sequence[Tensor]) -> Tensor:
    """What :func:`unstacked` was made of."""
    return images[0] if is_fixed_size() else torch.stack(list(images))


def fixed_suppressed(
    fields: dict[str, Tensor], valid: Tensor, options: dict, groups: str | None, limit: int | None
) -> tuple[dict[str, Tensor], Tensor]:
    """What suppression keeps of candidates ``{name: (B, K, ...)}``, best first, in M places, and how many ``(B,)``.

    Args:
        options: Of the NMS config, whose ``type`` may be 'outside' to suppress nothing and keep all candidates.
    """
    options = dict(options)
    kind, own = options.pop('type', 'nms'), options.pop('max_num', -1)
    places = min((n for n in (own, limit or -1) if n > 0), default=fixed_options().max_num)
    scores = torch.where(valid, fields['scores'], NONE).float()
    boxes, apart = fields['bboxes'].float(), None if groups is None else fields.get(groups)
    if kind == 'outside':
        found, index = scores.sort(1, descending=True)
    else:
        scores, boxes = at_least(scores, places, NONE), at_least(boxes, places, 0)
        apart = None if apart is None else at_least(apart, places, 0)
        index, found = _nms(boxes, scores, apart, kind, options, places)
        index = index.clamp(max=fields['scores'].shape[1] - 1)
    kept = {}
    for name, value in fields.items():
        if name != 'level_ids':
            shape = (*index.shape, *(1,) * (value.dim() - 2))
            kept[name] = value.gather(1, index.view(shape).expand(-1, -1, *value.shape[2:]))
    kept['scores'] = found
    if 'labels' not in kept:  # proposals
        kept['labels'] = torch.zeros_like(index)
    return kept, (found > NONE).sum(1)


def fixed_distinct(
    boxes: Tensor, scores: Tensor, valid: Tensor | None, options: dict, places: int
) -> tuple[Tensor, Tensor]:
    """What greedy suppression leaves of ``boxes (B, K, 4)``: indices ``(B, places)``, and whether so many are left."""
    last = scores.shape[1] - 1
    scores = scores.float() if valid is None else torch.where(valid, scores.float(), NONE)
    scores, boxes = at_least(scores, places, NONE), at_least(boxes.float(), places, 0)
    index, found = _nms(boxes, scores, None, 'nms', options, places)
    return index.clamp(max=last), found > NONE


def _nms(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, kind: str, options: dict, places: int
) -> tuple[Tensor, Tensor]:
    kind = kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind
    threshold = options.get('iou_threshold', options.get('iou_thr', 0.3))
    if options.get('offset'):
        boxes = with_ends_moved(boxes, options['offset'])
    if kind == 'soft_nms':
        decay = soft_decay(options.get('method', 'linear'), threshold, options.get('sigma', 0.5))
        index, found = fixed_nms(boxes, scores, groups, places, decay)
        return index, torch.where(found >= options.get('min_score', 1e-3), found, NONE)
    if kind != 'nms':
        raise UserValueError(f"type={kind!r} of NMS cannot be exported, only 'nms' and 'soft_nms'")
    if not fixed_options().operator:
        return fixed_nms(boxes, scores, groups, places, greedy_decay(threshold))
    from mmdet.ops.padded_nms import float_below, greedy_nms

    order = scores.sort(dim=1, descending=True, stable=True).indices
    groups = torch.zeros_like(order) if groups is None else groups.gather(1, order)
    boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    sizes = (scores > NONE).sum(1, dtype=torch.int32)
    taken, counts = greedy_nms(boxes, groups.int(), sizes, float_below(threshold), places)
    index = order.gather(1, taken)
    used = torch.arange(places, device=counts.device) < counts[:, None]
    return index, torch.where(used, scores.gather(1, index), NONE)
