"""Non-maximum suppression. Boxes are x1 y1 x2 y2 with shape (N, 4), scores have shape (N,)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdet.errors import UserValueError

Array = Any  # a tensor or a numpy array, all arguments and results alike


def full_precision(x: Tensor) -> Tensor:
    """``x`` in single precision if it is in half."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def nms(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
    max_num: int = -1,
) -> tuple[Array, Array]:
    """Greedy suppression.

    Args:
        offset: 1 if ``x2`` is the last column inside a box, 0 if it is the edge.
        score_threshold: Boxes up to this score are dropped first, if it is positive.
        max_num: Keep this many, if it is positive.

    Returns:
        Boxes with scores (K, 5) by falling score, and their indices (K,).

    Raises:
        ValueError: for an offset that is neither 0 nor 1, or boxes that are not (N, 4).
    """
    if isinstance(boxes, np.ndarray):
        dets, inds = nms(
            torch.from_numpy(boxes), torch.from_numpy(scores), iou_threshold, offset, score_threshold, max_num
        )
        return dets.numpy(), inds.numpy()
    _check(boxes, scores, offset)
    from torchvision.ops import nms as torchvision_nms

    exact, exact_scores = full_precision(boxes), full_precision(scores)
    kept = None
    if score_threshold > 0:
        kept = (exact_scores > score_threshold).nonzero()[:, 0]
        exact, exact_scores = exact[kept], exact_scores[kept]
    corners = torch.cat([exact[:, :2], exact[:, 2:] + offset], 1) if offset else exact
    inds = torchvision_nms(corners, exact_scores.to(corners.dtype), float(iou_threshold))
    if max_num > 0:
        inds = inds[:max_num]
    if kept is not None:
        inds = kept[inds]
    return _with_scores(boxes[inds], scores[inds]), inds


def soft_nms(
    boxes: Array,
    scores: Array,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = 'linear',
    offset: int = 0,
) -> tuple[Array, Array]:
    """Soft-NMS (arXiv:1704.04503, Eq. 1 to 3): decay the scores of overlapping boxes.

    Args:
        iou_threshold: From this overlap on, ``'linear'`` decays and ``'naive'`` removes.
        sigma: Width of the ``'gaussian'`` decay.
        min_score: Boxes whose score falls below are dropped.

    Returns:
        Boxes with their decayed scores (K, 5), in the order in which they were chosen, and their indices (K,).

    Raises:
        ValueError: for an unknown method, an offset that is neither 0 nor 1, or boxes that are not (N, 4).
    """
    if isinstance(boxes, np.ndarray):
        dets, inds = soft_nms(
            torch.from_numpy(boxes), torch.from_numpy(scores), iou_threshold, sigma, min_score, method, offset
        )
        return dets.numpy(), inds.numpy()
    _check(boxes, scores, offset)
    if method not in _DECAYS:
        raise UserValueError(f'method={method!r} of soft_nms is none of {", ".join(map(repr, _DECAYS))}.')
    decay = _DECAYS[method]
    # Every choice depends on the last one: short numpy steps beat tensors of one image's boxes.
    rest = full_precision(boxes.detach()).cpu().numpy()
    score = full_precision(scores.detach()).cpu().numpy().copy()
    index = np.arange(len(rest))
    area = (rest[:, 2] - rest[:, 0] + offset) * (rest[:, 3] - rest[:, 1] + offset)
    chosen: list[int] = []
    chosen_scores: list[float] = []
    while len(index):
        best = int(score.argmax())
        chosen.append(int(index[best]))
        chosen_scores.append(float(score[best]))
        box, box_area = rest[best].copy(), area[best]
        others = np.arange(len(index)) != best
        rest, score, index, area = rest[others], score[others], index[others], area[others]
        width = (np.minimum(box[2], rest[:, 2]) - np.maximum(box[0], rest[:, 0]) + offset).clip(min=0)
        height = (np.minimum(box[3], rest[:, 3]) - np.maximum(box[1], rest[:, 1]) + offset).clip(min=0)
        overlap = width * height
        union = np.maximum(box_area + area - overlap, np.finfo(rest.dtype).tiny)
        score = score * decay(overlap / union, iou_threshold, sigma).astype(score.dtype)
        alive = score >= min_score
        rest, score, index, area = rest[alive], score[alive], index[alive], area[alive]
    inds = torch.tensor(chosen, dtype=torch.long, device=boxes.device)
    new_scores = torch.tensor(chosen_scores, dtype=full_precision(scores).dtype, device=boxes.device)
    return _with_scores(boxes[inds], new_scores), inds


