"""Detections on the tiles of a picture that is too large for the network, as detections on the picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.ops import batched_nms
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor


def merge_results_by_nms(
    results: Sequence[DetDataSample],
    offsets: Sequence[Sequence[int]],
    src_image_shape: tuple[int, int],
    nms_cfg: dict,
) -> DetDataSample:
    """Detections on a picture, from those on its tiles; of one object in several tiles the best remains.

    Args:
        results: Predictions on each tile.
        offsets: x and y of the upper left corner of each tile in the picture.
        src_image_shape: Height and width of the picture.
        nms_cfg: As in ``test_cfg``.
    """
    shifted = shift_predictions(results, offsets, src_image_shape)
    boxes = get_box_tensor(shifted.bboxes)
    _, keep = batched_nms(boxes=boxes, scores=shifted.scores, idxs=shifted.labels, nms_cfg=nms_cfg)
    merged = results[0].clone()
    merged.pred_instances = shifted[keep]
    return merged


def shift_predictions(
    det_data_samples: Sequence[DetDataSample],
    offsets: Sequence[Sequence[int]],
    src_image_shape: tuple[int, int],
) -> InstanceData:
    """The instances of all tiles in pixels of the picture; see :func:`merge_results_by_nms`."""
    if len(det_data_samples) != len(offsets):
        raise UserValueError(f'there are {len(det_data_samples)} tiles, but {len(offsets)} offsets')
    parts = []
    for sample, (x, y) in zip(det_data_samples, offsets, strict=True):
        found = sample.pred_instances.clone()
        boxes = found.bboxes
        if isinstance(boxes, Tensor):
            found.bboxes = (
                shift_rbboxes(boxes, (x, y)) if boxes.shape[-1] == 5 else boxes + boxes.new_tensor([x, y] * 2)
            )
        else:
            boxes.translate_((x, y))
        if 'masks' in found:
            found.masks = _in_the_picture(found.masks, int(x), int(y), src_image_shape)
        parts.append(found)
    return InstanceData.cat(parts)


def shift_rbboxes(bboxes: Tensor, offset: Sequence[int]) -> Tensor:
    """Rotated boxes (N, 5), whose first two numbers are the center, moved by ``offset``."""
    return torch.cat([bboxes[:, :2] + bboxes.new_tensor(offset[:2]), bboxes[:, 2:]], 1)


def _in_the_picture(masks: Tensor, x: int, y: int, shape: tuple[int, int]) -> Tensor:
    """Masks (N, h, w) of a tile as masks of the picture; what hangs over its border is cut off."""
    canvas = masks.new_zeros(len(masks), *shape[:2])
    height, width = min(masks.shape[1], shape[0] - y), min(masks.shape[2], shape[1] - x)
    canvas[:, y : y + height, x : x + width] = masks[:, :height, :width]
    return canvas
