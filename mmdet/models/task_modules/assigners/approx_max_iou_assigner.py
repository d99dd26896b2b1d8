from __future__ import annotations

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import by_batch
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import get_box_tensor

from .assign_result import AssignResult
from .base_assigner import BaseAssigner
from .max_iou_assigner import MaxIoUAssigner


@TASK_UTILS.register_module()
class ApproxMaxIoUAssigner(MaxIoUAssigner):
    """``MaxIoUAssigner`` whose overlap of a prior is the best of its approximations (Guided Anchoring, Sec. 3.4).

    Args of ``assign_batch``: ``approxs (1 or B, P, A, 4)``. Ignored regions are compared with the priors themselves.
    """

    @by_batch
    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs,
    ) -> AssignResult:
        """``pred_instances`` has ``priors (P, 4)`` and ``approxs (P * A, 4)``, those of a prior together."""
        count, approxs = len(pred_instances.priors), get_box_tensor(pred_instances.approxs)
        approxs = approxs.reshape(count, -1, 4) if count else approxs.new_zeros(1, 1, 4)
        return BaseAssigner.assign(
            self,
            InstanceData(priors=pred_instances.priors),
            gt_instances,
            gt_instances_ignore,
            approxs=approxs[None],
            **kwargs,
        )

    def overlaps(self, gt_boxes: Tensor, boxes: Tensor, *, approxs: Tensor, **kwargs) -> Tensor:
        best = None
        for approx in approxs.expand(len(boxes), -1, -1, -1).float().unbind(2):
            overlap = self.iou_calculator(gt_boxes, approx)
            best = overlap if best is None else torch.maximum(best, overlap)
        return best
