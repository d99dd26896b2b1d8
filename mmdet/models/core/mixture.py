"""Mixtures of two Gaussians, many at once. Letters: n mixtures, S values of each."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def split_by_mixture(values: Tensor, valid: Tensor, covariance_type: str = 'diag') -> tuple[Tensor, Tensor]:
    """Fit a mixture of two Gaussians to each row by expectation maximisation.

    The components begin at the row's least and greatest value with unit variance and equal weight. As scikit-learn's
    ``GaussianMixture`` does, a row stops where its mean log-likelihood changes by less than 1e-3, or after 100 steps,
    and 1e-6 is added to variances. Costs some small operations a step on the values' device.

    Args:
        values: ``(n, S)`` in ascending order.
        valid: ``(n, S)`` bool, at least one in each row.

    Returns:
        Whether the lower component is the likelier one, and the log-likelihood of each value, both ``(n, S)``.
    """
    x, mask = values.double(), valid.double()[..., None]
    x, count = torch.where(valid, x, 0.0)[..., None], mask.sum(1)  # (n, S, 1), (n, 1)
    square = (values * values).double()[..., None].where(mask > 0, 0.0)
    low, high = values.masked_fill(~valid, math.inf).amin(1), values.masked_fill(~valid, -math.inf).amax(1)
    mean = torch.stack([low, high], 1).double()  # (n, 2)
    variance, weight = torch.ones_like(mean), torch.full_like(mean, 0.5)
    centered = covariance_type in ('full', 'tied')

    def log_joint() -> Tensor:  # (n, S, 2)
        m, precision = mean[:, None], 1 / variance[:, None]
        distance = (x - m) ** 2 if centered else m**2 - 2 * x * m + square
        return (weight.log() - 0.5 * (math.log(2 * math.pi) + variance.log()))[:, None] - 0.5 * distance * precision

    bound = torch.full_like(count, -math.inf)
    running = torch.ones_like(count, dtype=torch.bool)
    for _ in range(100):
        joint = log_joint()
        total = joint.logsumexp(-1, keepdim=True)
        share = (joint - total).exp() * mask
        size = share.sum(1) + 10 * torch.finfo(x.dtype).eps
        new_mean = (share * x).sum(1) / size
        if covariance_type == 'tied':
            spread = ((square.sum(1) - (size * new_mean**2).sum(-1, keepdim=True)) / count).expand_as(mean)
        elif centered:
            spread = (share * (x - new_mean[:, None]) ** 2).sum(1) / size
        else:
            spread = (share * square).sum(1) / size - new_mean**2
        mean = torch.where(running, new_mean, mean)
        variance = torch.where(running, spread + 1e-6, variance)
        weight = torch.where(running, size / size.sum(-1, keepdim=True), weight)
        new_bound = (total * mask).sum(1) / count
        running, bound = running & ((new_bound - bound).abs() >= 1e-3), torch.where(running, new_bound, bound)
        if not running.any():
            break
    joint = log_joint()
    return joint[..., 0] >= joint[..., 1], joint.logsumexp(-1)
