"""Registries and the build function of MMDetection 2.x."""

from __future__ import annotations

from typing import Any

from mmdet.registry import DATASETS, TRANSFORMS

PIPELINES = TRANSFORMS


def build_dataset(cfg: dict, default_args: dict | None = None) -> Any:
    """As ``DATASETS.build``; kept for code of MMDetection 2.x."""
    return DATASETS.build(cfg, default_args=default_args)
