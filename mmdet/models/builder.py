"""Registries and build functions of MMDetection 2.x; one registry took their place."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmdet.registry import MODELS

BACKBONES = NECKS = ROI_EXTRACTORS = SHARED_HEADS = HEADS = LOSSES = DETECTORS = MODELS


def build(cfg: dict) -> nn.Module:
    """As ``MODELS.build``; kept for code of MMDetection 2.x."""
    return MODELS.build(cfg)


build_backbone = build_neck = build_roi_extractor = build_shared_head = build_head = build_loss = build


def build_detector(cfg: dict, train_cfg: dict | None = None, test_cfg: dict | None = None) -> nn.Module:
    """A detector whose training and test settings may be given beside its config."""
    beside: dict[str, Any] = dict(train_cfg=train_cfg, test_cfg=test_cfg)
    return MODELS.build({**cfg, **{name: value for name, value in beside.items() if value is not None}})
