"""The way through methods that research code overrides, of heads whose queries predict masks.

As :mod:`query_joints`, which has that of heads with boxes. Letters: L decoder layers, B images, Q queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmdet.models.core import MaskTargets


def matched_by_image(head: Any) -> bool:
    """Whether research code replaced a method that knows a single layer or image."""
    methods = head.get_targets, head._get_targets_single, head.assigner.assign, head.sampler.sample
    return not all(hasattr(method, 'by_batch') for method in methods)


def targets_of_each_layer(
    head: Any, scores: Tensor, masks: Iterable[Tensor], truth: list, metas: list[dict]
) -> list[MaskTargets]:
    """Targets of every layer by itself, L = 1, as the head's ``get_targets`` has them in lists by image."""
    layers = []
    for score, mask in zip(scores, masks):
        found = head.get_targets(list(score.detach()), list(mask.detach()), truth, metas)
        labels, label_weights, mask_targets, mask_weights, avg_factor = found[:5]
        queries = (torch.stack(list(mask_weights)).flatten() > 0).nonzero().flatten()[None]
        layers.append(
            MaskTargets(
                torch.stack(list(labels))[None],
                torch.stack(list(label_weights))[None],
                queries,
                torch.ones_like(queries, dtype=torch.float32),
                list(mask_targets),
                score.new_tensor([float(avg_factor)]),
            )
        )
    return layers


def stacked(layers: Iterable[Sequence[Tensor]]) -> tuple:
    """``(L,)`` of each loss, from the losses of each layer."""
    return tuple(torch.stack(list(column)) for column in zip(*layers))


def named_by_layer(names: Sequence[str], losses: Sequence[Tensor]) -> dict[str, Tensor]:
    """Losses ``(L,)`` under the names of 3.x: the last layer's without a prefix, then ``d0.`` and so on."""
    *others, last = zip(*losses)
    named = dict(zip(names, last))
    for index, layer in enumerate(others):
        named.update((f'd{index}.{name}', value) for name, value in zip(names, layer))
    return named
