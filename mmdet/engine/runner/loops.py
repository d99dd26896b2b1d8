"""Training and validation loops that continue an interrupted run where it was, in the middle of an epoch too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop as _EpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as _IterBasedTrainLoop
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals

from mmdet.engine.optimizers.optim_wrapper import NonFiniteLossError
from mmdet.engine.replay import record_step
from mmdet.registry import LOOPS
from mmdet.utils.randomness import ResumableBatches, mix, seed_all


def _skip_batches(dataloader: Any, count: int) -> bool:
    """Let the next pass over the loader leave out its first batches, without loading them, if it can."""
    batches = getattr(dataloader, 'batch_sampler', None)
    if count and isinstance(batches, ResumableBatches):
        batches.offset = count
        return True
    return count == 0


def _set_epoch(dataloader: Any, epoch: int) -> None:
    for sampler in (getattr(dataloader, 'sampler', None), getattr(dataloader.batch_sampler, 'sampler', None)):
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)


def _batches(dataloader: Any, skip: int) -> Iterator[Any]:
    free = _skip_batches(dataloader, skip)
    iterator = iter(dataloader)
    if not free:  # a loader that was not built by the runner
        for _ in range(skip):
            next(iterator)
    return iterator


class _ExactTraining:
    """What both training loops share."""

    def train_iter(self, batch_idx: int, data_batch: Any) -> None:
        """One iteration, whose randomness is a function of (seed, rank, iteration)."""
        runner = self.runner
        seed_all(mix(runner.seed, 1, get_rank(), self._iter))
        runner.call_hook('before_train_iter', batch_idx=batch_idx, data_batch=data_batch)
        try:
            outputs = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
        except NonFiniteLossError as error:
            raise NonFiniteLossError(record_step(runner, data_batch, str(error))) from error
        runner.call_hook('after_train_iter', batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def validate(self) -> None:
        # before, since a new best score saves the checkpoint again
        self.runner.message_hub.update_info('last_validation', self._iter)
        self.runner.val_loop.run()

    def validation_was_cut_off(self) -> bool:
        """Whether the checkpoint that was resumed stands between training and the validation that follows it."""
        return self._iter > 0 and self.runner.message_hub.runtime_info.get('last_validation') != self._iter


@LOOPS.register_module()
class EpochBasedTrainLoop(_ExactTraining, _EpochBasedTrainLoop):
    """Loop over epochs."""

    def run(self) -> torch.nn.Module:
        self.runner.call_hook('before_train')
        at_boundary = self._iter == self._epoch * len(self.dataloader)
        if at_boundary and self.validation_was_cut_off() and self._validation_is_due():
            self.validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            if self._validation_is_due():
                self.validate()
        self.runner.call_hook('after_train')
        return self.runner.model

    def _validation_is_due(self) -> bool:
        self._decide_current_val_interval()
        return (
            self.runner.val_loop is not None
            and self._epoch >= self.val_begin
            and (self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs)
        )

    def run_epoch(self) -> None:
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        for index, data_batch in enumerate(_batches(self.dataloader, done), start=done):
            self.run_iter(index, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        self.train_iter(idx, data_batch)


@LOOPS.register_module()
class IterBasedTrainLoop(_ExactTraining, _IterBasedTrainLoop):
    """Loop over iterations."""

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        # not the parent's: it starts loading data before it is known where to
        BaseLoop.__init__(self, runner, dataloader)
        if int(max_iters) != max_iters:
            raise ValueError(f'max_iters must be a whole number, not {max_iters}')
        self._max_iters, self._max_epochs = int(max_iters), 1
        self._epoch = self._iter = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False
        self.runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, 'metainfo', None)
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(val_interval, dynamic_intervals)

    def run(self) -> torch.nn.Module:
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        if self.validation_was_cut_off() and self._validation_is_due():
            self.validate()
        self.dataloader_iterator = self._endless_batches()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            if self._validation_is_due():
                self.validate()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _validation_is_due(self) -> bool:
        self._decide_current_val_interval()
        return (
            self.runner.val_loop is not None
            and self._iter >= self.val_begin
            and (self._iter % self.val_interval == 0 or self._iter == self._max_iters)
        )

    def _endless_batches(self) -> Iterator[Any]:
        """Batches from the present iteration on; a sampler that ends is started again with the next epoch's seed."""
        try:
            length = len(self.dataloader)
        except TypeError:
            length = None
        endless = length is None or not hasattr(self.dataloader.sampler, 'set_epoch') or _is_infinite(self.dataloader)
        passes, skip = (0, self._iter) if endless else divmod(self._iter, length)
        while True:
            _set_epoch(self.dataloader, passes)
            yield from _batches(self.dataloader, skip)
            passes, skip = passes + 1, 0

    def run_iter(self, data_batch: Any) -> None:
        self.train_iter(self._iter, data_batch)


def _is_infinite(dataloader: Any) -> bool:
    sampler = getattr(dataloader.batch_sampler, 'sampler', dataloader.sampler)
    return 'Infinite' in type(sampler).__name__ or 'MultiSource' in type(sampler).__name__
