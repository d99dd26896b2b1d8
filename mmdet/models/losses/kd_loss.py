from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .utils import WeightedLoss, check_same_shape, weighted_loss


@weighted_loss
def knowledge_distillation_kl_div_loss(pred: Tensor, soft_label: Tensor, T: int, detach_target: bool = True) -> Tensor:
    """Divergence of softened distributions (arXiv:1503.02531, Sec. 2), averaged over the C classes.

    Args:
        pred: Logits of shape (N, C).
        soft_label: The teacher's logits, shape (N, C).
        T: Temperature; the loss is scaled by its square to keep the size of the gradient.

    Returns:
        Shape (N,).
    """
    check_same_shape(pred, soft_label)
    target = (soft_label / T).softmax(1)
    if detach_target:
        target = target.detach()
    return F.kl_div((pred / T).log_softmax(1), target, reduction='none').mean(1) * (T * T)


@MODELS.register_module()
class KnowledgeDistillationKLDivLoss(WeightedLoss):
    """Distillation loss (arXiv:1503.02531) with temperature ``T``, at least 1."""

    function = staticmethod(knowledge_distillation_kl_div_loss)

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0, T: int = 10) -> None:
        if T < 1:
            raise UserValueError(f'T={T} of KnowledgeDistillationKLDivLoss must be at least 1.')
        super().__init__(reduction, loss_weight, T=T)
