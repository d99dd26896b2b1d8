"""Whether research code replaced a method that knows the samples of a region head image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import ConfigDict
from torch import Tensor, cat, nn

from mmdet.models.core import empty_instances
from mmdet.structures.mask import encode_mask_results
from mmdet.utils import InstanceList

OF_ROI_HEADS = ('bbox_loss', 'mask_loss', '_random_jitter', '_mask_point_loss')
OF_HEADS = ('get_targets', '_get_targets_single', 'loss_and_target', 'refine_bboxes')
OF_PARTS = {
    'bbox_head': (*OF_HEADS, 'bucket_target', '_bucket_target_single'),
    'mask_head': OF_HEADS,
    'grid_head': ('get_targets', 'loss'),
    'mask_iou_head': ('get_targets', 'loss_and_target', '_get_area_ratio'),
    'point_head': OF_HEADS,
}


def knows_lists(roi_head: nn.Module) -> bool:
    """Whether a method that sees samples is not one of ours: only with packed slots do rows match its lists."""
    owners: list[tuple[Any, tuple[str, ...]]] = [(roi_head, OF_ROI_HEADS)]
    for name, joints in OF_PARTS.items():
        heads = getattr(roi_head, name, None)
        owners += [(head, joints) for head in (heads if isinstance(heads, nn.ModuleList) else [heads])]
    methods = [getattr(owner, name, None) for owner, names in owners for name in names]
    return any(method is not None and not hasattr(method, 'by_batch') for method in methods)


def targets_of_images(
    bbox_head: Any, sampling_results: Sequence, rcnn_train_cfg: ConfigDict, concat: bool
) -> tuple[Tensor | list[Tensor], ...]:
    """Targets by an own ``_get_targets_single``, joined or one list of each kind."""
    singles = [
        bbox_head._get_targets_single(*(getattr(result, n) for n in bbox_head.target_fields), cfg=rcnn_train_cfg)
        for result in sampling_results
    ]
    return tuple(cat(column) if concat else list(column) for column in zip(*singles))


def masks_of_each_image(
    mask_head: Any,
    mask_preds: Sequence[Tensor],
    results_list: InstanceList,
    metas: Sequence[dict],
    rcnn_test_cfg: ConfigDict,
    rescale: bool,
    activate_map: bool,
) -> InstanceList:
    """Detections with the masks of an own ``_predict_by_feat_single``, which images without objects do not meet."""
    for results, meta, preds in zip(results_list, metas, mask_preds):
        if len(results.bboxes):
            args = preds, results.bboxes, results.labels, meta, rcnn_test_cfg, rescale, activate_map
            results.masks = mask_head._predict_by_feat_single(*args)
        else:
            device, threshold = results.bboxes.device, rcnn_test_cfg.mask_thr_binary
            empty_instances([meta], device, 'mask', [results], mask_thr_binary=threshold)
        if rcnn_test_cfg.get('mask_format') == 'rle':
            results.masks = encode_mask_results(results.masks)
    return results_list
