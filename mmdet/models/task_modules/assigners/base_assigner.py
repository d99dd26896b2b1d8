"""The two faces of an assigner: one image by ``assign``, a padded batch by ``assign_batch``."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import Assignment, PaddedGT, Priors, by_batch, labels_of
from mmdet.models.core.gt import box_rows
from mmdet.structures.bbox import get_box_tensor

from .assign_result import AssignResult


class BaseAssigner(metaclass=ABCMeta):
    """Decides which ground truth each prior is trained for.

    An assigner of ours implements :meth:`assign_batch` and gets :meth:`assign` from it. Research code that overrides
    :meth:`assign` is called once for each image.
    """

    def assign_batch(
        self,
        priors: Priors | None,
        gt: PaddedGT,
        *,
        scores: Tensor | None = None,
        bboxes: Tensor | None = None,
        **kwargs,
    ) -> Assignment:
        """Assign a batch.

        Args:
            priors: None for rules that match queries by their predictions alone.
            scores: ``(B, P, C)`` predicted scores, for rules that look at predictions; ``(B, Q, C)`` of queries.
            bboxes: ``(B, P, 4)`` predicted boxes.
        """
        raise NotImplementedError(f'{type(self).__name__} implements neither assign_batch nor assign')

    @by_batch
    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs,
    ) -> AssignResult:
        """Assign one image.

        Args:
            pred_instances: ``priors (P, 4)``, which queries have not, and, where the rule looks at predictions,
                ``scores`` and ``bboxes``.
            gt_instances: ``bboxes`` and ``labels``.
            gt_instances_ignore: ``bboxes`` of regions that are neither object nor background.
        """
        predictions = {
            name: get_box_tensor(pred_instances.get(name))[None]
            for name in ('scores', 'bboxes')
            if pred_instances.get(name) is not None
        }
        priors, count = None, len(pred_instances)
        if 'priors' in pred_instances:
            boxes = box_rows(pred_instances.priors)
            count = len(boxes)
            levels = list(kwargs.pop('num_level_priors', None) or [count])
            valid = boxes.new_ones(1, count, dtype=torch.bool)
            if not count:  # no rule needs a case of its own: it sees one prior that is not valid
                boxes, valid, levels[0] = boxes.new_zeros(1, 4), valid.new_zeros(1, 1), 1
                predictions = {name: value.new_zeros(1, 1, value.shape[-1]) for name, value in predictions.items()}
            priors = Priors(boxes[None], valid, levels)
        gt = PaddedGT.from_instances([gt_instances], [gt_instances_ignore])
        result = self.assign_batch(priors, gt, **predictions, **kwargs)
        quality = result.quality[0, :count] if result.quality is not None else None
        single = AssignResult(len(gt_instances), result.gt_inds[0, :count], quality, labels_of(result, gt)[0, :count])
        for name, value in result.extras.items():
            single.set_extra_property(name, value[0, ..., :count])
        return single


def in_ignored_region(
    boxes: Tensor, gt: PaddedGT, threshold: float, calculator: Callable, of_region: bool = False
) -> Tensor:
    """``(B, P)`` bool: whether an ignored region covers more than ``threshold`` of the prior, or of itself.

    False everywhere where ``threshold`` is not positive or no image has such a region.
    """
    if threshold <= 0 or gt.ignored is None:
        return torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    regions = gt.ignored.float()
    if of_region:
        covered = calculator(regions, boxes, mode='iof')  # (B, I, P)
    else:
        covered = calculator(boxes, regions, mode='iof').transpose(1, 2)
    return covered.masked_fill(~gt.ignored_mask[..., None], 0).amax(1) > threshold
