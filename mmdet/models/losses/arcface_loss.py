from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .utils import WeightedLoss, weight_reduce_loss


@MODELS.register_module()
class ArcFaceLoss(WeightedLoss):
    """Additive angular margin loss (ArcFace, arXiv:1801.07698, Eq. 3) with the class centres that it learns.

    Args:
        num_classes: Number of identities C.
        in_channels: Length D of the embeddings.
        scale: Length to which embeddings are scaled.
        margin: Added to the angle to the own centre, in radians.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float = 64.0,
        margin: float = 0.5,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        if not 0 <= margin < math.pi:
            raise UserValueError(f'margin={margin} of ArcFaceLoss is an angle in [0, pi).')
        super().__init__(reduction, loss_weight, scale=scale, margin=margin)
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.empty(num_classes, in_channels))
        nn.init.xavier_uniform_(self.weight)

    def cosine(self, embedding: Tensor) -> Tensor:
        """Cosines to the class centres, shape (N, C)."""
        return F.linear(F.normalize(embedding), F.normalize(self.weight.to(embedding.dtype)))

    def forward(
        self,
        embedding: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Loss of embeddings (N, D); labels (N,) outside ``[0, C)`` have none."""
        reduction = self.reduction_for(reduction_override)
        if len(embedding) != len(label):
            raise UserValueError(f'{len(embedding)} embeddings, but {len(label)} labels.')
        cosine = self.cosine(embedding)
        own = (label >= 0) & (label < self.num_classes)
        index = torch.where(own, label, 0)[:, None]
        target = cosine.gather(1, index)
        # The sine's gradient is infinite at an angle of zero.
        sine = (1 - target.square()).clamp(min=torch.finfo(target.dtype).eps).sqrt()
        moved = target * math.cos(self.margin) - sine * math.sin(self.margin)
        # Beyond pi the cosine would rise again: go on linearly.
        beyond = target - self.margin * math.sin(self.margin)
        moved = torch.where(target > -math.cos(self.margin), moved, beyond)
        logits = self.scale * cosine.scatter(1, index, moved)
        loss = F.cross_entropy(logits, index[:, 0], reduction='none')
        weight = own.to(loss.dtype) if weight is None else weight * own
        return self.loss_weight * weight_reduce_loss(loss, weight, reduction, avg_factor)
