"""Detections on the tiles of a picture that is too large for the network, as detections on the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
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


# --------------------------------------------------------------------------------------------------------------------
# Tiles
def predict_tiles(
    predict: Callable[[list[np.ndarray]], Sequence[DetDataSample]],
    picture: np.ndarray,
    size: int | tuple[int, int],
    overlap: float = 0.25,
    batch: int = 1,
) -> DetDataSample:
    """Detections on a picture (h, w, channels) that is cut into tiles of a width and height.

    Args:
        predict: Called with at most ``batch`` tiles.
    """
    windows = tiles_of(picture.shape[1], picture.shape[0], size, overlap)
    results: list[DetDataSample] = []
    for start in range(0, len(windows), batch):
        parts = [picture[y1:y2, x1:x2] for x1, y1, x2, y2 in windows[start : start + batch]]
        results += predict([np.ascontiguousarray(part) for part in parts])
    return merge_tiles(results, windows, (picture.shape[0], picture.shape[1]))


def tiles_of(
    width: int, height: int, size: int | tuple[int, int], overlap: float = 0.25
) -> list[tuple[int, int, int, int]]:
    """x1, y1, x2, y2 of tiles that cover a picture, all of one size, the last ones moved inside."""
    across, down = (size, size) if isinstance(size, int) else size
    if across < 1 or down < 1 or not 0 <= overlap < 1:
        raise UserValueError(f'tiles must have sides and an overlap from 0 to below 1, not {size} and {overlap}')

    def starts(length: int, side: int) -> list[int]:
        if length <= side:
            return [0]
        steps = math.ceil((length - side) / max(1, int(side * (1 - overlap))))
        return [round(step * (length - side) / steps) for step in range(steps + 1)]

    return [
        (x, y, min(x + across, width), min(y + down, height))
        for y in starts(height, down)
        for x in starts(width, across)
    ]


def merge_tiles(
    results: Sequence[DetDataSample],
    windows: Sequence[tuple[int, int, int, int]],
    shape: tuple[int, int],
    threshold: float = 0.5,
) -> DetDataSample:
    """Detections on a picture of ``shape`` (height, width) from those on its tiles.

    Two detections of a class in different tiles are one object if they agree where both tiles look: cut to the
    common part of the tiles, their boxes overlap by an IoU above the threshold. An object is the union of its parts,
    with the best of their scores.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    found = shift_predictions(results, [window[:2] for window in windows], shape).cpu()
    merged = results[0].clone()
    merged.set_metainfo(dict(ori_shape=shape, img_shape=shape))
    boxes = get_box_tensor(found.bboxes).float()
    count = len(boxes)
    tile = torch.repeat_interleave(torch.arange(len(results)), torch.tensor([len(r.pred_instances) for r in results]))
    seen = torch.tensor(windows, dtype=torch.float32)[tile]
    pairs: list[Tensor] = []
    for i in range(count - 1):
        rest = slice(i + 1, count)
        zone = _common(seen[i], seen[rest])
        mine, other = _common(boxes[i], zone), _common(boxes[rest], zone)
        inner, total = _area(_common(mine, other)), _area(mine) + _area(other)
        same = (inner > threshold * (total - inner)) & (found.labels[rest] == found.labels[i]) & (tile[rest] != tile[i])
        partners = same.nonzero()[:, 0] + i + 1
        pairs.append(torch.stack([torch.full_like(partners, i), partners]))
    links = torch.cat(pairs, 1).numpy() if pairs else np.zeros((2, 0), dtype=int)
    graph = coo_matrix((np.ones(links.shape[1]), tuple(links)), shape=(count, count))
    groups = torch.from_numpy(connected_components(graph, directed=False)[1].astype(np.int64))
    order = found.scores.argsort(descending=True, stable=True)
    best: dict[int, int] = {}
    for i in order.tolist():
        best.setdefault(int(groups[i]), i)
    kept = found[torch.tensor(list(best.values()), dtype=torch.long)]
    for place, group in enumerate(best):
        members = groups == group
        if int(members.sum()) > 1:
            corners = boxes[members]
            kept.bboxes[place] = torch.cat([corners[:, :2].amin(0), corners[:, 2:].amax(0)])
            if 'masks' in kept:
                kept.masks[place] = found.masks[members].any(0)
    merged.pred_instances = kept
    return merged


def _common(a: Tensor, b: Tensor) -> Tensor:
    """Corners of what boxes have in common; the second is left of the first where that is nothing."""
    return torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], -1)


def _area(box: Tensor) -> Tensor:
    return (box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1)
