from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import InstanceData

from mmdet.models.core import AssignResult, by_batch
from mmdet.registry import TASK_UTILS

from .mask_sampling_result import MaskSamplingResult
from .pseudo_sampler import PseudoSampler


@TASK_UTILS.register_module()
class MaskPseudoSampler(PseudoSampler):
    """Takes every positive and every negative of the queries that are matched by their masks."""

    @by_batch
    def sample(  # type: ignore[override]
        self,
        assign_result: AssignResult,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        *args: Any,
        **kwargs: Any,
    ) -> MaskSamplingResult:
        """Positives and negatives of one image.

        Args:
            pred_instances: ``masks (Q, ...)``.
            gt_instances: ``masks (G, ...)``.
        """
        inds, masks = assign_result.gt_inds, pred_instances.masks
        flags = torch.zeros(len(masks), dtype=torch.uint8, device=masks.device)
        places = [mask.nonzero().flatten() for mask in (inds > 0, inds == 0)]
        return MaskSamplingResult(*places, masks, gt_instances.masks, assign_result, flags, avg_factor_with_neg=False)
