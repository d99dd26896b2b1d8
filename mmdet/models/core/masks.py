"""Instance masks: cut out for training, pasted for results.

Letters: B images, S slots, N masks, h and w of a mask head, H and W of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

# Pixels in single precision that are pasted at once on a device other than the CPU: 128 MiB with its sampling grid.
PASTE_BUDGET = 8 * 1024**2


def crop_masks(boxes: Tensor, gt_inds: Tensor, pos: Tensor, gt_masks: Sequence, cfg: dict) -> Tensor:
    """Target masks ``(B, S, h, w)`` of regions ``(B, S, 4)``: 1 where the ground truth covers at least half a bin.

    Args:
        gt_inds: ``(B, S)`` 0-based ground truth of each region.
        pos: ``(B, S)`` bool; other regions get zeros.
        gt_masks: Masks of each image, ``BitmapMasks`` or ``PolygonMasks``.
        cfg: ``mask_size`` and, to keep fractions, ``soft_mask_target``.
    """
    from mmdet.structures.mask.mask_target import mask_target

    size = _pair(cfg['mask_size'])
    targets = boxes.new_zeros(*boxes.shape[:2], *size)
    for b, masks in enumerate(gt_masks):
        keep = pos[b].nonzero().flatten()
        if len(keep):
            targets[b, keep] = mask_target([boxes[b, keep]], [gt_inds[b, keep]], [masks], cfg).to(targets.dtype)
    return targets


def sampling_axis(start: Tensor, stop: Tensor, first: int, last: int) -> Tensor:
    """Where pixels ``first`` to ``last`` fall between ``start (n,)`` and ``stop (n,)``, -1 to 1: ``(n, pixels)``."""
    pixels = torch.arange(first, last, device=start.device, dtype=torch.float32) + 0.5
    return (pixels - start[:, None]) / (stop - start)[:, None] * 2 - 1


def _sample(masks: Tensor, boxes: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Masks ``(n, h, w)`` stretched over ``boxes (n, 4)``, on a window of the image: ``(n, rows, columns)``."""
    x1, y1, x2, y2 = boxes.unbind(1)
    x, y = sampling_axis(x1, x2, *columns), sampling_axis(y1, y2, *rows)
    # A box without extent divides by zero; it covers nothing.
    x, y = (axis.nan_to_num(nan=-2.0, posinf=2.0, neginf=-2.0) for axis in (x, y))
    grid = torch.stack([x[:, None].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x.shape[1])], -1)
    return F.grid_sample(masks[:, None].float(), grid, align_corners=False)[:, 0]


def paste_masks(
    masks: Tensor, boxes: Tensor, shape: tuple[int, int], threshold: float, budget: int = PASTE_BUDGET
) -> Tensor:
    """Probabilities ``(N, h, w)`` within boxes ``(N, 4)`` as masks ``(N, H, W)`` of the image.

    bool where the probability reaches ``threshold``; at a negative threshold uint8, 0 to 255. Works through the masks
    in parts of ``budget`` pixels, on the CPU only where a box lies. The parts do not change the result.
    """
    height, width = shape
    out = torch.zeros(
        len(masks), height, width, dtype=torch.bool if threshold >= 0 else torch.uint8, device=masks.device
    )
    finish = (lambda part: part >= threshold) if threshold >= 0 else (lambda part: (part * 255).to(torch.uint8))
    boxes = boxes.float()
    if masks.device.type == 'cpu':
        low, high = boxes[:, :2].floor() - 1, boxes[:, 2:].ceil() + 1
        limit = boxes.new_tensor([width, height])
        windows = torch.cat([low, high], 1).nan_to_num(0).clamp(min=0).minimum(limit.repeat(2)).long().tolist()
        for i, (x1, y1, x2, y2) in enumerate(windows):
            if x2 > x1 and y2 > y1:
                part = _sample(masks[i : i + 1], boxes[i : i + 1], (y1, y2), (x1, x2))
                out[i, y1:y2, x1:x2] = finish(part)[0]
        return out
    step = max(1, budget // max(1, height * width))
    for start in range(0, len(masks), step):
        rows = slice(start, start + step)
        out[rows] = finish(_sample(masks[rows], boxes[rows], (0, height), (0, width)))
    return out