_DECAYS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    'naive': lambda iou, threshold, sigma: (iou < threshold).astype(iou.dtype),
    'linear': lambda iou, threshold, sigma: np.where(iou >= threshold, 1 - iou, 1),
    'gaussian': lambda iou, threshold, sigma: np.exp(-iou * iou / sigma),
}


def _check(boxes: Tensor, scores: Tensor, offset: int) -> None:
    if boxes.dim() != 2 or boxes.size(1) != 4:
        raise UserValueError(f'NMS takes boxes of shape (N, 4), got {tuple(boxes.shape)}.')
    if len(boxes) != len(scores):
        raise UserValueError(f'NMS got {len(boxes)} boxes and {len(scores)} scores.')
    if offset not in (0, 1):
        raise UserValueError(f'offset={offset} of NMS is neither 0 nor 1.')


def _with_scores(boxes: Tensor, scores: Tensor) -> Tensor:
    boxes = full_precision(boxes)
    return torch.cat([boxes, scores[:, None].to(boxes.dtype)], 1)


def apart(boxes: Tensor, idxs: Tensor) -> Tensor:
    """Boxes (N, 4) of one image moved so that those of different ``idxs (N,)`` do not touch."""
    return boxes + (idxs.to(boxes) * (boxes.max() + 1))[:, None] if len(boxes) else boxes


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor,
    nms_cfg: Mapping[str, Any] | None,
    class_agnostic: bool = False,
) -> tuple[Tensor, Tensor]:
    """Suppression within each class (or level) of one image.

    Boxes of class ``i`` are moved by ``i * (greatest coordinate + 1)``, so that classes do not touch. Give it one
    image at a time: a greater offset would eat the precision of the coordinates.

    Args:
        idxs: Class of each box, shape (N,).
        nms_cfg: ``type`` (``'nms'`` or ``'soft_nms'``, or a function like them) and its arguments; also
            ``class_agnostic``, ``split_thr`` (from this many boxes on, one class at a time) and ``max_num``. ``None``
            only sorts.

    Returns:
        Boxes with scores (K, 5) by falling score, in full precision, and their indices (K,).
    """
    boxes, scores = full_precision(boxes), full_precision(scores)
    if nms_cfg is None:
        scores, inds = scores.sort(descending=True)
        return _with_scores(boxes[inds], scores), inds
    options = dict(nms_cfg)
    suppress = _resolve(options.pop('type', 'nms'))
    split_thr = options.pop('split_thr', 10000)
    if 'iou_thr' in options:
        options['iou_threshold'] = options.pop('iou_thr')

    separate = boxes
    if not options.pop('class_agnostic', class_agnostic):
        separate = apart(boxes, idxs)
    if len(boxes) < split_thr:
        dets, keep = suppress(separate, scores, **options)
        return _with_scores(boxes[keep], dets[:, -1]), keep

    max_num = options.pop('max_num', -1)
    found = []
    for idx in idxs.unique():
        inside = (idxs == idx).nonzero()[:, 0]
        dets, keep = suppress(separate[inside], scores[inside], **options)
        found.append((dets[:, -1], inside[keep]))
    new_scores, keep = (torch.cat(parts) for parts in zip(*found, strict=True))
    new_scores, order = new_scores.sort(descending=True)
    if max_num > 0:
        new_scores, order = new_scores[:max_num], order[:max_num]
    keep = keep[order]
    return _with_scores(boxes[keep], new_scores), keep


def _resolve(kind: str | Callable[..., Any]) -> Callable[..., Any]:
    if callable(kind):
        return kind
    known: dict[str, Callable[..., Any]] = {'nms': nms, 'soft_nms': soft_nms}
    name = kind.rsplit('.', 1)[-1]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f' Did you mean {near[0]!r}?' if near else ''
        raise UserValueError(f"type={kind!r} in the NMS config is neither 'nms' nor 'soft_nms'.{hint}")
    return known[name]


