from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import Assignment, AssignResult, PaddedGT, Priors, by_batch, draw
from mmdet.models.core.gt import box_rows
from mmdet.registry import TASK_UTILS

from ..assigners.multi_instance_assigner import with_objects
from .multi_instance_sampling_result import InstanceSets, MultiInstanceSamplingResult
from .random_sampler import RandomSampler


@TASK_UTILS.register_module()
class MultiInsRandomSampler(RandomSampler):
    """Candidates of :class:`MultiInstanceAssigner` at random; their first instance says whether they are positive.

    ``add_gt_as_proposals`` changes nothing: the assigner has made candidates of the ground truths.
    """

    def sample_batch(
        self,
        priors: Priors,
        assignment: Assignment,
        gt: PaddedGT,
        feats: Sequence[Tensor] = (),
        packed: bool = False,
    ) -> InstanceSets:
        candidates, extras = with_objects(priors, gt), assignment.extras
        proposals = priors.boxes.shape[1]
        is_gt = torch.zeros_like(candidates.valid)
        is_gt[:, proposals : proposals + gt.mask.shape[1]] = gt.mask
        slots = self.num if self.num >= 0 else candidates.boxes.shape[1]
        drawn = self.draw(assignment, boxes=candidates.boxes, gt=gt, feats=feats)
        return InstanceSets.of_instances(
            candidates.boxes, extras['instance_inds'].transpose(1, 2), is_gt, gt, drawn, slots, packed
        )

    @by_batch
    def sample(
        self, assign_result: AssignResult, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs
    ) -> MultiInstanceSamplingResult:
        """Draw from the ``priors`` of one image, its ground truths and ``batch_gt_instances_ignore``, a keyword."""
        ignored = kwargs.pop('batch_gt_instances_ignore', None)
        own = [box_rows(instances.bboxes) for instances in (gt_instances, ignored) if instances is not None]
        priors = torch.cat([box_rows(pred_instances.priors), *own])
        place = torch.arange(len(priors), device=priors.device) - len(pred_instances.priors)
        room = int(self.num * self.pos_fraction)
        pos = self.pos_sampler._sample_pos(assign_result, room, **kwargs).unique()
        room = self.num - len(pos)
        if self.neg_pos_ub >= 0:
            room = min(room, int(self.neg_pos_ub * max(1, len(pos))))
        neg = self.neg_sampler._sample_neg(assign_result, room, **kwargs).unique()
        flags = ((place >= 0) & (place < len(gt_instances))).to(torch.uint8)
        return MultiInstanceSamplingResult(
            pos, neg, priors, torch.cat(own), assign_result, flags, avg_factor_with_neg=self.avg_factor_with_neg
        )

    @by_batch
    def _sample_pos(self, assign_result: AssignResult, num_expected: int, **kwargs) -> Tensor:
        return _of_first(assign_result, 1, num_expected)

    @by_batch
    def _sample_neg(self, assign_result: AssignResult, num_expected: int, **kwargs) -> Tensor:
        return _of_first(assign_result, 0, num_expected)


def _of_first(assign_result: AssignResult, label: int, limit: int) -> Tensor:
    """At most ``limit`` candidates whose first instance has ``label``."""
    assert assign_result.labels is not None
    index, valid = draw(assign_result.labels[None, :, 0] == label, limit)
    return index[valid]
