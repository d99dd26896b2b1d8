from __future__ import annotations

import copy
from typing import Any

from mmengine.evaluator import Evaluator

from mmdet.registry import EVALUATOR, METRICS


def build_evaluator(cfg: Any) -> Evaluator:
    """The evaluator of a config: that of one metric, of a list of them, or one of its own type with ``metrics``."""
    if isinstance(cfg, Evaluator):
        return cfg
    if isinstance(cfg, dict) and 'metrics' in cfg:
        cfg = copy.deepcopy(cfg)
        cfg.setdefault('type', 'Evaluator')
        return EVALUATOR.build(cfg)
    metrics = list(cfg) if isinstance(cfg, (list, tuple)) else [cfg]
    return Evaluator([METRICS.build(metric) if isinstance(metric, dict) else metric for metric in metrics])
