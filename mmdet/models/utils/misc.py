"""Small functions that heads of MMDetection 3.x import; those that the core uses itself live there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.errors import UserNotImplementedError, UserTypeError, UserValueError
from mmdet.models.core import (
    SigmoidGeometricMean,
    aligned_bilinear,
    empty_instances,
    filter_gt_instances,
    images_to_levels,
    levels_to_images,
    multi_apply,
    rename_loss_dict,
    reweight_loss_dict,
    select_single_mlvl,
    sigmoid_geometric_mean,
    unfold_wo_center,
    unmap,
    unpack_gt_instances,
)
from mmdet.structures.bbox import BaseBoxes

__all__ = [
    'SigmoidGeometricMean',
    'aligned_bilinear',
    'empty_instances',
    'filter_gt_instances',
    'images_to_levels',
    'levels_to_images',
    'multi_apply',
    'rename_loss_dict',
    'reweight_loss_dict',
    'select_single_mlvl',
    'sigmoid_geometric_mean',
    'unfold_wo_center',
    'unmap',
    'unpack_gt_instances',
]

_FLIPS = {'horizontal': (3,), 'vertical': (2,), 'diagonal': (2, 3)}


def filter_scores_and_topk(
    scores: Tensor, score_thr: float, topk: int, results: dict | list | Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Any]:
    """The best scores above a threshold.

    Args:
        scores: (P, C).
        results: What belongs to the P priors: a tensor, or a list or dict of tensors.

    Returns:
        Scores, labels and indices of the priors, best first, and ``results`` of these priors.
    """
    prior, label = (scores > score_thr).nonzero(as_tuple=True)
    values, order = scores[prior, label].sort(descending=True)
    order = order[:topk]
    keep = prior[order]
    return values[:topk], label[order], keep, None if results is None else _pick(results, keep)


def _pick(results: dict | list | Tensor, keep: Tensor) -> Any:
    if isinstance(results, dict):
        return {name: value[keep] for name, value in results.items()}
    if isinstance(results, list):
        return [value[keep] for value in results]
    if isinstance(results, Tensor):
        return results[keep]
    raise UserNotImplementedError(
        f'results must be a tensor or a list or dict of tensors, not {type(results).__name__}'
    )


def samplelist_boxtype2tensor(batch_data_samples: Sequence) -> Sequence:
    """Replace, in place, the box containers of ground truths, ignored regions and predictions by their tensors."""
    for sample in batch_data_samples:
        for kind in ('gt_instances', 'pred_instances', 'ignored_instances'):
            instances = sample.get(kind)
            boxes = None if instances is None else instances.get('bboxes')
            if isinstance(boxes, BaseBoxes):
                instances.bboxes = boxes.tensor
    return batch_data_samples


def interpolate_as(
    source: Tensor, target: Tensor, mode: str = 'bilinear', align_corners: bool | None = False
) -> Tensor:
    """Resize ``source`` (B, C, H, W) or (B, H, W) to the height and width of ``target``."""
    size = target.shape[-2:]
    if source.shape[-2:] == size:
        return source
    if source.dim() == 3:
        return F.interpolate(source[:, None], size, mode=mode, align_corners=align_corners)[:, 0]
    return F.interpolate(source, size, mode=mode, align_corners=align_corners)


def relative_coordinate_maps(
    locations: Tensor, centers: Tensor, strides: Tensor, size_of_interest: int, feat_sizes: tuple[int, int]
) -> Tensor:
    """Offsets of all cells of a map to the center of each object, in units of its level's size of interest.

    Args:
        locations: x and y in pixels of the H * W cells, (H * W, 2).
        centers: (N, 2).
        strides: (N,).

    Returns:
        (N, 2, H, W).
    """
    offset = centers[:, :, None] - locations.t()[None]  # (N, 2, H * W)
    return (offset.float() / (strides[:, None, None] * size_of_interest)).reshape(-1, 2, *feat_sizes)


def generate_coordinate(featmap_sizes: Sequence[int], device: torch.device | str = 'cuda') -> Tensor:
    """x and y of every cell, from -1 to 1, for a map of sizes (B, C, H, W): (B, 2, H, W)."""
    batch, height, width = featmap_sizes[0], *featmap_sizes[-2:]
    x = torch.linspace(-1, 1, width, device=device).expand(height, width)
    y = torch.linspace(-1, 1, height, device=device)[:, None].expand(height, width)
    return torch.stack([x, y]).repeat(batch, 1, 1, 1)


def center_of_mass(mask: Tensor, esp: float = 1e-6) -> tuple[Tensor, Tensor]:
    """y and x of the center of mass of a mask (H, W), in cells."""
    rows = torch.arange(mask.shape[0], device=mask.device)[:, None]
    columns = torch.arange(mask.shape[1], device=mask.device)
    mass = mask.sum().float().clamp(min=esp)
    return (mask * rows).sum() / mass, (mask * columns).sum() / mass


def flip_tensor(src_tensor: Tensor, flip_direction: str) -> Tensor:
    """(B, C, H, W) flipped 'horizontal', 'vertical' or 'diagonal'."""
    if src_tensor.dim() != 4:
        raise UserValueError(f'flip_tensor takes (B, C, H, W), not {src_tensor.dim()} dimensions')
    if flip_direction not in _FLIPS:
        raise UserValueError(f'flip_direction must be one of {", ".join(_FLIPS)}, not {flip_direction!r}')
    return src_tensor.flip(_FLIPS[flip_direction])


def mask2ndarray(mask: Any) -> np.ndarray:
    """Masks as an array, from instance masks, a tensor or an array."""
    if isinstance(mask, Tensor):
        return mask.detach().cpu().numpy()
    if isinstance(mask, np.ndarray):
        return mask
    if hasattr(mask, 'to_ndarray'):
        return mask.to_ndarray()
    raise UserTypeError(f'masks must be instance masks, a tensor or an array, not {type(mask).__name__}')


def align_tensor(inputs: Sequence[Tensor], max_len: int | None = None) -> Tensor:
    """Tensors of unequal length, stacked with zeros behind the shorter ones."""
    longest = max(len(item) for item in inputs) if max_len is None else max_len
    return torch.stack([padding_to(item, longest) for item in inputs])


def padding_to(input_tensor: Tensor | None, max_len: int = 300) -> Tensor | None:
    """``input_tensor`` with zeros behind it, ``max_len`` rows in all."""
    if input_tensor is None:
        return None
    missing = max_len - len(input_tensor)
    if missing < 0:
        raise UserValueError(f'a tensor of {len(input_tensor)} rows cannot be padded to {max_len}')
    return torch.cat([input_tensor, input_tensor.new_zeros(missing, *input_tensor.shape[1:])])


def floordiv(dividend: Any, divisor: Any, rounding_mode: str = 'trunc') -> Tensor:
    """As ``torch.div`` with a rounding mode, by default towards zero."""
    return torch.div(dividend, divisor, rounding_mode=rounding_mode)
