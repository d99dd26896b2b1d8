"""Instance masks: cut out for training, pasted for results.

Letters: B images, S slots, N masks, h and w of a mask head, H and W of an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

from mmdet.errors import UserValueError
from mmdet.ops.compiled import has_triton
from mmdet.ops.crop_windows import crop_windows
from mmdet.structures.mask import BaseInstanceMasks, BitmapMasks
from mmdet.structures.mask.mask_target import mask_target_single
from mmdet.structures.mask.utils import encode_window
from mmdet.structures.mask.windows import MaskWindows, join, move_together

from .constants import constant
from .gt import pad_batch

# Pixels in single precision that are pasted at once on a device other than the CPU: 128 MiB with its sampling grid.
PASTE_BUDGET = 8 * 1024**2


class HostRegions:
    """Regions on their way to the host, which draws the masks of polygons.

    From a GPU they travel while the host goes on. It waits where it reads them, for what the GPU had to do before.

    Args:
        boxes: ``(B, S, 4)`` regions with 0-based ground truths ``gt_inds (B, S)`` and ``pos (B, S)``, as for
            :func:`crop_masks`.
    """

    def __init__(self, boxes: Tensor, gt_inds: Tensor, pos: Tensor) -> None:
        rows = torch.cat([boxes.detach().float(), gt_inds[..., None].float(), pos[..., None].float()], -1)
        self._event = None
        if rows.is_cuda:
            self._rows = torch.empty(rows.shape, pin_memory=True).copy_(rows, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._rows = rows

    def read(self) -> Tensor:
        """``(B, S, 6)``: boxes, ground truths and whether each is a positive."""
        if self._event is not None:
            self._event.synchronize()
        return self._rows


def crop_masks(
    boxes: Tensor, gt_inds: Tensor, pos: Tensor, gt_masks: Sequence, cfg: dict, host: HostRegions | None = None
) -> Tensor:
    """Target masks ``(B, S, h, w)`` of regions ``(B, S, 4)``: 1 where the ground truth covers at least half a bin.

    Bitmaps of 0 and 1 and tensors are cut out on the device of the boxes, for which the host does not wait. Polygons
    are drawn by the host in the very size of the target, after one copy of the regions to it; so are bitmaps of other
    values.

    Args:
        gt_inds: ``(B, S)`` 0-based ground truth of each region.
        pos: ``(B, S)`` bool; other regions get zeros.
        gt_masks: Masks of each image: ``BitmapMasks``, ``PolygonMasks`` or a tensor ``(N, H, W)``.
        cfg: ``mask_size`` and, to keep fractions, ``soft_mask_target``.
        host: The regions, if they were sent to the host before.
    """
    size = _pair(cfg['mask_size'])
    windows = [windows_of(masks, boxes.device) for masks in gt_masks]
    drawn = [b for b, part in enumerate(windows) if part is None]
    if len(drawn) == len(windows):
        return _draw(host or HostRegions(boxes, gt_inds, pos), range(len(windows)), gt_masks, cfg, boxes)
    bits, tables = joined_windows(windows, gt_masks, boxes.device)
    rows = tables.gather(1, gt_inds[..., None].expand(-1, -1, 5))
    shapes = constant([mask_size(masks) for masks in gt_masks], like=boxes)  # (B, 2): height, width
    inside = boxes.detach().clamp(min=0).minimum(shapes.flip(1).repeat(1, 2)[:, None])
    every = shapes[:, None].expand(-1, boxes.shape[1], -1)
    rows, every, inside, valid = (value.flatten(0, 1) for value in (rows, every, inside, pos))
    targets = crop_windows(bits, rows, every, inside, valid, size).unflatten(0, pos.shape)
    targets = targets.to(boxes.dtype) if cfg.get('soft_mask_target', False) else (targets >= 0.5).to(boxes.dtype)
    if drawn:
        part = _draw(host or HostRegions(boxes, gt_inds, pos), drawn, gt_masks, cfg, boxes)
        for b, target in zip(drawn, part, strict=True):
            targets[b] = target
    return targets


def joined_windows(
    parts: Sequence[MaskWindows | None], gt_masks: Sequence, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The bits of all images and their windows ``(B, G, 5)``, without pixels where :func:`windows_of` had none."""
    nothing = lambda masks: torch.zeros(len(masks), 5, dtype=torch.int32, device=device)
    filled = [
        MaskWindows(torch.zeros(0, dtype=torch.uint8, device=device), nothing(masks)) if part is None else part
        for part, masks in zip(parts, gt_masks, strict=True)
    ]
    bits, tables = join(filled)
    return bits, pad_batch(tables)


