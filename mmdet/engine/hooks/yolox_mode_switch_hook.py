"""YOLOX trains its last epochs without mosaic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmdet.datasets.walk import nodes
from mmdet.engine.hooks.pipeline_switch_hook import require_epochs, restart_workers
from mmdet.errors import UserValueError
from mmdet.registry import HOOKS


@HOOKS.register_module()
class YOLOXModeSwitchHook(Hook):
    """Turns mosaic, affine and mix-up off and the L1 loss on for the last epochs (arXiv:2107.08430, Sec. 2.1).

    Args:
        num_last_epochs: Epochs at the end to which this applies.
        skip_type_keys: Transforms to leave out of every ``MultiImageMixDataset``, at whatever depth it is wrapped.

    Raises:
        UserValueError: before training, where it could not take effect.
    """

    def __init__(
        self, num_last_epochs: int = 15, skip_type_keys: Sequence[str] = ('Mosaic', 'RandomAffine', 'MixUp')
    ) -> None:
        self.num_last_epochs, self.skip_type_keys = num_last_epochs, skip_type_keys
        self._has_switched = self._restart_dataloader = False

    def before_train(self, runner: Any) -> None:
        require_epochs(runner, f'YOLOXModeSwitchHook(num_last_epochs={self.num_last_epochs})')
        mixers = _mixers(runner.train_dataloader.dataset)
        if not mixers:
            kind = type(runner.train_dataloader.dataset).__name__
            raise UserValueError(
                f'YOLOXModeSwitchHook leaves transforms of a MultiImageMixDataset out, but the training data set '
                f'({kind}) has none inside. PipelineSwitchHook changes the pipeline of other data sets'
            )
        types = {kind for mixer in mixers for kind in getattr(mixer, 'pipeline_types', ())}
        if types and not types & set(self.skip_type_keys):
            runner.logger.warning(
                f'YOLOXModeSwitchHook: none of skip_type_keys={list(self.skip_type_keys)} is in the pipeline of the '
                f'MultiImageMixDataset, which has {", ".join(sorted(types))}'
            )
        if not hasattr(_head(runner), 'use_l1'):
            runner.logger.warning(
                'YOLOXModeSwitchHook: bbox_head of the model has no use_l1, so no L1 loss will be added in the last '
                'epochs'
            )

    def before_train_epoch(self, runner: Any) -> None:
        if runner.epoch + 1 < runner.max_epochs - self.num_last_epochs or self._has_switched:
            if self._restart_dataloader:
                runner.train_dataloader._DataLoader__initialized = True
            return
        runner.logger.info('No mosaic and mix-up aug now!')
        for mixer in _mixers(runner.train_dataloader.dataset):
            mixer.update_skip_type_keys(self.skip_type_keys)
        self._restart_dataloader = restart_workers(runner.train_dataloader)
        head = _head(runner)
        if hasattr(head, 'use_l1'):
            runner.logger.info('Add additional L1 loss now!')
            head.use_l1 = True
        self._has_switched = True


def _mixers(dataset: Any) -> list:
    """The wrappers that can leave transforms out."""
    return [node for node in nodes(dataset) if hasattr(node, 'update_skip_type_keys')]


def _head(runner: Any) -> Any:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return getattr(getattr(model, 'detector', model), 'bbox_head', None)
