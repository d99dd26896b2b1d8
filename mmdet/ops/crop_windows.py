"""Targets of mask heads out of masks that are stored as windows of one bit a pixel.

Letters: K regions, h and w of a target.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .compiled import has_triton


def crop_windows(
    bits: Tensor, windows: Tensor, shapes: Tensor, boxes: Tensor, valid: Tensor, size: tuple[int, int]
) -> Tensor:
    """The share of each bin that a mask covers, ``(K, h, w)`` in single precision; the host waits for nothing.

    What RoIAlign (arXiv:1703.06870, Sec. 3) reads out of the whole bitmap, with as many samples in a bin as it has
    pixels: beyond the middle of an image's last pixels these repeat.

    Args:
        bits: ``(bytes,)`` uint8, see ``mmdet.structures.mask.MaskWindows``.
        windows: ``(K, 5)`` int32: x1, y1, width, height and first byte of each region's mask.
        shapes: ``(K, 2)`` height and width of its image.
        boxes: ``(K, 4)`` xyxy regions, cut to their image.
        valid: ``(K,)`` bool; other regions get zeros.
    """
    shapes, boxes = shapes.to(torch.int32), boxes.detach().float()
    return crop_bits(bits, windows.contiguous(), shapes.contiguous(), boxes.contiguous(), valid.contiguous(), *size)


@torch.library.custom_op(
    'mmdet::crop_bits',
    mutates_args=(),
    schema='(Tensor bits, Tensor windows, Tensor shapes, Tensor boxes, Tensor valid, int rows, int columns) -> Tensor',
)
def crop_bits(
    bits: Tensor, windows: Tensor, shapes: Tensor, boxes: Tensor, valid: Tensor, rows: int, columns: int
) -> Tensor:
    """:func:`crop_windows` of contiguous tensors."""
    if boxes.is_cuda and has_triton():
        from .mask_kernels import crop

        return crop(bits, windows, shapes, boxes, valid, rows, columns)
    return _mask_by_mask(bits, windows, shapes, boxes, valid, rows, columns)


@crop_bits.register_fake
def _(bits: Tensor, windows: Tensor, shapes: Tensor, boxes: Tensor, valid: Tensor, rows: int, columns: int) -> Tensor:
    return boxes.new_empty(len(boxes), rows, columns)


def _mask_by_mask(
    bits: Tensor, windows: Tensor, shapes: Tensor, boxes: Tensor, valid: Tensor, rows: int, columns: int
) -> Tensor:
    """By torchvision's RoIAlign, one call for each mask that is needed, drawn in its place on an empty image."""
    from torchvision.ops import roi_align

    out, canvas = boxes.new_zeros(len(boxes), rows, columns), boxes.new_zeros(0, 0)
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    index = valid.nonzero()[:, 0]
    kinds, kind = torch.cat([shapes, windows], 1)[index].unique(dim=0, return_inverse=True)
    for i, (*shape, x, y, width, height, start) in enumerate(kinds.tolist()):
        if list(canvas.shape) != shape:
            canvas = boxes.new_zeros(shape)
        members, stride = index[kind == i], -(-width // 8)
        packed = bits[start : start + height * stride].view(height, stride, 1)
        place = canvas[y : y + height, x : x + width]
        place.copy_(((packed >> shifts) & 1).flatten(1)[:, :width])
        regions = torch.cat([boxes.new_zeros(len(members), 1), boxes[members]], 1)
        out[members] = roi_align(canvas[None, None], regions, (rows, columns), 1.0, 0, True)[:, 0]
        place.zero_()
    return out
