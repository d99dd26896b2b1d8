"""Another training pipeline for the last epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop

from mmdet.datasets.walk import chains, mixing_message, needs_partners, pipeline_of, set_pipeline
from mmdet.errors import UserValueError
from mmdet.registry import HOOKS, TRANSFORMS


@HOOKS.register_module()
class PipelineSwitchHook(Hook):
    """Replaces the training pipeline from epoch ``switch_epoch`` (counted from 0) on.

    In wrappers, for each data set inside: a ``switch_pipeline`` that loads the pictures replaces its pipeline and
    empties those of the wrappers around it, and one that does not replaces the outermost pipeline around it, that of a
    ``MultiImageMixDataset`` for example. Where the new transforms mix pictures, what loads goes to the data set and
    the rest to the wrapper.

    Args:
        switch_pipeline: The transforms from then on.

    Raises:
        UserValueError: before training, where it could not take effect.
    """

    def __init__(self, switch_epoch: int, switch_pipeline: list[dict]) -> None:
        self.switch_epoch, self.switch_pipeline = switch_epoch, switch_pipeline
        self._has_switched = self._restart_dataloader = False

    def before_train(self, runner: Any) -> None:
        require_epochs(runner, f'PipelineSwitchHook(switch_epoch={self.switch_epoch})', self.switch_epoch > 0)
        if self.switch_epoch >= runner.max_epochs:
            runner.logger.warning(
                f'PipelineSwitchHook: training ends after epoch {runner.max_epochs}, so switch_epoch='
                f'{self.switch_epoch} never comes'
            )
        planned_switch(runner.train_dataloader.dataset, self.switch_pipeline)

    def before_train_epoch(self, runner: Any) -> None:
        loader = runner.train_dataloader
        if runner.epoch < self.switch_epoch or self._has_switched:
            if self._restart_dataloader:
                loader._DataLoader__initialized = True
            return
        runner.logger.info('Switch pipeline now!')
        for node, pipeline in planned_switch(loader.dataset, self.switch_pipeline):
            set_pipeline(node, pipeline)
        self._restart_dataloader = restart_workers(loader)
        self._has_switched = True


def planned_switch(dataset: Any, pipeline: Sequence[dict | Callable]) -> list[tuple[Any, Sequence]]:
    """Which wrappers and leaves get which transforms, so that all samples go through ``pipeline``."""
    plan: dict[int, tuple[Any, Sequence]] = {}
    mixing = [step for step in pipeline if needs_partners(_class(step))]
    for chain in chains(dataset):
        around = [node for node in chain[:-1] if pipeline_of(node) is not None]
        leaf = chain[-1]
        if mixing and not around:
            raise UserValueError(f'switch_pipeline: {mixing_message(_class(mixing[0]).__name__, type(leaf).__name__)}')
        own = pipeline_of(leaf)
        if own is None and not around:
            raise UserValueError(f'PipelineSwitchHook: {type(leaf).__name__} has no pipeline to replace')
        loads = _last_loader(pipeline, leaf) + 1
        if not loads and not around and any(map(_loads, map(type, own or ()))):
            raise UserValueError(
                f'PipelineSwitchHook: switch_pipeline loads no picture, and would replace all of the pipeline of '
                f'{type(leaf).__name__}, which does. Begin it with what that begins with'
            )
        if not loads:
            parts = [((around or [leaf])[0], pipeline)]
        else:
            cut = loads if mixing else len(pipeline)
            parts = [(node, []) for node in around] + [(leaf, pipeline[:cut])]
            if mixing:
                parts[0] = (around[0], pipeline[cut:])
        plan.update({id(node): (node, steps) for node, steps in parts})
    return list(plan.values())


def _last_loader(pipeline: Sequence, leaf: Any) -> int:
    """Place of the last transform that loads something, -1 if none does."""
    first = [type(step) for step in (pipeline_of(leaf) or [])[:1]]
    kinds = [_class(step) for step in pipeline]
    return max((i for i, kind in enumerate(kinds) if _loads(kind) or kind in first), default=-1)


def _loads(kind: Any) -> bool:
    return 'Load' in getattr(kind, '__name__', '')


def _class(step: dict | Callable) -> Any:
    if not isinstance(step, dict):
        return type(step)
    return TRANSFORMS.get(step['type']) if isinstance(step['type'], str) else step['type']


def require_epochs(runner: Any, name: str, needed: bool = True) -> None:
    """Refuse a loop over iterations to a hook that waits for an epoch.

    Raises:
        UserValueError: for such a loop.
    """
    if needed and not isinstance(runner.train_loop, EpochBasedTrainLoop):
        raise UserValueError(
            f'{name} counts epochs, but train_cfg trains by iterations ({type(runner.train_loop).__name__}), where all '
            'is one epoch: use train_cfg=dict(by_epoch=True, max_epochs=...)'
        )


def restart_workers(loader: Any) -> bool:
    """Let persistent workers, if there are any, end: they hold a copy of the dataset as it was when they started.

    The loader counts as not initialised until the hook is called again, as in MMDetection 3.x.
    """
    if getattr(loader, 'persistent_workers', False) is not True:
        return False
    loader._DataLoader__initialized = False
    loader._iterator = None
    return True
