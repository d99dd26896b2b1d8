"""Names of weights in other libraries' detectors, as the names of ours."""

from __future__ import annotations

from collections import OrderedDict

import torch


def translate_state_dict(
    weights: OrderedDict[str, torch.Tensor], own: dict[str, torch.Tensor]
) -> tuple[OrderedDict[str, torch.Tensor], str | None]:
    """Rename weights with the map that gives most names of ``own``.

    Returns:
        The weights and the name of the library that they came from, or the weights unchanged and None.
    """
    return weights, None
