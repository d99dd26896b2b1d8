"""Several ground truths for each proposal (CrowdDet, arXiv:2003.09163, Sec. 3.2).

Letters: B images, G padded ground truths, I padded ignored regions, N proposals, P = N + G + I candidates, M instances.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import Assignment, AssignResult, PaddedGT, Priors, by_batch, stable_topk
from mmdet.models.core.gt import box_rows
from mmdet.registry import TASK_UTILS

from .max_iou_assigner import MaxIoUAssigner


def with_objects(priors: Priors, gt: PaddedGT) -> Priors:
    """The candidates of a batch, ``(B, P, 4)``: proposals, then ground truths, then ignored regions."""
    boxes, valid = [priors.boxes.expand(len(gt.mask), -1, -1).float(), gt.boxes.float()], [priors.valid, gt.mask]
    if gt.ignored is not None and gt.ignored_mask is not None:
        boxes.append(gt.ignored.float())
        valid.append(gt.ignored_mask)
    sizes = [part.shape[1] for part in boxes]
    return Priors(torch.cat(boxes, 1), torch.cat([part.expand(len(gt.mask), -1) for part in valid], 1), sizes)


@TASK_UTILS.register_module()
class MultiInstanceAssigner(MaxIoUAssigner):
    """Each candidate gets the ``num_instance`` ground truths that it overlaps most, each positive from ``pos_iou_thr``.

    Objects and ignored regions are candidates themselves. An instance that covers no object well and is inside an
    ignored region by ``neg_iou_thr`` of the candidate or more is ignored.
    """

    def __init__(self, num_instance: int = 2, **kwargs) -> None:
        super().__init__(**kwargs)
        self.num_instance = num_instance

    def assign_batch(self, priors: Priors, gt: PaddedGT, *, scores=None, bboxes=None, **kwargs) -> Assignment:
        """``gt_inds`` and ``quality`` ``(B, P)`` are of the best instance; ``extras`` have ``instance_inds`` and
        ``instance_overlaps`` ``(B, M, P)`` of all, with the same meaning."""
        candidates = with_objects(priors, gt)
        overlaps = self.iou_calculator(candidates.boxes, gt.boxes.float())  # (B, P, G)
        overlaps, index = self._most(overlaps, gt.mask)
        if gt.ignored is not None and gt.ignored_mask is not None:
            covered, _ = self._most(
                self.iou_calculator(candidates.boxes, gt.ignored.float(), mode='iof'), gt.ignored_mask
            )
        else:
            covered = torch.zeros_like(overlaps)
        by_region = (overlaps < self.pos_iou_thr) & (covered > overlaps)
        best = torch.where(by_region, covered, overlaps)
        inds = torch.where(best < self.neg_iou_thr, 0, -1)
        inds = torch.where((overlaps >= self.pos_iou_thr), index + 1, inds).masked_fill(
            ~candidates.valid[..., None], -1
        )
        inds, best = inds.transpose(1, 2), best.transpose(1, 2)
        return Assignment(inds[:, 0], best[:, 0], dict(instance_inds=inds, instance_overlaps=best))

    def _most(self, overlaps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The ``(B, P, M)`` highest overlaps, 0 where there are fewer, and with what they are."""
        found = stable_topk(overlaps.masked_fill(~mask[:, None], 0), self.num_instance)
        missing = self.num_instance - found[0].shape[-1]
        return F.pad(found[0], (0, missing)), F.pad(found[1], (0, missing))

    @by_batch
    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs,
    ) -> AssignResult:
        """Assign the candidates of one image.

        Returns:
            0-based ``gt_inds``, ``max_overlaps`` and ``labels`` ``(P, M)``; labels are 1 for objects, 0 for background
            and -1 for what is ignored, and alone say which ``gt_inds`` mean something.
        """
        boxes = box_rows(pred_instances.priors)
        priors = Priors(boxes[None], boxes.new_ones(1, len(boxes), dtype=torch.bool), [len(boxes)])
        gt = PaddedGT.from_instances([gt_instances], [gt_instances_ignore])
        extras = self.assign_batch(priors, gt, **kwargs).extras
        rows = with_objects(priors, gt).valid[0]
        inds, overlaps = (extras[name][0].T[rows] for name in ('instance_inds', 'instance_overlaps'))
        count = len(gt_instances) + (0 if gt_instances_ignore is None else len(gt_instances_ignore))
        return AssignResult(count, (inds - 1).clamp(min=0), overlaps, inds.clamp(max=1))
