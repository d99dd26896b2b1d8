"""From the maps of a dense head to detections.

Letters: B images, A anchors per location, C classes, K candidates of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.ops.fixed_size import at_least, is_fixed_size, is_symbolic
from mmdet.structures.bbox import BaseBoxes

from .constants import constant
from .fixed_results import fixed_instances, fixed_suppressed
from .ordering import stable_topk
from .pyramid import Priors, split_levels


@dataclass(frozen=True)
class TestCfg:
    """The part of ``test_cfg`` that every dense head reads, with the defaults of MMDetection in one place.

    Attributes:
        nms_pre: Candidates kept of each level before NMS; all if not positive.
        score_thr: Candidates must score above it.
        min_bbox_size: Boxes must be wider and higher than this, in pixels after rescaling; at 0 only empty boxes go,
            below 0 none.
        max_per_img: Detections kept of each image.
        nms_post: Proposals kept of each level after NMS, by heads that look at it; all if not positive.
        nms_across_levels: Whether these suppress each other once more, whatever their level.
    """

    nms_pre: int = -1
    score_thr: float = 0.0
    min_bbox_size: float = -1
    nms: dict | None = None
    max_per_img: int | None = None
    nms_post: int = -1
    nms_across_levels: bool = False

    @classmethod
    def read(cls, cfg: Any) -> TestCfg:
        """Of a ``test_cfg``; what it leaves out or sets to None has the default here."""
        cfg = cfg or {}
        given = {name: cfg[name] for name in cls.__dataclass_fields__ if cfg.get(name) is not None}
        return cls(**given)


def gather_rows(level: Tensor, index: Tensor, dim: int) -> Tensor:
    """Rows ``(B, K, dim)`` of a level map ``(B, A * dim, H, W)`` at flat positions ``index (B, K)`` (y, x, anchor).

    Reads only what it returns, whatever the memory layout of the map.
    """
    if not is_symbolic(level.shape) and level.permute(0, 2, 3, 1).is_contiguous():  # channels last: rows lie there
        rows = level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, dim)
        return rows.gather(1, index[..., None].expand(-1, -1, dim))
    view = level.unflatten(1, (-1, dim)).permute(0, 3, 4, 1, 2)  # (B, H, W, A, dim)
    width, anchors = view.shape[2], view.shape[3]
    batch = torch.arange(view.shape[0], device=level.device)[:, None]
    return view[batch, index // (width * anchors), index // anchors % width, index % anchors]


def select_topk(
    cls_score: Tensor, channels: int, nms_pre: int, activate: Callable[[Tensor], Tensor], monotonic: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """The ``nms_pre`` best pairs of prior and class of one level, in descending order.

    Equal ones are in the order of their places, so that those which are left out are the same on every device.

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
    if monotonic and nms_pre > 0 and (is_symbolic(num_priors) or nms_pre < num_priors):
        peaks = maps[:, :, 0] if channels == 1 else maps.amax(2)
        peaks = peaks.permute(0, 2, 3, 1).flatten(1)  # (B, H * W * A)
        if is_symbolic(num_priors):
            return _padded_topk(cls_score, channels, peaks, nms_pre, activate)
        candidates = stable_topk(peaks, nms_pre)[1].sort(1).values
        scores = activate(gather_rows(cls_score, candidates, channels).float())
    else:
        candidates = None
        scores = activate(maps.permute(0, 3, 4, 1, 2).flatten(1, 3).float())  # (B, P, C)
    num_classes = scores.shape[-1]
    flat = scores.flatten(1)
    if nms_pre > 0 and is_symbolic(flat.shape[1]):
        top, order = at_least(flat, nms_pre, -1.0).topk(nms_pre)
        order = order.clamp(max=flat.shape[1] - 1)
    elif 0 < nms_pre < flat.shape[1]:
        top, order = stable_topk(flat, nms_pre)
    else:
        top, order = flat.sort(dim=1, descending=True, stable=True)
    if num_classes == 1:
        labels, position = torch.zeros_like(order), order
    else:
        labels, position = order % num_classes, order // num_classes
    return top, labels, position if candidates is None else candidates.gather(1, position)


