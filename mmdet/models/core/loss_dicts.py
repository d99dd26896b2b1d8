"""Losses by name, of several branches together."""

from __future__ import annotations

from collections.abc import Sequence


def rename_loss_dict(prefix: str, losses: dict) -> dict:
    """The losses with ``prefix`` before each name."""
    return {prefix + name: value for name, value in losses.items()}


def reweight_loss_dict(losses: dict, weight: float) -> dict:
    """Multiply, in place, what has 'loss' in its name, tensors or lists of them; accuracies stay."""
    for name, value in losses.items():
        if 'loss' in name:
            losses[name] = [item * weight for item in value] if isinstance(value, Sequence) else value * weight
    return losses
