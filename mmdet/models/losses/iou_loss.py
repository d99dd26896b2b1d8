"""Losses on overlaps of aligned boxes: predictions and targets of shape (..., 4), x1 y1 x2 y2.

All of them are finite, and have finite gradients, for any finite boxes, so that masked elements may hold anything.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .smooth_l1_loss import smoothed
from .utils import WeightedLoss, column_weight, weighted_loss


@dataclass
class AlignedBoxes:
    """Sides ``(4, ...)`` of two aligned sets of boxes, of their intersections and of the boxes that enclose both."""

    pred: Tensor
    target: Tensor
    overlap: Tensor
    areas: Tensor
    enclose_width: Tensor
    enclose_height: Tensor

    @classmethod
    def of(cls, pred: Tensor, target: Tensor) -> AlignedBoxes:
        """Of boxes ``(..., 4)`` xyxy; predictions in half precision are widened."""
        if pred.dtype in (torch.float16, torch.bfloat16):
            pred = pred.float()  # squares of pixel coordinates leave the range of half precision
        # Sides first, so that x and y are computed together, from numbers that lie side by side.
        pred, target = (boxes.movedim(-1, 0).contiguous() for boxes in (pred, target.to(pred)))
        (pred_start, pred_end), (start, end) = pred.split(2), target.split(2)  # (2, ...)
        width, height = (torch.min(pred_end, end) - torch.max(pred_start, start)).clamp(min=0)
        pred_width, pred_height = pred_end - pred_start
        target_width, target_height = end - start
        enclose_width, enclose_height = (torch.max(pred_end, end) - torch.min(pred_start, start)).clamp(min=0)
        return cls(
            pred=pred,
            target=target,
            overlap=width * height,
            areas=pred_width * pred_height + target_width * target_height,
            enclose_width=enclose_width,
            enclose_height=enclose_height,
        )

    def sizes(self, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Width and height of predictions and targets, heights made positive by ``eps``."""
        (px1, py1, px2, py2), (tx1, ty1, tx2, ty2) = self.pred, self.target
        return px2 - px1, py2 - py1 + eps, tx2 - tx1, ty2 - ty1 + eps

    def center_shift(self) -> tuple[Tensor, Tensor]:
        """Twice the way from the centre of the prediction to that of the target."""
        (px1, py1, px2, py2), (tx1, ty1, tx2, ty2) = self.pred, self.target
        return tx1 + tx2 - px1 - px2, ty1 + ty2 - py1 - py2

    def iou(self, eps: float) -> Tensor:
        """With ``eps`` added to the union, which also keeps it below one."""
        union = self.areas - self.overlap
        return self.overlap / torch.where(union >= 0, union + eps, eps)

    def distance_ratio(self, eps: float) -> Tensor:
        """Squared distance of the centres over the squared diagonal of the enclosing box (Distance-IoU, Eq. 6)."""
        dx, dy = self.center_shift()
        diagonal = self.enclose_width.square() + self.enclose_height.square()
        return (dx.square() + dy.square()) / 4 / (diagonal + eps)


@weighted_loss
def iou_loss(pred: Tensor, target: Tensor, linear: bool = False, mode: str = 'log', eps: float = 1e-6) -> Tensor:
    """``1 - iou`` (``'linear'``), ``1 - iou ** 2`` (``'square'``) or ``-log(iou)`` (``'log'``, UnitBox Sec. 3.1).

    Raises:
        ValueError: for another mode.
    """
    if linear:
        mode = 'linear'
    boxes = AlignedBoxes.of(pred, target)
    iou = (boxes.overlap / (boxes.areas - boxes.overlap).clamp(min=1e-6)).clamp(min=eps)
    if mode == 'linear':
        return 1 - iou
    if mode == 'square':
        return 1 - iou.square()
    if mode == 'log':
        return -iou.log()
    raise UserValueError(f"mode={mode!r} of IoULoss is none of 'linear', 'square', 'log'.")


@weighted_loss
def bounded_iou_loss(pred: Tensor, target: Tensor, beta: float = 0.2, eps: float = 1e-3) -> Tensor:
    """Bound of the IoU by each of x, y, width and height alone (arXiv:1711.00164, Sec. 3.2).

    Returns:
        Shape (..., 4): one loss per coordinate.
    """
    center = lambda boxes: (boxes[..., :2] + boxes[..., 2:]) / 2
    size = lambda boxes: boxes[..., 2:] - boxes[..., :2]
    target = target.detach()
    pred_size, target_size = size(pred).clamp(min=0), size(target).clamp(min=0)
    shift = 2 * (center(target) - center(pred)).abs()
    loss_center = 1 - ((target_size - shift) / (target_size + shift + eps)).clamp(min=0)
    loss_size = 1 - torch.min(target_size / (pred_size + eps), pred_size / (target_size + eps))
    loss = torch.cat([loss_center, loss_size], -1)
    return smoothed(loss, beta)


