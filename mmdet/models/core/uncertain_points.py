"""Points where a mask is least certain (PointRend, arXiv:1912.08193, Sec. 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.ops.point_sample import point_sample


def get_uncertainty(mask_preds: Tensor, labels: Tensor) -> Tensor:
    """How near the logit of the right class is to zero, as its negated size.

    Args:
        mask_preds: (N, C, ...), or (N, 1, ...) for masks without classes.
        labels: (N,).

    Returns:
        (N, 1, ...).
    """
    if mask_preds.shape[1] != 1:
        mask_preds = mask_preds[torch.arange(len(mask_preds), device=mask_preds.device), labels].unsqueeze(1)
    return -mask_preds.abs()


def get_uncertain_point_coords_with_randomness(
    mask_preds: Tensor, labels: Tensor, num_points: int, oversample_ratio: float, importance_sample_ratio: float
) -> Tensor:
    """Points to train a mask at: the least certain of ``oversample_ratio`` times as many, the rest anywhere.

    Args:
        mask_preds: Logits (N, C, H, W) or (N, 1, H, W).
        importance_sample_ratio: Share of the ``num_points`` that are picked for their uncertainty.

    Returns:
        x and y from 0 to 1, (N, num_points, 2).
    """
    if oversample_ratio < 1 or not 0 <= importance_sample_ratio <= 1:
        raise UserValueError(
            f'oversample_ratio must be at least 1 and importance_sample_ratio between 0 and 1, '
            f'not {oversample_ratio} and {importance_sample_ratio}'
        )
    num_images, device = len(mask_preds), mask_preds.device
    coords = torch.rand(num_images, int(num_points * oversample_ratio), 2, device=device)
    uncertainty = get_uncertainty(point_sample(mask_preds, coords), labels)[:, 0]  # (N, points)
    num_uncertain = int(importance_sample_ratio * num_points)
    index = uncertainty.topk(num_uncertain, 1).indices
    picked = coords.gather(1, index[..., None].expand(-1, -1, 2))
    anywhere = torch.rand(num_images, num_points - num_uncertain, 2, device=device)
    return torch.cat([picked, anywhere], 1)


def pick_uncertain_points(
    masks: Tensor,
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
    budget: int = 8 * 1024**2,
) -> Tensor:
    """``(N, num_points, 2)`` as :func:`get_uncertain_point_coords_with_randomness` of masks without classes.

    Args:
        masks: Logits ``(N, 1, H, W)``.
        budget: Candidates among which points are picked at once.
    """
    step = max(1, int(budget // max(1, num_points * oversample_ratio)))
    options = num_points, oversample_ratio, importance_sample_ratio
    parts = masks.split(step)
    return torch.cat([get_uncertain_point_coords_with_randomness(part, None, *options) for part in parts])  # type: ignore[arg-type]
