from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributed as dist

from mmdet.ops.one_hot import one_hot
from mmdet.registry import MODELS

from .utils import WeightedLoss, column_weight, weight_reduce_loss


@MODELS.register_module()
class EQLV2Loss(WeightedLoss):
    """Equalization loss v2 (arXiv:2012.08548): per class, balance the gradients that positives and negatives gave.

    Scores have ``num_classes + 1`` channels, the last one for objectness.

    Args:
        use_distributed: Add the gradients of all processes up.
        mu: Midpoint of the mapping function (Eq. 6).
        alpha: Greatest gain of the positives (Eq. 5).
        gamma: Steepness of the mapping function (Eq. 6).
        vis_grad: Accepted for existing configs; has no effect.
        test_with_obj: Multiply class scores with objectness in ``get_activation``.
    """

    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = False
    pos_grad: Tensor
    neg_grad: Tensor
    pos_neg: Tensor

    def __init__(
        self,
        use_sigmoid: bool = True,
        reduction: str = 'mean',
        class_weight: list[float] | None = None,
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        use_distributed: bool = False,
        mu: float = 0.8,
        alpha: float = 4.0,
        gamma: int = 12,
        vis_grad: bool = False,
        test_with_obj: bool = True,
    ) -> None:
        super().__init__(reduction, loss_weight, mu=mu, alpha=alpha, gamma=gamma)
        self.use_sigmoid = use_sigmoid
        self.class_weight = class_weight
        self.num_classes = num_classes
        self.use_distributed = use_distributed
        self.test_with_obj = test_with_obj
        for name, value in (('pos_grad', 0.0), ('neg_grad', 0.0), ('pos_neg', 100.0)):
            self.register_buffer(name, torch.full((num_classes,), value))

    def get_cls_channels(self, num_classes: int) -> int:
        """One channel more than classes, for objectness."""
        return num_classes + 1

    def get_channel_num(self, num_classes: int) -> int:
        """The old name of :meth:`get_cls_channels`."""
        return self.get_cls_channels(num_classes)

    def get_activation(self, pred: Tensor) -> Tensor:
        """Scores of shape (N, C + 1), the last for background."""
        scores = pred.sigmoid()
        objectness = scores[..., -1:]
        classes = scores[..., :-1] * objectness if self.test_with_obj else scores[..., :-1]
        return torch.cat([classes, 1 - objectness], -1)

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        **kwargs,
    ) -> Tensor:
        """Loss of logits (N, C + 1), summed over classes and averaged over the N samples; labels of C: background."""
        target = one_hot(label, self.num_classes + 1, cls_score.dtype)
        foreground = label < self.num_classes
        target[:, -1] = foreground.to(target.dtype)
        weight = torch.ones_like(cls_score[:, 0]) if weight is None else weight
        column = column_weight(weight, 2)

        pos_weight, neg_weight = self._weights()
        scale = (pos_weight * target + neg_weight * (1 - target)) * column
        loss = F.binary_cross_entropy_with_logits(cls_score, target, reduction='none')
        loss = weight_reduce_loss(loss, scale, 'sum') / max(len(cls_score), 1)
        self.collect_grad(cls_score.detach(), target, scale)
        return self.loss_weight * loss

    def _weights(self) -> tuple[Tensor, Tensor]:
        """Weights ``(C + 1,)`` of positives and negatives."""
        balance = torch.sigmoid(self.gamma * (self.pos_neg - self.mu))  # Eq. 6
        return F.pad(1 + self.alpha * (1 - balance), (0, 1), value=1.0), F.pad(balance, (0, 1), value=1.0)

    def get_weight(self, pred: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of each score as positive and as negative, of the shape ``(N, C + 1)`` of ``pred``."""
        pos_weight, neg_weight = self._weights()
        return pos_weight.expand_as(pred), neg_weight.expand_as(pred)

    @torch.no_grad()
    def collect_grad(self, pred: Tensor, target: Tensor, weight: Tensor) -> None:
        """Add what the elements, scaled by ``weight``, give to the gradients; all are ``(N, C + 1)``."""
        gradient = (pred.sigmoid() - target).abs() * weight
        sums = torch.stack([(gradient * target).sum(0), (gradient * (1 - target)).sum(0)])[:, :-1].float()
        if self.use_distributed and dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        self.pos_grad.add_(sums[0])
        self.neg_grad.add_(sums[1])
        self.pos_neg.copy_(self.pos_grad / (self.neg_grad + 1e-10))
