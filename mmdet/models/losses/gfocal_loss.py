"""Generalized focal loss (arXiv:2006.04388)."""

from __future__ import annotations

from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.ops.one_hot import one_hot
from mmdet.registry import MODELS

from .cross_entropy_loss import binary_entropy
from .utils import WeightedLoss, weighted_loss


@weighted_loss
def quality_focal_loss(
    pred: Tensor, target: Tensor | tuple[Tensor, Tensor], beta: float = 2.0, activated: bool = False
) -> Tensor:
    """Quality focal loss, Eq. 7, summed over the classes.

    Args:
        pred: Logits of shape (N, C), probabilities if ``activated``.
        target: Class indices (N,) with C for background and qualities (N,), or qualities per class (N, C).

    Returns:
        Shape (N,).
    """
    if isinstance(target, (tuple, list)):
        label, quality = target
        target = one_hot(label, pred.size(-1), pred.dtype) * quality[..., None]
    target = target.to(pred.dtype)
    probability, entropy = binary_entropy(pred, target, activated)
    return (entropy * (target - probability).abs().pow(beta)).sum(-1)


@weighted_loss
def distribution_focal_loss(pred: Tensor, label: Tensor) -> Tensor:
    """Distribution focal loss, Eq. 6.

    Args:
        pred: Logits of the distribution over ``0 ... n``, shape (N, n + 1).
        label: Distances in ``[0, n)``, shape (N,).
    """
    left = label.long().clamp(0, pred.size(1) - 2)
    right = left + 1
    log_probability = pred.log_softmax(1)
    pick = lambda index: -log_probability.gather(1, index[:, None])[:, 0]
    return pick(left) * (right - label) + pick(right) * (label - left)


@MODELS.register_module()
class QualityFocalLoss(WeightedLoss):
    """Quality focal loss (arXiv:2006.04388, Eq. 7).

    Args:
        use_sigmoid: Only True is defined.
        beta: Exponent of the modulating factor.
        activated: Predictions are probabilities, not logits.
    """

    function = staticmethod(quality_focal_loss)

    def __init__(
        self,
        use_sigmoid: bool = True,
        beta: float = 2.0,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        activated: bool = False,
    ) -> None:
        if not use_sigmoid:
            raise UserValueError('QualityFocalLoss is defined with use_sigmoid=True only.')
        super().__init__(reduction, loss_weight, beta=beta, activated=activated)
        self.use_sigmoid = use_sigmoid


@MODELS.register_module()
class DistributionFocalLoss(WeightedLoss):
    """Distribution focal loss (arXiv:2006.04388, Eq. 6)."""

    function = staticmethod(distribution_focal_loss)

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)