def windows_of(masks: BaseInstanceMasks | Tensor, device: torch.device) -> MaskWindows | None:
    """The windows of bitmaps of 0 and 1, on ``device``; None of other masks."""
    if isinstance(masks, Tensor):
        return MaskWindows.from_tensor(masks.to(device, non_blocking=True))
    if not isinstance(masks, BitmapMasks):
        return None
    windows = masks.packed().windows
    if windows is None or windows.bits.device == device:
        return windows
    return move_together([windows], device)[0]


def mask_size(masks: BaseInstanceMasks | Tensor) -> tuple[int, int]:
    """Height and width of the image."""
    return (masks.shape[1], masks.shape[2]) if isinstance(masks, Tensor) else (masks.height, masks.width)


def _draw(regions: HostRegions, images: Sequence[int], gt_masks: Sequence, cfg: dict, like: Tensor) -> Tensor:
    """:func:`crop_masks` of some images by the masks themselves, on the host."""
    rows = regions.read()[list(images)]
    targets = torch.zeros(*rows.shape[:2], *_pair(cfg['mask_size']))
    for target, part, b in zip(targets, rows, images, strict=True):
        keep = part[:, 5].nonzero()[:, 0]
        if len(keep):
            target[keep] = mask_target_single(part[keep, :4], part[keep, 4].long(), gt_masks[b], cfg)
    if like.is_cuda:
        targets = targets.pin_memory()
    return targets.to(like.device, like.dtype, non_blocking=True)


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


