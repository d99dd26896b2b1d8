from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import constant, of_label
from mmdet.ops.one_hot import one_hot
from mmdet.registry import MODELS

from .accuracy import accuracy
from .utils import WeightedLoss, column_weight, weight_reduce_loss


def cross_entropy(
    pred: Tensor,
    label: Tensor,
    weight: Tensor | None = None,
    reduction: str = 'mean',
    avg_factor: float | Tensor | None = None,
    class_weight: Tensor | None = None,
    ignore_index: int | None = -100,
    avg_non_ignore: bool = False,
) -> Tensor:
    """Softmax cross entropy of ``pred`` (N, C, ...) and class indices (N, ...) or soft labels (N, C, ...).

    Args:
        avg_non_ignore: Without an ``avg_factor``, average over the labels that are not ignored.
    """
    ignore_index = -100 if ignore_index is None else ignore_index
    loss = F.cross_entropy(pred, label, weight=class_weight, reduction='none', ignore_index=ignore_index)
    if avg_factor is None and avg_non_ignore and reduction == 'mean':
        avg_factor = (label != ignore_index).sum()
    return weight_reduce_loss(loss, None if weight is None else weight.to(loss.dtype), reduction, avg_factor)


def binary_entropy(pred: Tensor, target: Tensor, activated: bool = False) -> tuple[Tensor, Tensor]:
    """Probabilities and binary cross entropies of logits, or of probabilities if ``activated``; one shape."""
    if activated:
        return pred, F.binary_cross_entropy(pred, target, reduction='none')
    return pred.sigmoid(), F.binary_cross_entropy_with_logits(pred, target, reduction='none')


def binary_cross_entropy(
    pred: Tensor,
    label: Tensor,
    weight: Tensor | None = None,
    reduction: str = 'mean',
    avg_factor: float | Tensor | None = None,
    class_weight: Tensor | None = None,
    ignore_index: int | None = -100,
    avg_non_ignore: bool = False,
) -> Tensor:
    """Sigmoid cross entropy of ``pred`` (N, C) or (N,).

    Args:
        label: Class indices (N,), where C or more means background, or targets of the shape of ``pred``. Negative
            labels and ``ignore_index`` have no loss.
        weight: Shape (N,) or that of ``pred``.
        class_weight: Weight of the positive term of each class, shape (C,).
        avg_non_ignore: Without an ``avg_factor``, average over the elements that are not ignored.
    """
    ignore_index = -100 if ignore_index is None else ignore_index
    valid = (label >= 0) & (label != ignore_index)
    if pred.dim() != label.dim():
        label = one_hot(label, pred.size(-1), pred.dtype)
        valid = valid[..., None].expand_as(pred)
    weight = valid.to(pred.dtype) if weight is None else column_weight(weight, valid.dim()) * valid
    if avg_factor is None and avg_non_ignore and reduction == 'mean':
        avg_factor = valid.sum()
    label = torch.where(valid, label, 0).to(pred.dtype)
    loss = F.binary_cross_entropy_with_logits(pred, label, pos_weight=class_weight, reduction='none')
    return weight_reduce_loss(loss, weight.to(loss.dtype), reduction, avg_factor)


