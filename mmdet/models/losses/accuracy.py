from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmdet.errors import UserTypeError, UserValueError


def accuracy(
    pred: Tensor,
    target: Tensor,
    topk: int | Sequence[int] = 1,
    thresh: float | None = None,
    mask: Tensor | None = None,
) -> Tensor | list[Tensor]:
    """Percentage of samples whose label is among the ``k`` best scores.

    Args:
        pred: Scores, shape (N, C).
        target: Labels, shape (N,).
        topk: One ``k``, or several for a list of results.
        thresh: A prediction counts only if its score is above this.
        mask: Samples that count, shape (N,); in place of indexing ``pred`` and ``target``.

    Returns:
        Tensors of shape (1,); zero if no sample counts.

    Raises:
        ValueError: if ``topk`` exceeds the number of classes.
    """
    if not isinstance(topk, int) and not (isinstance(topk, (tuple, list)) and all(isinstance(k, int) for k in topk)):
        raise UserTypeError(f'topk must be an integer or several, not {topk!r}')
    ks = (topk,) if isinstance(topk, int) else tuple(topk)
    if pred.dim() != 2 or target.dim() != 1 or len(pred) != len(target):
        raise UserValueError(f'scores are (N, C) and labels (N,), not {tuple(pred.shape)} and {tuple(target.shape)}')
    if max(ks) > pred.size(1):
        raise UserValueError(f'topk={topk} exceeds the number of classes, {pred.size(1)}.')
    scores, labels = pred.topk(max(ks), dim=1)
    correct = labels == target[:, None]
    if thresh is not None:
        correct = correct & (scores > thresh)
    if mask is None:
        total: Tensor | int = max(len(target), 1)
    else:
        correct, total = correct & mask[:, None], mask.sum().clamp(min=1)
    results = [correct[:, :k].sum().reshape(1).to(torch.float32) * (100.0 / total) for k in ks]
    return results[0] if isinstance(topk, int) else results


class Accuracy(nn.Module):
    """:func:`accuracy` as a module."""

    def __init__(self, topk: int | Sequence[int] = (1,), thresh: float | None = None) -> None:
        super().__init__()
        if not isinstance(topk, (int, tuple, list)):
            raise UserTypeError(f'topk must be an integer or several, not {topk!r}')
        self.topk = topk
        self.thresh = thresh

    def forward(self, pred: Tensor, target: Tensor) -> Tensor | list[Tensor]:
        """As :func:`accuracy`."""
        return accuracy(pred, target, self.topk, self.thresh)