def stretched(masks: Tensor, boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Probabilities ``(..., h, w)`` within boxes ``(..., 4)`` at all pixels of an image, ``(..., H, W)``; 0 outside."""
    found = _sample(masks.flatten(0, -3), boxes.float().flatten(0, -2), (0, shape[0]), (0, shape[1]))
    return found.unflatten(0, masks.shape[:-2])


def _windows(boxes: Tensor, shape: tuple[int, int]) -> list[list[int]]:
    """x1 y1 x2 y2 of the pixels that a mask stretched over each box can reach, within an image of ``shape``."""
    low, high = boxes[:, :2].floor() - 1, boxes[:, 2:].ceil() + 1
    limit = boxes.new_tensor([shape[1], shape[0]])
    return torch.cat([low, high], 1).nan_to_num(0).clamp(min=0).minimum(limit.repeat(2)).long().tolist()


def paste_masks(
    masks: Tensor, boxes: Tensor, shape: tuple[int, int], threshold: float, budget: int = PASTE_BUDGET
) -> Tensor:
    """Probabilities ``(N, h, w)`` within boxes ``(N, 4)`` as masks ``(N, H, W)`` of the image.

    bool where the probability reaches ``threshold``; at a negative threshold uint8, 0 to 255. Works through the masks
    in parts of ``budget`` pixels; on the CPU, and on a GPU with Triton, only where a box lies. The parts do not change
    the result.
    """
    if _has_kernels(masks):
        return paste_batch(masks, boxes, [len(masks)], [shape], threshold)[0]
    height, width = shape
    out = torch.zeros(
        len(masks), height, width, dtype=torch.bool if threshold >= 0 else torch.uint8, device=masks.device
    )
    finish = (lambda part: part >= threshold) if threshold >= 0 else (lambda part: (part * 255).to(torch.uint8))
    boxes = boxes.float()
    if masks.device.type == 'cpu':
        for i, (x1, y1, x2, y2) in enumerate(_windows(boxes, shape)):
            if x2 > x1 and y2 > y1:
                part = _sample(masks[i : i + 1], boxes[i : i + 1], (y1, y2), (x1, x2))
                out[i, y1:y2, x1:x2] = finish(part)[0]
        return out
    step = max(1, budget // max(1, height * width))
    for start in range(0, len(masks), step):
        rows = slice(start, start + step)
        out[rows] = finish(_sample(masks[rows], boxes[rows], (0, height), (0, width)))
    return out


def _has_kernels(masks: Tensor) -> bool:
    return masks.is_cuda and type(masks) is Tensor and has_triton()


def paste_batch(
    masks: Tensor, boxes: Tensor, counts: Sequence[int], shapes: Sequence[tuple[int, int]], threshold: float
) -> list[Tensor]:
    """:func:`paste_masks` of the masks of several images, ``counts`` of each: on a GPU in one go, within the boxes."""
    if not _has_kernels(masks):
        parts = zip(masks.split(list(counts)), boxes.split(list(counts)), shapes, strict=True)
        return [paste_masks(mask, box, shape, threshold) for mask, box, shape in parts]
    from mmdet.ops.mask_kernels import TILE, paste

    number, sides = np.array(counts, np.int64), np.array(shapes, np.int64).reshape(-1, 2)
    area = sides.prod(1)
    starts = [0, *(number * area).cumsum().tolist()]
    image = np.repeat(np.arange(len(number)), number)  # of each mask
    within = np.arange(len(image)) - (number.cumsum() - number)[image]
    places = np.stack([np.array(starts)[image] + within * area[image], *sides[image].T], 1)
    tiles = int((-(-sides // np.array(TILE))).prod(1).max(initial=0))
    where = torch.from_numpy(places).to(masks.device, non_blocking=True)
    flat = paste(masks.float().contiguous(), boxes.float().contiguous(), where, starts[-1], tiles, float(threshold))
    flat = flat.view(torch.bool) if threshold >= 0 else flat
    return [
        flat[start:stop].view(count, *shape)
        for start, stop, count, shape in zip(starts[:-1], starts[1:], counts, shapes, strict=True)
    ]


def paste_rle(
    masks: Tensor, boxes: Tensor, counts: Sequence[int], shapes: Sequence[tuple[int, int]], threshold: float
) -> list[list[dict]]:
    """COCO's run-length codes of what :func:`paste_batch` gives, without a mask of an image's size.

    The host waits once, for the small masks of all images.
    """
    if threshold < 0:
        raise UserValueError(f'run-length codes need a threshold of at least 0, not {threshold}')
    together = torch.cat([masks.flatten(1).float(), boxes.float()], 1).cpu()
    small, boxes = together[:, :-4].unflatten(1, masks.shape[1:]), together[:, -4:]
    codes: list[list[dict]] = []
    for part, box, shape in zip(small.split(list(counts)), boxes.split(list(counts)), shapes, strict=True):
        codes.append([])
        for i, (x1, y1, x2, y2) in enumerate(_windows(box, shape)):
            if x2 > x1 and y2 > y1:
                window = (_sample(part[i : i + 1], box[i : i + 1], (y1, y2), (x1, x2))[0] >= threshold).numpy()
            else:
                window = np.zeros((0, 0), bool)
            codes[-1].append(encode_window(window, x1, y1, shape))
    return codes


def resized_masks(
    logits: Tensor, size: tuple[int, int], meta: dict, rescale: bool, threshold: float = 0.5, budget: int = PASTE_BUDGET
) -> Tensor:
    """``(N, H, W)`` bool, of the original image if ``rescale``, else of the input without padding.

    Args:
        logits: ``(N, h, w)`` of the padded input.
        size: Height and width of the padded input.
        threshold: The least probability inside.
        budget: Pixels that are enlarged at once.
    """
    shape = tuple(meta['img_shape'][:2])
    target = tuple(meta['ori_shape'][:2]) if rescale else shape
    least = math.log(threshold / (1 - threshold)) if 0 < threshold < 1 else math.copysign(math.inf, threshold - 0.5)
    if not len(logits):
        return logits.new_zeros(0, *target, dtype=torch.bool)
    parts = []
    for part in logits[None].split(max(1, budget // max(1, max(size[0] * size[1], target[0] * target[1]))), 1):
        if shape != tuple(size):
            part = F.interpolate(part, size, mode='bilinear', align_corners=False)[..., : shape[0], : shape[1]]
        if part.shape[-2:] != target:
            part = F.interpolate(part, target, mode='bilinear', align_corners=False)
        parts.append(part[0] > least)
    return torch.cat(parts)
