"""BoxInst (arXiv:2012.02310): masks learned from boxes.

Letters: B images, S slots, K neighbours of a pixel, h and w of the masks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import Slots, by_batch, in_parts, unfold_wo_center
from mmdet.registry import MODELS
from mmdet.utils import InstanceList

from .condinst_head import CondInstBboxHead, CondInstMaskHead


@MODELS.register_module()
class BoxInstBboxHead(CondInstBboxHead):
    """That of CondInst."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


@MODELS.register_module()
class BoxInstMaskHead(CondInstMaskHead):
    """CondInst's masks, of which two things are known: their extent along both axes (Sec. 3.1), and that neighbouring
    pixels of like colours belong together (Sec. 3.2).

    Args:
        pairwise_size, pairwise_dilation: Size of the neighbourhood of a pixel and the steps within it.
        warmup_iters: So many iterations the second loss grows to its weight.
    """

    learns_from_masks = False

    def __init__(
        self,
        *arg: Any,
        pairwise_size: int = 3,
        pairwise_dilation: int = 2,
        warmup_iters: int = 10000,
        **kwargs: Any,
    ) -> None:
        self.pairwise_size, self.pairwise_dilation = pairwise_size, pairwise_dilation
        self.warmup_iters = warmup_iters
        super().__init__(*arg, **kwargs)

    def get_pairwise_affinity(self, mask_logits: Tensor) -> Tensor:
        """``(n, K, h, w)``: minus the log of the probability that a pixel and its neighbour have one label (Eq. 4)."""
        inside, outside = F.logsigmoid(mask_logits)[:, None], F.logsigmoid(-mask_logits)[:, None]
        neighbours = [
            unfold_wo_center(value, self.pairwise_size, self.pairwise_dilation) for value in (inside, outside)
        ]
        return -torch.logaddexp(inside[:, :, None] + neighbours[0], outside[:, :, None] + neighbours[1])[:, 0]

    def loss_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self, mask_preds, batch_gt_instances, batch_img_metas, positive_infos, **kwargs: Any
    ) -> dict:
        """``loss_mask_project``, the mean over all positives, and ``loss_mask_pairwise``, that over all pairs."""
        preds, targets, similar, used = self._all_pairs(mask_preds, batch_gt_instances, positive_infos)
        similar = similar if similar.dim() == 5 else similar[:, :, None]  # of pictures without an object

        def extents(preds: Tensor, targets: Tensor) -> Tensor:
            across, down = (self._compare(preds.amax(axis), targets.amax(axis)) for axis in (2, 3))
            return across + down

        def pairs(preds: Tensor, similar: Tensor, used: Tensor) -> Tensor:
            affinity = self.get_pairwise_affinity(preds.flatten(0, 1)).unflatten(0, preds.shape[:2])
            return (affinity * similar).sum((2, 3, 4)) * used

        count = used.sum().clamp(min=1)
        size = len(preds) * preds[0, 0].numel() * 8 * (self.pairwise_size**2 - 1)
        close = in_parts(pairs, size, preds, similar, used).sum()
        number = (similar.sum((2, 3, 4)) * used).sum().clamp(min=1)
        iteration = MessageHub.get_current_instance().get_info('iter', 0)
        return dict(
            loss_mask_project=(extents(preds, targets) * used).sum() / count,
            loss_mask_pairwise=close / number * min(iteration / self.warmup_iters, 1.0),
        )

    def _pairs(self, mask_preds, gt_instances: InstanceList, infos) -> tuple[Tensor, ...]:
        """As CondInst's, and before the last which neighbours are of like colour ``(B, S, K, h, w)``, of pixels in the
        box."""
        preds, targets, used = super()._pairs(mask_preds, gt_instances, infos)
        similar = []
        for instances, inds, inside in zip(
            gt_instances, Slots.of(infos, ('pos_assigned_gt_inds',)).pos_assigned_gt_inds, targets
        ):
            pairs = instances.pairwise_masks
            pairs = pairs if len(pairs) else pairs.new_zeros(1, *pairs.shape[1:])
            similar.append(pairs.to(torch.uint8)[inds.clamp(max=len(pairs) - 1)] * inside[:, None])
        return preds, targets, torch.stack(similar), used

    @by_batch
    def _get_targets_single(  # type: ignore[override]  # one more target
        self, mask_preds: Tensor, gt_instances: InstanceData, positive_info: InstanceData
    ) -> tuple:
        """As CondInst's, and before the last which neighbours are of like colour ``(n, K, h, w)``."""
        found = super()._get_targets_single(mask_preds, gt_instances, positive_info)
        return found if found[1] is not None else (mask_preds, None, None, 0)
