from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def split_batch(img: Tensor, img_metas: list[dict], kwargs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Split a batch by ``img_metas[i]['tag']``, for semi-supervised training: tag -> its part of every argument."""
    tags = [meta['tag'] for meta in img_metas]
    batch = {'img': img, 'img_metas': img_metas, **kwargs}
    groups: dict[str, dict[str, Any]] = {}
    for tag in dict.fromkeys(tags):
        inds = [i for i, other in enumerate(tags) if other == tag]
        part = groups[tag] = {'tag': [tag] * len(inds)}
        for name, value in batch.items():
            if isinstance(value, Tensor):
                part[name] = value[torch.tensor(inds, device=value.device)]
            elif isinstance(value, (list, tuple)):
                part[name] = [value[i] for i in inds]
            else:
                part[name] = value
    return groups
