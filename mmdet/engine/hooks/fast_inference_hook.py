from __future__ import annotations

import copy
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmdet.engine.acceleration import optimize_for_inference
from mmdet.registry import HOOKS


@HOOKS.register_module()
class FastInferenceHook(Hook):
    """Tests with an optimized copy of the model; the model itself comes back afterwards.

    With ``compile`` in the config the copy is compiled.

    Args:
        optimize: As in :func:`mmdet.engine.acceleration.optimize_for_inference`.
    """

    priority = 'LOWEST'  # after the hook that puts averaged weights in place

    def __init__(self, optimize: str = 'fuse') -> None:
        self.optimize = optimize
        self._model: Any = None

    def before_test_epoch(self, runner: Any) -> None:
        self._model = runner.model
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        runner.model = optimize_for_inference(copy.deepcopy(model), self.optimize, runner.cfg.get('compile'))

    def after_test_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        runner.model, self._model = self._model, None
