"""The box that each prior overlaps most, without a matrix of overlaps.

Letters: B images, G boxes, P priors.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op(
    'mmdet::match_boxes',
    mutates_args=(),
    schema=(
        '(Tensor priors, Tensor usable, Tensor boxes, Tensor mask, float min_overlap, bool claims)'
        ' -> (Tensor, Tensor, Tensor)'
    ),
)
def match_boxes(
    priors: Tensor, usable: Tensor, boxes: Tensor, mask: Tensor, min_overlap: float, claims: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Matches priors with boxes by their overlap (Faster R-CNN, Sec. 3.1.2), on a GPU with Triton.

    Args:
        priors: ``(1, P, 4)`` or ``(B, P, 4)`` in single precision.
        usable: ``(B, P)`` bool; no box claims others.
        boxes: ``(B, G, 4)`` in single precision, of which ``mask (B, G)`` tells the real ones.
        min_overlap: Overlap that a box's best prior needs to be claimed; there must be one at all.
        claims: Whether boxes claim priors.

    Returns:
        The highest overlap ``(B, P)``, the first box that has it, int32 ``(B, P)``, and the last box, counted from 1,
        that claims the prior as its best or as one of several equal ones, int32 ``(B, P)``, 0 without such a box.
    """
    from .match_boxes_kernel import launch

    return launch(priors, usable, boxes, mask, min_overlap, claims)


@match_boxes.register_fake
def _(
    priors: Tensor, usable: Tensor, boxes: Tensor, mask: Tensor, min_overlap: float, claims: bool
) -> tuple[Tensor, Tensor, Tensor]:
    like = lambda kind: torch.empty_like(usable, dtype=kind, memory_format=torch.contiguous_format)
    return like(torch.float32), like(torch.int32), like(torch.int32)
