from __future__ import annotations

import torch
from torch import Tensor, nn

from mmdet.registry import MODELS

MARGIN = 1  # between the tags of different objects


def pad_match(match: list[list], device: torch.device) -> tuple[Tensor, Tensor]:
    """Corner positions (B, G, 2, 2) and which of the G are real, from lists of ``[[y, x], [y, x]]`` per image."""
    most = max((len(pairs) for pairs in match), default=0)
    filler = [[0, 0], [0, 0]]
    padded = [[[list(corner) for corner in pair] for pair in pairs] + [filler] * (most - len(pairs)) for pairs in match]
    mask = [[i < len(pairs) for i in range(most)] for pairs in match]
    positions = torch.tensor(padded, dtype=torch.long).reshape(len(match), most, 2, 2)
    return positions.to(device), torch.tensor(mask, dtype=torch.bool).reshape(len(match), most).to(device)


@MODELS.register_module()
class AssociativeEmbeddingLoss(nn.Module):
    """Pull the tags of an object's two corners together, push those of different objects apart.

    CornerNet (arXiv:1808.01244), Eq. 4 and 5, after arXiv:1611.05424.
    """

    def __init__(self, pull_weight: float = 0.25, push_weight: float = 0.25) -> None:
        super().__init__()
        self.pull_weight = pull_weight
        self.push_weight = push_weight

    def forward(
        self, pred: Tensor, target: Tensor, match: list[list] | Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pull and push loss, each summed over the images.

        Args:
            pred: Tags of top-left corners, shape (B, 1, H, W).
            target: Tags of bottom-right corners, shape (B, 1, H, W).
            match: Per image a list of ``[[top, left], [bottom, right]]`` cells, or a tensor (B, G, 2, 2) of them.
            mask: With a tensor: which of the G objects are real, shape (B, G).
        """
        if isinstance(match, Tensor):
            positions = match
            real = torch.ones(match.shape[:2], dtype=torch.bool, device=pred.device) if mask is None else mask
        else:
            positions, real = pad_match(match, pred.device)
        cell = positions[..., 0] * pred.size(-1) + positions[..., 1]  # (B, G, 2)
        first, second = pred.flatten(1).gather(1, cell[..., 0]), target.flatten(1).gather(1, cell[..., 1])
        mean = (first + second) / 2  # (B, G)
        count = real.sum(1).to(pred.dtype)

        pull = (((first - mean).square() + (second - mean).square()) * real).sum(1) / count.clamp(min=1)
        others = ~torch.eye(mean.size(1), dtype=torch.bool, device=pred.device)
        pairs = real[:, :, None] & real[:, None, :] & others
        gap = (MARGIN - (mean[:, :, None] - mean[:, None, :]).abs()).clamp(min=0) * pairs
        push = gap.sum((1, 2)) / (count * (count - 1)).clamp(min=1)
        return self.pull_weight * pull.sum(), self.push_weight * push.sum()
