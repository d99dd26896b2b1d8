from __future__ import annotations

import torch
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.registry import MODELS


@MODELS.register_module()
class TripletLoss(nn.Module):
    """Batch-hard triplet loss (arXiv:1703.07737, Eq. 5).

    Args:
        margin: Of the ranking.
        hard_mining: Take the farthest positive and the nearest negative of each anchor; only True is defined.
    """

    def __init__(self, margin: float = 0.3, loss_weight: float = 1.0, hard_mining: bool = True) -> None:
        super().__init__()
        if not hard_mining:
            raise UserValueError('TripletLoss is defined with hard_mining=True only.')
        self.margin = margin
        self.ranking_loss = nn.MarginRankingLoss(margin=margin)
        self.loss_weight = loss_weight
        self.hard_mining = hard_mining

    def hard_mining_triplet_loss_forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """``inputs``: embeddings (N, D); ``targets``: identities (N,). An anchor without a negative has no loss."""
        if not len(inputs):
            return inputs.sum()
        square = inputs.square().sum(1)
        distance = (square[:, None] + square - 2 * inputs @ inputs.t()).clamp(min=1e-12).sqrt()
        same = targets[:, None] == targets
        farthest = distance.masked_fill(~same, 0).amax(1)
        has_negative = ~same.all(1)
        nearest = distance.masked_fill(same, torch.finfo(distance.dtype).max).amin(1)
        nearest = torch.where(has_negative, nearest, farthest.detach() + self.margin)
        return self.ranking_loss(nearest, farthest * has_negative, torch.ones_like(nearest))

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Embeddings ``(N, D)`` and identities ``(N,)`` -> a scalar."""
        return self.loss_weight * self.hard_mining_triplet_loss_forward(inputs, targets)
