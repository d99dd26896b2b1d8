from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmdet.models.core import as_float32
from mmdet.registry import MODELS

MARGIN = 1  # between the tags of different objects


class CornerPairs(Sequence):
    """The cells of the two corners of each object.

    It reads as 3.x has it, for which the host waits: for each image a list of ``[[top, left], [bottom, right]]``.

    Args:
        cells: ``(B, G, 2, 2)``.
        mask: ``(B, G)``, which of the G are real.
    """

    def __init__(self, cells: Tensor, mask: Tensor) -> None:
        self.cells, self.mask = cells, mask

    @classmethod
    def of(cls, match: Sequence, device: torch.device) -> CornerPairs:
        """``match`` itself, or the lists of 3.x padded."""
        if isinstance(match, cls):
            return match
        most = max((len(pairs) for pairs in match), default=0)
        filler = [[0, 0], [0, 0]]
        padded = [
            [[list(corner) for corner in pair] for pair in pairs] + [filler] * (most - len(pairs)) for pairs in match
        ]
        mask = [[i < len(pairs) for i in range(most)] for pairs in match]
        cells = torch.tensor(padded, dtype=torch.long).reshape(len(match), most, 2, 2)
        real = torch.tensor(mask, dtype=torch.bool).reshape(len(match), most)
        return cls(cells.to(device, non_blocking=True), real.to(device, non_blocking=True))

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, image):
        return self.cells[image][self.mask[image]].tolist()


@MODELS.register_module()
class AssociativeEmbeddingLoss(nn.Module):
    """Pull the tags of an object's two corners together, push those of different objects apart.

    CornerNet (arXiv:1808.01244), Eq. 4 and 5, after arXiv:1611.05424.
    """

    def __init__(self, pull_weight: float = 0.25, push_weight: float = 0.25) -> None:
        super().__init__()
        self.pull_weight = pull_weight
        self.push_weight = push_weight

    def forward(self, pred: Tensor, target: Tensor, match: Sequence) -> tuple[Tensor, Tensor]:
        """Pull and push loss, each summed over the images.

        Args:
            pred: Tags of top-left corners, shape (B, 1, H, W).
            target: Tags of bottom-right corners, shape (B, 1, H, W).
            match: :class:`CornerPairs`, or per image a list of ``[[top, left], [bottom, right]]`` cells.
        """
        pairs = CornerPairs.of(match, pred.device)
        positions, real = pairs.cells, pairs.mask
        pred, target = as_float32((pred, target))  # in half precision the pairs of 257 objects are beyond counting
        cell = positions[..., 0] * pred.size(-1) + positions[..., 1]  # (B, G, 2)
        first, second = pred.flatten(1).gather(1, cell[..., 0]), target.flatten(1).gather(1, cell[..., 1])
        mean = (first + second) / 2  # (B, G)
        count = real.sum(1).to(pred.dtype)

        pull = (((first - mean).square() + (second - mean).square()) * real).sum(1) / count.clamp(min=1)
        others = ~torch.eye(mean.size(1), dtype=torch.bool, device=pred.device)
        both = real[:, :, None] & real[:, None, :] & others
        gap = (MARGIN - (mean[:, :, None] - mean[:, None, :]).abs()).clamp(min=0) * both
        push = gap.sum((1, 2)) / (count * (count - 1)).clamp(min=1)
        return self.pull_weight * pull.sum(), self.push_weight * push.sum()