def mask_cross_entropy(
    pred: Tensor,
    target: Tensor,
    label: Tensor,
    reduction: str = 'mean',
    avg_factor: float | Tensor | None = None,
    class_weight: Tensor | None = None,
    ignore_index: int | None = None,
    sample_weight: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """Sigmoid cross entropy of the masks of the labelled classes (Mask R-CNN, Sec. 3).

    Args:
        pred: Shape (N, C, H, W), or (N, C, P) at P points of each mask.
        target: Shape (N, H, W) or (N, P).
        label: Which class's mask each sample is judged by, shape (N,).
        sample_weight: Shape (N,); the mean is then over weighted samples.

    Returns:
        Shape (1,).

    Raises:
        ValueError: for another reduction than ``'mean'``.
    """
    if reduction != 'mean':
        raise UserValueError(f"mask_cross_entropy has reduction 'mean' alone, not {reduction!r}.")
    if ignore_index is not None:
        raise UserValueError(f'ignore_index={ignore_index} means nothing to mask_cross_entropy.')
    chosen = of_label(pred, label.clamp(0, pred.size(1) - 1))
    loss = F.binary_cross_entropy_with_logits(chosen, target.to(chosen.dtype), weight=class_weight, reduction='none')
    if sample_weight is None and avg_factor is None:
        return weight_reduce_loss(loss)[None]
    loss = loss.flatten(1).mean(1)
    sample_weight = torch.ones_like(loss) if sample_weight is None else sample_weight.to(loss.dtype)
    total = sample_weight.sum() if avg_factor is None else avg_factor
    return weight_reduce_loss(loss, sample_weight, 'mean', total)[None]


@MODELS.register_module()
class CrossEntropyLoss(WeightedLoss):
    """Softmax, sigmoid or mask cross entropy.

    Args:
        use_sigmoid: Binary cross entropy per class.
        use_mask: The loss of Mask R-CNN on the mask of the labelled class.
        class_weight: One weight per class.
        ignore_index: Label without loss.
        avg_non_ignore: Average over the labels that are not ignored.
    """

    def __init__(
        self,
        use_sigmoid: bool = False,
        use_mask: bool = False,
        reduction: str = 'mean',
        class_weight: list[float] | None = None,
        ignore_index: int | None = None,
        loss_weight: float = 1.0,
        avg_non_ignore: bool = False,
    ) -> None:
        if use_sigmoid and use_mask:
            raise UserValueError('use_sigmoid and use_mask of CrossEntropyLoss exclude each other.')
        super().__init__(reduction, loss_weight)
        self.use_sigmoid = use_sigmoid
        self.use_mask = use_mask
        self.class_weight = class_weight
        self.ignore_index = ignore_index
        self.avg_non_ignore = avg_non_ignore
        self.cls_criterion = mask_cross_entropy if use_mask else binary_cross_entropy if use_sigmoid else cross_entropy

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """With ``use_mask``, ``label`` holds the target masks and ``weight`` the class indices."""
        class_weight = None
        if self.class_weight is not None:
            class_weight = constant(self.class_weight, cls_score)
        if not self.use_mask:
            kwargs['avg_non_ignore'] = self.avg_non_ignore
        return self.loss_weight * self.cls_criterion(
            cls_score,
            label,
            weight,
            class_weight=class_weight,
            reduction=self.reduction_for(reduction_override),
            avg_factor=avg_factor,
            ignore_index=self.ignore_index if ignore_index is None else ignore_index,
            **kwargs,
        )


class CustomClassification:
    """The questions a head asks of a classification loss with its own layout of channels.

    Scores have ``num_classes`` channels, and one more for background under softmax.
    """

    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True
    num_classes: int
    use_sigmoid: bool

    def _check_num_classes(self) -> None:
        if self.num_classes <= 0:
            raise UserValueError(f'{type(self).__name__} needs num_classes, got {self.num_classes}.')

    def get_cls_channels(self, num_classes: int) -> int:
        """Raises ``ValueError`` if head and loss disagree on the number of classes."""
        if num_classes != self.num_classes:
            raise UserValueError(
                f'{type(self).__name__} was made for num_classes={self.num_classes}, its head has {num_classes}.'
            )
        return num_classes if self.use_sigmoid else num_classes + 1

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Scores of shape (N, C + 1), the last for background."""
        if not self.use_sigmoid:
            return cls_score.softmax(-1)
        return F.pad(cls_score[..., : self.num_classes].sigmoid(), (0, 1))

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Percentage of right classes among the samples that are not background."""
        scores = cls_score[:, : self.num_classes]
        return {'acc_classes': accuracy(scores, labels, mask=labels < self.num_classes)}


@MODELS.register_module()
class CrossEntropyCustomLoss(CustomClassification, CrossEntropyLoss):
    """Cross entropy that tells its head how to lay out, activate and judge the scores."""

    def __init__(
        self,
        use_sigmoid: bool = False,
        use_mask: bool = False,
        reduction: str = 'mean',
        num_classes: int = -1,
        class_weight: list[float] | None = None,
        ignore_index: int | None = None,
        loss_weight: float = 1.0,
        avg_non_ignore: bool = False,
    ) -> None:
        super().__init__(use_sigmoid, use_mask, reduction, class_weight, ignore_index, loss_weight, avg_non_ignore)
        self.num_classes = num_classes
        self._check_num_classes()
