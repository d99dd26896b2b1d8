"""Ground truth of heads that treat things and stuff alike: a class of stuff is one more object.

Letters: g objects of an image, H and W of its masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.structures.mask import BaseInstanceMasks

from .gt_masks import GTMasks


def whole_masks(masks: BaseInstanceMasks | Tensor, device: torch.device) -> Tensor:
    """``(g, H, W)`` uint8, 1 inside."""
    if isinstance(masks, Tensor):
        return (masks != 0).to(device, non_blocking=True).view(torch.uint8)
    if device.type == 'cpu':
        return masks.to_tensor(torch.uint8, device).ne(0).view(torch.uint8)
    windows = GTMasks.of([masks], device)  # unpacked where they are, for which the host does not wait
    rows, columns = (torch.arange(side, device=device) for side in (masks.height, masks.width))
    return windows.at(rows, columns)[: len(masks)]


def things_and_stuff(
    instances: Sequence[InstanceData], maps: Sequence[Tensor | None], num_things: int, num_stuff: int
) -> list[InstanceData]:
    """``labels (g,)`` and ``masks (g, H, W)``, uint8, of each image; things come first, then stuff in order of label.

    Which stuff there is travels to the host, once for the whole batch.

    Args:
        instances: ``labels`` and ``masks`` of the things; an image with a map may have neither.
        maps: Class of each pixel ``(1, H, W)``, things, then stuff, then whatever is ignored; None for things alone.
    """
    classes = [None if map is None else map.reshape(map.shape[-2:]).long() for map in maps]
    found = iter(_stuff_on_host([value for value in classes if value is not None], num_things, num_stuff))
    merged = []
    for image, value in zip(instances, classes):
        if value is None:
            truth = InstanceData(labels=image.labels, masks=whole_masks(image.masks, image.labels.device))
        else:
            labels = torch.tensor(next(found)).to(value.device, non_blocking=True)
            masks = (value == labels[:, None, None]).view(torch.uint8)
            if 'masks' in image:
                things = image.labels.to(value.device)
                labels = torch.cat([things, labels.to(things.dtype)])
                masks = torch.cat([whole_masks(image.masks, value.device), masks])
            truth = InstanceData(labels=labels, masks=masks)
        merged.append(truth)
    return merged


def _stuff_on_host(maps: Sequence[Tensor], num_things: int, num_stuff: int) -> list[list[int]]:
    """Labels of the stuff in each map."""
    flags = []
    for value in maps:
        place = value.flatten() - num_things
        place = torch.where((place >= 0) & (place < num_stuff), place, num_stuff)
        flags.append(torch.zeros(num_stuff + 1, dtype=torch.bool, device=value.device).scatter_(0, place, True))
    if not flags:
        return []
    return [[num_things + place for place in row] for row in places_on_host(torch.stack(flags)[:, :num_stuff])]


def places_on_host(flags: Tensor) -> list[list[int]]:
    """Where each row of ``flags`` is True."""
    return [[place for place, there in enumerate(row) if there] for row in flags.tolist()]