@weighted_loss
def giou_loss(pred: Tensor, target: Tensor, eps: float = 1e-7) -> Tensor:
    """Generalized IoU (arXiv:1902.09630, Alg. 1)."""
    boxes = AlignedBoxes.of(pred, target)
    union = (boxes.areas - boxes.overlap).clamp(min=eps)
    enclose = (boxes.enclose_width * boxes.enclose_height).clamp(min=eps)
    return 1 - (boxes.overlap / union - (enclose - union) / enclose)


@weighted_loss
def diou_loss(pred: Tensor, target: Tensor, eps: float = 1e-7) -> Tensor:
    """Distance IoU (arXiv:1911.08287, Eq. 7)."""
    boxes = AlignedBoxes.of(pred, target)
    return 1 - (boxes.iou(eps) - boxes.distance_ratio(eps))


@weighted_loss
def ciou_loss(pred: Tensor, target: Tensor, eps: float = 1e-7) -> Tensor:
    """Complete IoU (arXiv:2005.03572, Eq. 7 to 9), the aspect term switched on above an IoU of 0.5 (its Eq. 11)."""
    boxes = AlignedBoxes.of(pred, target)
    iou = boxes.iou(eps)
    pred_width, pred_height, target_width, target_height = boxes.sizes(eps)
    angle = lambda width, height: torch.atan(width / torch.where(height.abs() < eps, eps, height))
    aspect = 4 / math.pi**2 * (angle(target_width, target_height) - angle(pred_width, pred_height)).square()
    with torch.no_grad():
        # For equal large boxes eps vanishes in the union, and 0 / 0 must be 0.
        alpha = (iou > 0.5) * aspect / (1 - iou + aspect).clamp(min=eps)
    return 1 - (iou - boxes.distance_ratio(eps) - alpha * aspect).clamp(min=-1, max=1)


@weighted_loss
def eiou_loss(pred: Tensor, target: Tensor, smooth_point: float = 0.1, eps: float = 1e-7) -> Tensor:
    """Extended IoU (arXiv:1902.05282), smooth around zero: disjoint boxes get a signed overlap, hence a gradient."""
    boxes = AlignedBoxes.of(pred, target)
    (px1, py1, px2, py2), (tx1, ty1, tx2, ty2) = boxes.pred, boxes.target
    left, top = torch.min(px1, tx1), torch.min(py1, ty1)
    inner_x1, inner_y1 = torch.max(px1, tx1), torch.max(py1, ty1)
    inner_x2, inner_y2 = torch.min(px2, tx2), torch.min(py2, ty2)
    low_x, high_x = torch.min(inner_x1, inner_x2), torch.max(inner_x1, inner_x2)
    low_y, high_y = torch.min(inner_y1, inner_y2), torch.max(inner_y1, inner_y2)
    overlap = (
        (inner_x2 - left) * (inner_y2 - top)
        + (low_x - left) * (low_y - top)
        - (inner_x1 - left) * (high_y - top)
        - (high_x - left) * (inner_y1 - top)
    )
    union = boxes.areas - overlap
    gap = 1 - overlap / torch.where(union >= 0, union + eps, eps)
    return smoothed(gap, smooth_point)