def _padded_topk(
    cls_score: Tensor, channels: int, peaks: Tensor, nms_pre: int, activate: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`select_topk` of a level whose size is not known yet: where it has fewer priors than ``nms_pre``, the rest
    has a score of -1."""
    top, candidates = at_least(peaks, nms_pre, -torch.inf).topk(nms_pre)
    candidates = candidates.clamp(max=peaks.shape[1] - 1)
    scores = activate(gather_rows(cls_score, candidates, channels).float())
    scores = torch.where(top[..., None] > -torch.inf, scores, -1.0)
    best, order = scores.flatten(1).topk(nms_pre)
    num_classes = scores.shape[-1]
    return best, order % num_classes, candidates.gather(1, order // num_classes)


def best_candidates(
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    score_factors: Sequence[Tensor] | None,
    priors: Priors,
    channels: int,
    nms_pre: int,
    activate: Callable[[Tensor], Tensor],
    monotonic: bool,
) -> tuple[dict[str, Tensor], list[int]]:
    """The best ``nms_pre`` candidates of each level of every image, and how many each level gives.

    Args:
        cls_scores: Level maps ``[(B, A * channels, H, W)]`` of logits; ``bbox_preds`` and ``score_factors``, whose
            sigmoid is taken, alike.
        activate, monotonic: As in :func:`select_topk`.

    Returns:
        ``scores``, ``labels``, ``level_ids`` ``(B, K)``, ``preds (B, K, D)``, ``priors (B, K, 4)`` and, if given,
        ``score_factors (B, K)``.
    """
    levels = []
    for i, (cls_score, bbox_pred, grid) in enumerate(
        zip(cls_scores, bbox_preds, split_levels(priors.boxes, priors.level_sizes))
    ):
        scores, labels, index = select_topk(cls_score, channels, nms_pre, activate, monotonic)
        rows = index[..., None].expand(-1, -1, grid.shape[-1])
        level = dict(scores=scores, labels=labels, level_ids=torch.full_like(labels, i))
        level['preds'] = gather_rows(bbox_pred, index, bbox_pred.shape[1] * channels // cls_score.shape[1])
        level['priors'] = grid[0][index] if grid.shape[0] == 1 else grid.gather(1, rows)
        if score_factors is not None:
            level['score_factors'] = gather_rows(score_factors[i], index, 1)[..., 0].sigmoid()
        levels.append(level)
    fields = {name: torch.cat([level[name] for level in levels], 1) for name in levels[0]}
    return fields, [level['scores'].shape[1] for level in levels]


def detections(
    fields: dict[str, Any], test_cfg: TestCfg, metas: Sequence[dict], rescale: bool, with_nms: bool, groups: str
) -> list[InstanceData]:
    """Detections of each image from candidates ``{name: (B, K, ...)}``, best first.

    Args:
        fields: ``bboxes``, ``scores``, ``labels``, maybe ``score_factors``, which are multiplied in above the
            threshold, ``level_ids``, which are left out of the results, and ``keypoints``.
        rescale: Whether boxes are wanted in pixels of the original images.
        groups: Boxes suppress each other where they agree in this field.

    Raises:
        ValueError: if NMS is asked for and ``test_cfg`` has no ``nms``; if ``rescale`` finds no ``scale_factor``.
    """
    padded = padded_detections(fields, test_cfg, metas, rescale, with_nms, groups)
    if padded is not None:
        return split_images(*padded)
    results = []
    for b, (keep, meta) in enumerate(zip(fields['scores'] > test_cfg.score_thr, metas)):
        image = {name: value[b][keep] for name, value in fields.items()}
        results.append(image_detections(image, test_cfg, meta if rescale else None, with_nms, groups))
    return results


def padded_detections(
    fields: dict[str, Any], test_cfg: TestCfg, metas: Sequence[dict], rescale: bool, with_nms: bool, groups: str
) -> tuple[dict[str, Tensor], Tensor] | None:
    """:func:`detections` as ``{name: (B, M, ...)}`` and their number ``(B,)``, all images at once.

    The host waits for nothing. None where it does not apply: on the CPU, where it is faster to leave out first what
    scores too little, and for suppression that is not the greedy one.
    """
    boxes, scores, options = fields['bboxes'], fields['scores'], greedy_options(test_cfg.nms)
    if is_fixed_size():
        options = (dict(test_cfg.nms) if test_cfg.nms else None) if with_nms else {'type': 'outside'}
        if options is None:
            raise UserValueError("test_cfg has no 'nms', for example nms=dict(type='nms', iou_threshold=0.5)")
    elif not with_nms or options is None or isinstance(boxes, BaseBoxes) or not batches_images(scores):
        return None
    fields, valid = dict(fields), scores > test_cfg.score_thr
    if rescale:
        fields.update(rescaled_fields(fields, metas))
    if 'score_factors' in fields:
        fields['scores'] = scores * fields.pop('score_factors')
    if test_cfg.min_bbox_size >= 0:
        x1, y1, x2, y2 = fields['bboxes'].unbind(-1)
        valid = valid & (x2 - x1 > test_cfg.min_bbox_size) & (y2 - y1 > test_cfg.min_bbox_size)
    agnostic = options.pop('class_agnostic', False)
    return suppressed(fields, valid, options, None if agnostic else groups, test_cfg.max_per_img)


def suppressed(
    fields: dict[str, Tensor], valid: Tensor, options: dict, groups: str | None, limit: int | None
) -> tuple[dict[str, Tensor], Tensor]:
    """What greedy suppression keeps of candidates ``{name: (B, K, ...)}``, best first, and how many ``(B,)``."""
    if is_fixed_size():
        return fixed_suppressed(fields, valid, options, groups, limit)
    from mmdet.ops.padded_nms import padded_nms

    max_num = min((n for n in (options.pop('max_num', -1), limit or -1) if n > 0), default=-1)
    apart = None if groups is None else fields.get(groups)
    index, counts = padded_nms(fields['bboxes'], fields['scores'], apart, valid, max_num=max_num, **options)
    kept = {}
    for name, value in fields.items():
        if name != 'level_ids':
            shape = index.shape + (1,) * (value.dim() - 2)
            kept[name] = value.gather(1, index.view(shape).expand(-1, -1, *value.shape[2:]))
    return kept, counts


def split_images(kept: dict[str, Tensor], counts: Tensor | Sequence[int]) -> list[InstanceData]:
    """The results of each image; the host waits once, for the counts, if it does not have them."""
    if is_fixed_size() and isinstance(counts, Tensor):
        return [fixed_instances(kept, counts)]
    return [
        InstanceData(**{name: value[b, :count] for name, value in kept.items()})
        for b, count in enumerate(counts.tolist() if isinstance(counts, Tensor) else counts)
    ]


def greedy_options(nms: dict | None) -> dict | None:
    """Threshold, offset, ``max_num`` and ``class_agnostic`` of greedy suppression; None if ``nms`` is another."""
    options = dict(nms or {})
    if not nms or options.pop('type', 'nms') != 'nms':
        return None
    options.pop('split_thr', None)  # only a matter of memory
    if 'iou_thr' in options:
        options['iou_threshold'] = options.pop('iou_thr')
    known = {'iou_threshold', 'offset', 'max_num', 'class_agnostic'}
    return {'class_agnostic': False, **options} if set(options) <= known and 'iou_threshold' in options else None


def batches_images(like: Tensor) -> bool:
    """Whether the images of a batch are suppressed together: where waiting for the device costs more than computing."""
    return is_fixed_size() or like.device.type != 'cpu'


def image_detections(
    image: dict[str, Any], test_cfg: TestCfg, meta: dict | None, with_nms: bool = True, groups: str = 'labels'
) -> InstanceData:
    """The end of :func:`detections` for one image, whose candidates are ``{name: (K, ...)}`` above the threshold.

    Args:
        meta: Has the ``scale_factor`` by which boxes are divided; None to leave them as they are.
    """
    kind, boxes = type(image['bboxes']), image['bboxes']
    image['bboxes'] = boxes.tensor if isinstance(boxes, BaseBoxes) else boxes
    if meta is not None:
        rescale_fields(image, meta)
    if 'score_factors' in image:
        image['scores'] = image['scores'] * image.pop('score_factors')
    if test_cfg.min_bbox_size >= 0:
        x1, y1, x2, y2 = image['bboxes'].unbind(-1)
        large = (x2 - x1 > test_cfg.min_bbox_size) & (y2 - y1 > test_cfg.min_bbox_size)
        image = {name: value[large] for name, value in image.items()}
    if with_nms:
        if test_cfg.nms is None:
            raise UserValueError("test_cfg has no 'nms', for example nms=dict(type='nms', iou_threshold=0.5)")
        if len(image['scores']):
            from mmdet.ops import batched_nms

            # Candidates that know no group suppress each other all.
            apart = image[groups] if groups in image else torch.zeros_like(image['scores'], dtype=torch.long)
            kept, index = batched_nms(image['bboxes'], image['scores'], apart, test_cfg.nms)
            index = index[: test_cfg.max_per_img]
            image = {name: value[index] for name, value in image.items()}
            image['scores'] = kept[: test_cfg.max_per_img, -1]  # soft NMS lowers them
    image.pop('level_ids', None)
    if 'labels' not in image:  # proposals
        image['labels'] = torch.zeros_like(image['scores'], dtype=torch.long)
    if kind is not Tensor and issubclass(kind, BaseBoxes):
        image['bboxes'] = kind(image['bboxes'], clone=False)
    return InstanceData(**image)


def rescale_fields(image: dict[str, Any], meta: dict) -> None:
    """Bring ``bboxes``, and ``keypoints`` where there are any, to pixels of the original image."""
    fields = {name: value[None] for name, value in image.items() if name in ('bboxes', 'keypoints')}
    image.update({name: value[0] for name, value in rescaled_fields(fields, [meta]).items()})


def rescaled_fields(fields: dict[str, Tensor], metas: Sequence[dict]) -> dict[str, Tensor]:
    """``bboxes (B, K, 4)``, and ``keypoints (B, K, N, 2)`` where there are any, in pixels of the original images.

    Raises:
        ValueError: if an image's meta information has no ``scale_factor``.
    """
    if any(meta.get('scale_factor') is None for meta in metas):
        raise UserValueError("the image's meta information has no 'scale_factor', which rescale=True needs")
    factors = [meta['scale_factor'][:2] for meta in metas]
    found = dict(bboxes=fields['bboxes'] * constant([[[1 / w, 1 / h] * 2] for w, h in factors], fields['bboxes']))
    if 'keypoints' in fields:
        found['keypoints'] = fields['keypoints'] / constant([[[f]] for f in factors], fields['keypoints'])
    return found


def image_shapes(metas: Sequence[dict]) -> list[tuple[int, int]]:
    """Height and width of each network input without its padding."""
    return [tuple(meta['img_shape'][:2]) for meta in metas]