def multiclass_nms(
    multi_bboxes: Tensor,
    multi_scores: Tensor,
    score_thr: float,
    nms_cfg: Mapping[str, Any] | None,
    max_num: int = -1,
    score_factors: Tensor | None = None,
    return_inds: bool = False,
    box_dim: int = 4,
) -> tuple[Tensor, ...]:
    """Threshold and suppress the boxes of all classes of one image.

    Args:
        multi_bboxes: Shape (N, C * 4), or (N, 4) for all classes alike.
        multi_scores: Shape (N, C + 1), the last column for background.
        score_thr: Scores up to this are dropped, before the factors.
        max_num: Keep this many, if it is positive.
        score_factors: Multiplied with the scores, shape (N,).
        return_inds: Also return each result's place in the flattened (N, C).

    Returns:
        Boxes with scores (K, 5), labels (K,), and the places if asked for.
    """
    num_classes = multi_scores.size(1) - 1
    scores = multi_scores[:, :-1]
    rows, labels = (scores > score_thr).nonzero(as_tuple=True)
    if multi_bboxes.size(1) > box_dim:
        boxes = multi_bboxes.unflatten(1, (-1, box_dim))[rows, labels]
    else:
        boxes = multi_bboxes[rows]
    scores = scores[rows, labels]
    if score_factors is not None:
        scores = scores * score_factors[rows]
    dets, keep = batched_nms(boxes, scores, labels, nms_cfg)
    if max_num > 0:
        dets, keep = dets[:max_num], keep[:max_num]
    results = (dets, labels[keep])
    return (*results, (rows * num_classes + labels)[keep]) if return_inds else results


def fast_nms(
    multi_bboxes: Tensor,
    multi_scores: Tensor,
    multi_coeffs: Tensor,
    score_thr: float,
    iou_thr: float,
    top_k: int,
    max_num: int = -1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Fast NMS of YOLACT (arXiv:1904.02689, Sec. 4.2): suppressed boxes still suppress others.

    Args:
        multi_bboxes: Shape (N, 4).
        multi_scores: Shape (N, C + 1), the last column for background.
        multi_coeffs: Mask coefficients, shape (N, M).
        top_k: Best boxes of each class that take part.
        max_num: Keep this many, if it is positive.

    Returns:
        Boxes with scores (K, 5) by falling score, labels (K,) and coefficients (K, M).
    """
    scores, order = multi_scores[:, :-1].t().sort(1, descending=True)  # (C, N)
    scores, order = scores[:, :top_k], order[:, :top_k]
    worst = overlap_with_better(multi_bboxes[order])  # (C, K)
    labels, ranks = ((worst <= iou_thr) & (scores > score_thr)).nonzero(as_tuple=True)
    kept, source = scores[labels, ranks], order[labels, ranks]
    kept, best = kept.sort(descending=True)
    if max_num > 0:
        kept, best = kept[:max_num], best[:max_num]
    source = source[best]
    return _with_scores(multi_bboxes[source], kept), labels[best], multi_coeffs[source]


def overlap_with_better(boxes: Tensor) -> Tensor:
    """The largest IoU ``(..., K)`` of each box with one before it, of boxes ``(..., K, 4)``."""
    lower, upper = boxes[..., :2], boxes[..., 2:]
    ends = (
        torch.min(upper[..., None, :], upper[..., None, :, :]),
        torch.max(lower[..., None, :], lower[..., None, :, :]),
    )
    overlap = (ends[0] - ends[1]).clamp(min=0).prod(-1)
    area = (upper - lower).prod(-1)
    iou = overlap / (area[..., None] + area[..., None, :] - overlap).clamp(min=1e-6)
    better = iou.triu(diagonal=1)
    return better.amax(-2) if better.numel() else better.sum(-2)


def nms_match(dets: Array, iou_thr: float) -> list[Array]:
    """Groups of boxes: each starts with a kept box, by falling score, followed by those that it suppresses.

    Args:
        dets: Boxes with scores, shape (N, 5).
        iou_thr: From this overlap on a box is suppressed.

    Returns:
        Indices into ``dets``, one array or tensor for each kept box.
    """
    as_tensor = isinstance(dets, Tensor)
    values = full_precision(dets.detach()).cpu().numpy() if as_tensor else dets
    boxes, rest = values[:, :4], np.argsort(-values[:, 4], kind='stable')
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    groups = []
    while len(rest):
        best, rest = rest[0], rest[1:]
        width = (np.minimum(boxes[best, 2], boxes[rest, 2]) - np.maximum(boxes[best, 0], boxes[rest, 0])).clip(min=0)
        height = (np.minimum(boxes[best, 3], boxes[rest, 3]) - np.maximum(boxes[best, 1], boxes[rest, 1])).clip(min=0)
        overlap = width * height
        matched = overlap / np.maximum(area[best] + area[rest] - overlap, np.finfo(values.dtype).tiny) >= iou_thr
        groups.append(np.concatenate([[best], rest[matched]]).astype(np.int64))
        rest = rest[~matched]
    return [torch.from_numpy(group).to(dets.device) for group in groups] if as_tensor else groups
