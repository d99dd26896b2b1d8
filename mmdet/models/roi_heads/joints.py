"""Whether research code replaced a method that knows the samples of a region head image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import ConfigDict
from torch import Tensor, cat, nn

OF_ROI_HEADS = ('bbox_loss', 'mask_loss')
OF_HEADS = ('get_targets', '_get_targets_single', 'loss_and_target', 'refine_bboxes')


def knows_lists(roi_head: nn.Module) -> bool:
    """Whether a method that sees samples is not one of ours: only with packed slots do rows match its lists."""
    owners = [(roi_head, OF_ROI_HEADS)]
    for name in ('bbox_head', 'mask_head'):
        heads = getattr(roi_head, name, None)
        owners += [(head, OF_HEADS) for head in (heads if isinstance(heads, nn.ModuleList) else [heads])]
    methods = [getattr(owner, name, None) for owner, names in owners for name in names]
    return any(method is not None and not hasattr(method, 'by_batch') for method in methods)


def targets_of_images(
    bbox_head: Any, sampling_results: Sequence, rcnn_train_cfg: ConfigDict, concat: bool
) -> tuple[Tensor, ...] | tuple[list[Tensor], ...]:
    """Targets by an own ``_get_targets_single``, joined or one list of each kind."""
    singles = [
        bbox_head._get_targets_single(
            result.pos_priors, result.neg_priors, result.pos_gt_bboxes, result.pos_gt_labels, cfg=rcnn_train_cfg
        )
        for result in sampling_results
    ]
    return tuple(cat(column) if concat else list(column) for column in zip(*singles))
