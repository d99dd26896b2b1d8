"""Registries and the build function of MMDetection 2.x."""

from __future__ import annotations

from typing import Any

from mmdet.registry import DATASETS, TRANSFORMS

from .walk import build

PIPELINES = TRANSFORMS


def build_dataset(cfg: dict | list, default_args: dict | None = None) -> Any:
    """A data set of its config; a list of configs is one ``ConcatDataset``."""
    if default_args is not None and isinstance(cfg, dict):
        return DATASETS.build(cfg, default_args=default_args)
    return build(cfg)
