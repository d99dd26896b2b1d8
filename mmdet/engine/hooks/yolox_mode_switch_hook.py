"""YOLOX trains its last epochs without mosaic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmdet.engine.hooks.pipeline_switch_hook import restart_workers
from mmdet.registry import HOOKS


@HOOKS.register_module()
class YOLOXModeSwitchHook(Hook):
    """Turns mosaic, affine and mix-up off and the L1 loss on for the last epochs (arXiv:2107.08430, Sec. 2.1).

    Args:
        num_last_epochs: Epochs at the end to which this applies.
        skip_type_keys: Transforms of ``MultiImageMixDataset`` to leave out.
    """

    def __init__(
        self, num_last_epochs: int = 15, skip_type_keys: Sequence[str] = ('Mosaic', 'RandomAffine', 'MixUp')
    ) -> None:
        self.num_last_epochs, self.skip_type_keys = num_last_epochs, skip_type_keys
        self._has_switched = self._restart_dataloader = False

    def before_train_epoch(self, runner: Any) -> None:
        if runner.epoch + 1 < runner.max_epochs - self.num_last_epochs or self._has_switched:
            if self._restart_dataloader:
                runner.train_dataloader._DataLoader__initialized = True
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        runner.logger.info('No mosaic and mix-up aug now!')
        runner.train_dataloader.dataset.update_skip_type_keys(self.skip_type_keys)
        self._restart_dataloader = restart_workers(runner.train_dataloader)
        runner.logger.info('Add additional L1 loss now!')
        model = getattr(model, 'detector', model)
        model.bbox_head.use_l1 = True
        self._has_switched = True
