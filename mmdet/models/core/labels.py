from __future__ import annotations

from torch import Tensor


def of_label(values: Tensor, labels: Tensor) -> Tensor:
    """``(K, ...)`` of the labelled class out of ``(K, C, ...)``, or of the only one that there is."""
    if values.shape[1] == 1:
        return values[:, 0]
    index = labels.reshape(-1, *[1] * (values.dim() - 1)).expand(-1, 1, *values.shape[2:])
    return values.gather(1, index)[:, 0]
