from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def constant(values: float | Sequence, like: Tensor) -> Tensor:
    """Numbers of the configuration on the device and in the type of ``like``.

    ``like.new_tensor`` lets the host wait until a GPU has done everything before; this does not.
    """
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
