"""Seesaw loss (arXiv:2008.10032) with the separate objectness branch of its Sec. 3.3."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.ops.one_hot import one_hot
from mmdet.registry import MODELS

from .accuracy import accuracy
from .cross_entropy_loss import cross_entropy
from .utils import WeightedLoss, weight_reduce_loss


def seesaw_ce_loss(
    cls_score: Tensor,
    labels: Tensor,
    label_weights: Tensor | None,
    cum_samples: Tensor,
    num_classes: int,
    p: float,
    q: float,
    eps: float,
    reduction: str = 'mean',
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """Cross entropy with scaled negatives, Eq. 3.

    Args:
        cls_score: Logits, shape (N, C).
        labels: Shape (N,), in ``[0, C)``.
        cum_samples: Samples of each class seen so far, shape (C,).
        p: Strength of the mitigation by class counts (Eq. 6); 0 for none.
        q: Strength of the compensation of wrong classes (Eq. 7); 0 for none.
        eps: Least score that the compensation divides by.
    """
    scale = torch.ones_like(cls_score)
    if p > 0:
        count = cum_samples.clamp(min=1).to(cls_score.dtype)
        scale = scale * (count / count[labels][:, None]).clamp(max=1).pow(p)
    if q > 0:
        scores = cls_score.detach().softmax(1)
        own = scores.gather(1, labels[:, None])
        scale = scale * (scores / own.clamp(min=eps)).clamp(min=1).pow(q)
    others = 1 - one_hot(labels, num_classes, cls_score.dtype)
    tiny = torch.finfo(cls_score.dtype).tiny
    loss = F.cross_entropy(cls_score + scale.clamp(min=tiny).log() * others, labels, reduction='none')
    return weight_reduce_loss(loss, label_weights, reduction, avg_factor)


@MODELS.register_module()
class SeesawLoss(WeightedLoss):
    """Seesaw loss for long-tailed classes. Scores have ``num_classes + 2`` channels, the last two for objectness.

    Args:
        use_sigmoid: Only False is defined.
        return_dict: Return the two parts by name, not their sum.
    """

    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True
    cum_samples: Tensor

    def __init__(
        self,
        use_sigmoid: bool = False,
        p: float = 0.8,
        q: float = 2.0,
        num_classes: int = 1203,
        eps: float = 1e-2,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        return_dict: bool = True,
    ) -> None:
        if use_sigmoid:
            raise UserValueError('SeesawLoss is defined with use_sigmoid=False only.')
        super().__init__(reduction, loss_weight, num_classes=num_classes, p=p, q=q, eps=eps)
        self.use_sigmoid = False
        self.return_dict = return_dict
        self.register_buffer('cum_samples', torch.zeros(num_classes + 1))

    def _split_cls_score(self, cls_score: Tensor) -> tuple[Tensor, Tensor]:
        return cls_score[..., :-2], cls_score[..., -2:]

    def get_cls_channels(self, num_classes: int) -> int:
        """Raises ``ValueError`` if head and loss disagree on the number of classes."""
        if num_classes != self.num_classes:
            raise UserValueError(f'SeesawLoss was made for num_classes={self.num_classes}, its head has {num_classes}.')
        return num_classes + 2

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Scores of shape (N, C + 1), the last for background."""
        classes, objectness = self._split_cls_score(cls_score)
        foreground, background = objectness.softmax(-1).split(1, -1)
        return torch.cat([classes.softmax(-1) * foreground, background], -1)

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Percentages: of samples whose objectness is right, and of right classes among those that are not
        background."""
        classes, objectness = self._split_cls_score(cls_score)
        background = labels == self.num_classes
        return {
            'acc_objectness': accuracy(objectness, background.long()),
            'acc_classes': accuracy(classes, labels, mask=labels < self.num_classes),
        }

    def forward(
        self,
        cls_score: Tensor,
        labels: Tensor,
        label_weights: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """``labels``: shape (N,), C for background; samples of weight zero are not counted as seen."""
        reduction = self.reduction_for(reduction_override)
        if cls_score.size(-1) != self.num_classes + 2:
            raise UserValueError(
                f'SeesawLoss of num_classes={self.num_classes} takes two scores more, not {cls_score.size(-1)}.'
            )
        counted = torch.ones_like(labels) if label_weights is None else label_weights > 0
        self.cum_samples.index_add_(0, labels, counted.to(self.cum_samples.dtype))

        classes, objectness = self._split_cls_score(cls_score)
        positive = labels < self.num_classes
        weights = positive.to(cls_score.dtype)
        if label_weights is not None:
            weights = weights * label_weights
        loss_classes = self.loss_weight * seesaw_ce_loss(
            classes,
            labels.clamp(max=self.num_classes - 1),
            weights,
            self.cum_samples[: self.num_classes],
            reduction=reduction,
            avg_factor=positive.sum() if avg_factor is None and reduction == 'mean' else avg_factor,
            **self.options,
        )
        loss_objectness = self.loss_weight * cross_entropy(
            objectness, (~positive).long(), label_weights, reduction, avg_factor
        )
        if self.return_dict:
            return {'loss_cls_objectness': loss_objectness, 'loss_cls_classes': loss_classes}
        return loss_classes + loss_objectness
