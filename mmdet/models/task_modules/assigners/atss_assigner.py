"""Positives by the statistics of candidates (ATSS, arXiv:1912.02424, Alg. 1).

Letters: B images, G padded ground truths, P priors of all levels, K candidates of a ground truth.
"""

from __future__ import annotations

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import Assignment, PaddedGT, Priors, best_of_candidates, by_batch, stable_topk
from mmdet.registry import TASK_UTILS

from .assign_result import AssignResult
from .base_assigner import BaseAssigner, in_ignored_region

# A prior's centre must lie this far inside the box, in pixels.
MARGIN = 0.01


def bbox_center_distance(bboxes: Tensor, priors: Tensor) -> Tensor:
    """Distances (P, G) between the centres of priors (P, 4) and boxes (G, 4), in pixels."""
    boxes, own = ((corners[:, :2] + corners[:, 2:]) / 2 for corners in (bboxes, priors))
    return (own[:, None] - boxes[None]).norm(dim=-1)


@TASK_UTILS.register_module()
class ATSSAssigner(BaseAssigner):
    """The ``topk`` priors nearest to a box's centre on each level are its candidates; positive are those whose overlap
    reaches the candidates' mean plus standard deviation, with the centre inside the box.

    Args:
        alpha: With it the overlap of predicted boxes to this power, times the class score to ``1 - alpha``, stands for
            the overlap (DDOD, arXiv:2107.02963, Sec. 3.2).
        ignore_iof_thr: Priors covered by ignored regions by more than this fraction are ignored; off if not positive.
    """

    def __init__(
        self,
        topk: int,
        alpha: float | None = None,
        iou_calculator: dict = dict(type='BboxOverlaps2D'),
        ignore_iof_thr: float = -1,
    ) -> None:
        self.topk, self.alpha, self.ignore_iof_thr = topk, alpha, ignore_iof_thr
        self.iou_calculator = TASK_UTILS.build(iou_calculator)

    @by_batch
    def assign(
        self,
        pred_instances: InstanceData,
        num_level_priors: list[int],
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
    ) -> AssignResult:
        return super().assign(
            pred_instances, gt_instances, gt_instances_ignore, num_level_priors=list(num_level_priors)
        )

    @torch.no_grad()
    def assign_batch(self, priors: Priors, gt: PaddedGT, *, scores=None, bboxes=None, **kwargs) -> Assignment:
        boxes = priors.expanded().float()
        usable = priors.valid & ~in_ignored_region(boxes, gt, self.ignore_iof_thr, self.iou_calculator)
        candidates = nearest_by_level(boxes, usable, gt, priors.level_sizes, self.topk)
        seen = usable.gather(1, candidates.flatten(1)).view_as(candidates)
        centers, overlaps = self._overlaps(boxes, gt, candidates, scores, bboxes)

        positive = (overlaps >= self._threshold(overlaps, seen)) & inside(centers, gt) & seen & gt.mask[..., None]
        inds, quality = best_of_candidates(candidates, overlaps, positive, boxes.shape[1])
        return Assignment(inds.masked_fill(~usable, -1), quality)

    def _threshold(self, overlaps: Tensor, seen: Tensor) -> Tensor | float:
        """``(B, G, 1)`` mean plus standard deviation of the overlaps ``(B, G, K)`` over the candidates that exist."""
        count = seen.sum(-1, keepdim=True)
        mean = (overlaps * seen).sum(-1, keepdim=True) / count
        return mean + (((overlaps - mean) ** 2 * seen).sum(-1, keepdim=True) / (count - 1)).sqrt()

    def _overlaps(
        self, boxes: Tensor, gt: PaddedGT, candidates: Tensor, scores: Tensor | None, bboxes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Centres ``(B, G, K, 2)`` of the candidates and their overlap ``(B, G, K)`` with the ground truth."""
        prior = gather_boxes(boxes, candidates)
        centers = (prior[..., :2] + prior[..., 2:]) / 2
        if self.alpha is None:
            return centers, self.iou_calculator(gt.boxes.float()[:, :, None], prior)[:, :, 0]
        if scores is None or bboxes is None:
            raise UserValueError('ATSSAssigner with alpha needs the predicted scores and bboxes')
        overlap = self.iou_calculator(gt.boxes.float()[:, :, None], gather_boxes(bboxes.detach(), candidates))[:, :, 0]
        column = gt.labels[..., None].expand_as(candidates)
        flat = candidates * scores.shape[2] + column
        score = scores.detach().sigmoid().flatten(1).gather(1, flat.flatten(1)).view_as(overlap)
        return centers, score ** (1 - self.alpha) * overlap**self.alpha


@TASK_UTILS.register_module()
class TopkAssigner(ATSSAssigner):
    """All candidates of ATSS whose centre lies inside the box are positive, whatever their overlap.

    An ablation of the authors' code: what the statistics add to the ``topk`` nearest priors of each level.
    """

    def _threshold(self, overlaps: Tensor, seen: Tensor) -> float:
        return 0.0


def gather_boxes(boxes: Tensor, candidates: Tensor) -> Tensor:
    """Rows ``(B, G, K, 4)`` of ``boxes (B, P, 4)`` at ``candidates (B, G, K)``."""
    flat = candidates.flatten(1)[..., None].expand(-1, -1, boxes.shape[-1])
    return boxes.gather(1, flat).unflatten(1, candidates.shape[1:])


def inside(centers: Tensor, gt: PaddedGT) -> Tensor:
    """``(B, G, K)`` bool: whether ``centers (B, G, K, 2)`` lie inside their ground truth."""
    boxes = gt.boxes[:, :, None].float()
    return torch.cat([centers - boxes[..., :2], boxes[..., 2:] - centers], -1).amin(-1) > MARGIN


def nearest_by_level(boxes: Tensor, usable: Tensor, gt: PaddedGT, sizes: list[int], topk: int) -> Tensor:
    """Indices ``(B, G, K)`` of the ``topk`` usable priors of each level nearest to each box, centre to centre.

    Of equally near priors, such as the anchors of one place, the first ones.
    """
    x, y = ((boxes[..., i] + boxes[..., i + 2]) / 2 for i in (0, 1))
    far = torch.where(usable, 0.0, torch.inf)
    parts = []
    for part in gt.chunks(boxes.shape[1], matrices=2):
        cx, cy = ((gt.boxes[:, part, i] + gt.boxes[:, part, i + 2]).float()[..., None] / 2 for i in (0, 1))
        levels, start = [], 0
        for size in sizes:
            stop = start + size
            distance = (x[:, None, start:stop] - cx).square_().add_((y[:, None, start:stop] - cy).square_())
            distance += far[:, None, start:stop]
            levels.append(stable_topk(distance, topk, largest=False)[1] + start)
            start = stop
        parts.append(torch.cat(levels, -1))
    return torch.cat(parts, 1)