@weighted_loss
def siou_loss(pred: Tensor, target: Tensor, eps: float = 1e-7, neg_gamma: bool = False) -> Tensor:
    """SIoU (arXiv:2205.12740): IoU with costs of angle, distance and shape.

    Args:
        neg_gamma: Take the sign of the paper's Eq. for ``gamma`` as printed, in place of the one its text asks for.
    """
    boxes = AlignedBoxes.of(pred, target)
    dx, dy = (shift * 0.5 + eps for shift in boxes.center_shift())
    hypotenuse = (dx.square() + dy.square()).clamp(min=eps * eps).sqrt()
    sin_x, sin_y = dx.abs() / hypotenuse, dy.abs() / hypotenuse
    sine = torch.where(sin_x > math.sqrt(0.5), sin_y, sin_x)  # of the smaller angle to an axis
    angle = torch.cos(torch.asin(sine.clamp(max=0.8)) * 2 - math.pi / 2)  # at most sqrt(1/2); asin needs less than 1

    gamma = angle - 2 if neg_gamma else 2 - angle
    ratio = lambda shift, side: (shift / side.clamp(min=eps)).square()
    # At most 1 wherever both boxes are valid; the bound keeps the exponential of anything else finite.
    ratio_x, ratio_y = ratio(dx, boxes.enclose_width).clamp(max=4), ratio(dy, boxes.enclose_height).clamp(max=4)
    distance = 2 - torch.exp(-gamma * ratio_x) - torch.exp(-gamma * ratio_y)

    pred_width, pred_height, target_width, target_height = boxes.sizes(eps)
    difference = lambda a, b: (a - b).abs() / torch.max(a, b).clamp(min=eps)
    omega_x, omega_y = difference(pred_width, target_width), difference(pred_height, target_height)
    shape = (1 - torch.exp(-omega_x)).pow(4) + (1 - torch.exp(-omega_y)).pow(4)
    return 1 - (boxes.iou(eps) - 0.5 * (distance + shape)).clamp(min=-1, max=1)


class BoxLoss(WeightedLoss):
    """A loss of one number per box; weights ``(N,)`` or ``(N, 4)``, of which each four are averaged."""

    def __init__(self, eps: float = 1e-6, reduction: str = 'mean', loss_weight: float = 1.0, **options: Any) -> None:
        super().__init__(reduction, loss_weight, eps=eps, **options)

    def shaped_weight(self, pred: Tensor, weight: Tensor | None) -> Tensor | None:
        return weight.mean(-1) if weight is not None and weight.dim() == pred.dim() > 1 else weight


@MODELS.register_module()
class IoULoss(BoxLoss):
    """UnitBox (arXiv:1608.01471).

    Args:
        linear: Deprecated spelling of ``mode='linear'``.
        mode: ``'linear'``, ``'square'`` or ``'log'``.
    """

    function = staticmethod(iou_loss)

    def __init__(
        self,
        linear: bool = False,
        eps: float = 1e-6,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        mode: str = 'log',
    ) -> None:
        if mode not in ('linear', 'square', 'log'):
            raise UserValueError(f"mode={mode!r} of IoULoss is none of 'linear', 'square', 'log'.")
        if linear:
            warnings.warn("IoULoss(linear=True) is deprecated, use mode='linear'.", DeprecationWarning, stacklevel=2)
            mode = 'linear'
        super().__init__(eps, reduction, loss_weight, mode=mode)
        self.linear = linear


@MODELS.register_module()
class BoundedIoULoss(WeightedLoss):
    """Bounded IoU (arXiv:1711.00164); weights are per coordinate (N, 4) or per box (N,)."""

    function = staticmethod(bounded_iou_loss)

    def __init__(self, beta: float = 0.2, eps: float = 1e-3, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight, beta=beta, eps=eps)

    def shaped_weight(self, pred: Tensor, weight: Tensor | None) -> Tensor | None:
        return column_weight(weight, pred.dim())


@MODELS.register_module()
class GIoULoss(BoxLoss):
    """Generalized IoU (arXiv:1902.09630)."""

    function = staticmethod(giou_loss)


@MODELS.register_module()
class DIoULoss(BoxLoss):
    """Distance IoU (arXiv:1911.08287)."""

    function = staticmethod(diou_loss)


@MODELS.register_module()
class CIoULoss(BoxLoss):
    """Complete IoU (arXiv:2005.03572)."""

    function = staticmethod(ciou_loss)


@MODELS.register_module()
class EIoULoss(BoxLoss):
    """Extended IoU (arXiv:1902.05282)."""

    function = staticmethod(eiou_loss)

    def __init__(
        self, eps: float = 1e-6, reduction: str = 'mean', loss_weight: float = 1.0, smooth_point: float = 0.1
    ) -> None:
        super().__init__(eps, reduction, loss_weight, smooth_point=smooth_point)


@MODELS.register_module()
class SIoULoss(BoxLoss):
    """SIoU (arXiv:2205.12740)."""

    function = staticmethod(siou_loss)

    def __init__(
        self, eps: float = 1e-6, reduction: str = 'mean', loss_weight: float = 1.0, neg_gamma: bool = False
    ) -> None:
        super().__init__(eps, reduction, loss_weight, neg_gamma=neg_gamma)
