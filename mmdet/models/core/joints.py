"""Names that research code overrides or imports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core.pyramid import flatten_levels


def by_batch(method: Callable) -> Callable:
    """Mark the single-image face of a batched method: nobody needs to call it image by image."""
    method.by_batch = True  # type: ignore[attr-defined]
    return method


def unmap(data: Tensor, count: int, inds: Tensor, fill: float = 0) -> Tensor:
    """Put rows ``data`` back to the places ``inds`` (bool) of a tensor of ``count`` rows."""
    out = data.new_full((count, *data.shape[1:]), fill)
    out[inds.bool()] = data
    return out


def images_to_levels(target: Sequence[Tensor], num_levels: Sequence[int]) -> list[Tensor]:
    """``[(P, ...)]`` by image as ``[(B, P_level, ...)]`` by level."""
    return list(torch.stack(list(target)).split(list(num_levels), 1))


def levels_to_images(mlvl_tensor: Sequence[Tensor]) -> list[Tensor]:
    """Maps ``[(B, D, H, W)]`` by level as ``[(P, D)]`` by image."""
    return list(flatten_levels(mlvl_tensor, mlvl_tensor[0].shape[1]))


def select_single_mlvl(mlvl_tensors: Sequence[Tensor], batch_id: int, detach: bool = True) -> list[Tensor]:
    """One image of every level."""
    picked = [level[batch_id] for level in mlvl_tensors]
    return [level.detach() for level in picked] if detach else picked


def empty_instances(
    batch_img_metas: Sequence[dict],
    device: torch.device,
    task_type: str,
    instance_results: Sequence | None = None,
    mask_thr_binary: float = 0,
    box_type: Any = 'hbox',
    use_box_type: bool = False,
    num_classes: int = 80,
    score_per_cls: bool = False,
) -> list:
    """Results without a detection for each image, for ``task_type`` 'bbox' or 'mask'."""
    from mmengine.structures import InstanceData

    from mmdet.structures.bbox import get_box_type

    if task_type not in ('bbox', 'mask'):
        raise UserValueError(f"task_type must be 'bbox' or 'mask', not {task_type!r}")
    out = []
    for i, meta in enumerate(batch_img_metas):
        results = InstanceData() if instance_results is None else instance_results[i]
        if task_type == 'bbox':
            cls = get_box_type(box_type)[1] if isinstance(box_type, str) else box_type
            boxes = torch.zeros(0, cls.box_dim, device=device)
            results.bboxes = cls(boxes, clone=False) if use_box_type else boxes
            results.scores = torch.zeros((0, num_classes + 1) if score_per_cls else (0,), device=device)
            results.labels = torch.zeros(0, device=device, dtype=torch.long)
        else:
            height, width = meta['ori_shape'][:2]
            dtype = torch.bool if mask_thr_binary >= 0 else torch.uint8
            results.masks = torch.zeros(0, height, width, device=device, dtype=dtype)
        out.append(results)
    return out
