"""Training and validation loops that continue an interrupted run where it was, in the middle of an epoch too."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.device import get_device
from mmengine.dist import all_gather_object, get_rank
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop as _EpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as _IterBasedTrainLoop
from mmengine.runner import ValLoop as _ValLoop
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals

from mmdet.engine.finite import check_gradients, gradient_message
from mmdet.engine.optimizers.optim_wrapper import NonFiniteGradientError, NonFiniteLossError
from mmdet.engine.replay import record_step
from mmdet.engine.runner.progress import (
    Pace,
    Place,
    no_batches,
    pace_of,
    ran_out,
    require_batches,
    require_ends,
    require_equal_lengths,
    to_store,
)
from mmdet.errors import UserValueError
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
    samplers: list[Any] = [getattr(dataloader, 'sampler', None), getattr(dataloader.batch_sampler, 'sampler', None)]
    for sampler in samplers:
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)


def _batches(dataloader: Any, skip: int) -> Iterator[Any]:
    free = _skip_batches(dataloader, skip)
    iterator = iter(dataloader)
    if not free:  # a loader that was not built by the runner
        for _ in range(skip):
            next(iterator, None)
    return iterator


class _ExactTraining:
    """What both training loops share: they know where they are in the data, not only how often they have stepped."""

    runner: Any
    dataloader: Any
    val_begin: int
    val_interval: int
    by_epoch: bool
    _epoch: int
    _iter: int
    _max_epochs: int
    _max_iters: int
    _decide_current_val_interval: Callable[[], None]
    _passes = 0  # through the data that are over
    _batch = 0  # iterations of the present one that are over
    _before = 0  # samples seen before it

    def pace(self) -> Pace:
        """How this loop goes through its data."""
        return pace_of(self, is_infinite(self.dataloader), self.by_epoch)

    def go_to(self, place: Place) -> None:
        """Continue at a place that a checkpoint was made at."""
        self._passes, self._batch = place.passes, place.batch
        self._before = place.samples - self.pace().samples(place.batch)
        self._iter = place.iteration
        self._epoch = place.passes if self.by_epoch else 0

    def progress(self, epoch: int, iteration: int) -> dict:
        """What a checkpoint stores of the place in the data, after so many epochs and iterations.

        Hooks save before the loop has counted what they save after.
        """
        pace, ahead = self.pace(), max(iteration - self._iter, 0)
        passes, batch = (epoch, self._batch + ahead) if self.by_epoch else (self._passes, self._batch + ahead)
        if self.by_epoch and epoch != self._epoch:
            batch = 0
        samples = self._before + pace.samples(self._batch + ahead)
        return to_store(pace, Place(passes, batch, iteration, samples))

    def end_pass(self) -> None:
        """Count a pass through the data as over."""
        self._before += self.pace().samples(self._batch)
        self._passes, self._batch = self._passes + 1, 0

    def say_if_finished(self) -> None:
        """Nobody shall take a run that trained nothing for one that trained."""
        names = ('epochs', 'epochs') if self.by_epoch else ('iterations', 'iters')
        done, last = (self._epoch, self._max_epochs) if self.by_epoch else (self._iter, self._max_iters)
        if done >= last or self._iter >= self._max_iters:
            self.runner.logger.warning(
                f'Nothing is left to train: all of the {last} {names[0]} are over. '
                f'A larger train_cfg.max_{names[1]} would go on.'
            )
        elif self.runner.val_loop is not None and self.val_begin > last:
            self.runner.logger.warning(
                f'train_cfg.val_begin={self.val_begin} comes after all of the {last} {names[0]}: nothing is validated.'
            )

    def train_iter(self, batch_idx: int, data_batch: Any) -> None:
        """One iteration, whose randomness is a function of (seed, rank, iteration)."""
        runner = self.runner
        seed_all(mix(runner.seed, 1, get_rank(), self._iter))
        runner.call_hook('before_train_iter', batch_idx=batch_idx, data_batch=data_batch)
        runner.phase = 'training step'
        try:
            outputs = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
        except NonFiniteLossError as error:
            raise NonFiniteLossError(record_step(runner, data_batch, str(error))) from error
        except NonFiniteGradientError as error:
            if error.late:  # the step before this one, whose batch is gone
                raise NonFiniteGradientError(gradient_message(runner, error)) from error
            raise NonFiniteGradientError(record_step(runner, data_batch, str(error), error.parameters)) from error
        runner.phase = 'hooks after a step'
        runner.call_hook('after_train_iter', batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1
        self._batch += 1
        runner.phase = ''

    def validate(self) -> None:
        check_gradients(self.runner)
        # before, since a new best score saves the checkpoint again
        self.runner.message_hub.update_info('last_validation', self._iter)
        self.runner.phase = 'validation'
        self.runner.val_loop.run()
        self.runner.phase = ''

    def is_due(self, done: int, last: int) -> bool:
        """Whether a validation comes after ``done`` epochs or iterations, of which ``last`` are the whole training."""
        self._decide_current_val_interval()
        begun = self.runner.val_loop is not None and done >= self.val_begin
        return begun and (done % self.val_interval == 0 or done == last)

    def show_last(self, **done: int) -> None:
        """Let the message hub name the last iteration (and epoch) that was trained, as in the run that was cut off."""
        for name, count in done.items():
            self.runner.message_hub.update_info(name, max(count - 1, 0))

    def validation_was_cut_off(self) -> bool:
        """Whether the checkpoint that was resumed stands between training and the validation that follows it."""
        return self._iter > 0 and self.runner.message_hub.runtime_info.get('last_validation') != self._iter


@LOOPS.register_module()
class EpochBasedTrainLoop(_ExactTraining, _EpochBasedTrainLoop):
    """Loop over epochs."""

    by_epoch = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        endless = is_infinite(self.dataloader)
        require_batches(self.dataloader, endless)
        require_ends(endless)

    def run(self) -> torch.nn.Module:
        require_equal_lengths(len(self.dataloader))
        self.say_if_finished()
        self.runner.call_hook('before_train')
        self.show_last(iter=self._iter)
        at_boundary = self._batch == 0
        if at_boundary:
            self.show_last(epoch=self._epoch)
        if at_boundary and self.validation_was_cut_off() and self._validation_is_due():
            self.validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            if self._validation_is_due():
                self.validate()
        self.runner.call_hook('after_train')
        return self.runner.model

    def _validation_is_due(self) -> bool:
        return self.is_due(self._epoch, self._max_epochs)

    def run_epoch(self) -> None:
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for index, data_batch in enumerate(_batches(self.dataloader, self._batch), start=self._batch):
            self.run_iter(index, data_batch)
        if self._batch == 0:
            raise no_batches()
        if self._batch < len(self.dataloader) and self.runner.world_size > 1:
            raise ran_out(self.runner, self._batch, len(self.dataloader))
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self.end_pass()

    def run_iter(self, idx: int, data_batch: Any) -> None:
        self.train_iter(idx, data_batch)


@LOOPS.register_module()
class IterBasedTrainLoop(_ExactTraining, _IterBasedTrainLoop):
    """Loop over iterations."""

    by_epoch = False

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
        require_batches(self.dataloader, is_infinite(self.dataloader))
        if int(max_iters) != max_iters:
            raise UserValueError(f'max_iters must be a whole number, not {max_iters}')
        self._max_iters, self._max_epochs = int(max_iters), 1
        self._epoch = self._iter = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False
        self.runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, 'metainfo', None)
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(val_interval, dynamic_intervals)

    def run(self) -> torch.nn.Module:
        self.say_if_finished()
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self.show_last(iter=self._iter)
        if self.validation_was_cut_off() and self._validation_is_due():
            self.validate()
        self.dataloader_iterator = self._endless_batches()
        self.runner.model.train()  # it walks through all modules, so not at every iteration
        while self._iter < self._max_iters and not self.stop_training:
            if not self.runner.model.training:  # after a validation
                self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            if self._validation_is_due():
                self.validate()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _validation_is_due(self) -> bool:
        return self.is_due(self._iter, self._max_iters)

    def _endless_batches(self) -> Iterator[Any]:
        """Batches from the present iteration on; a sampler that ends is started again with the next epoch's seed."""
        while True:
            _set_epoch(self.dataloader, self._passes)
            empty = self._batch == 0
            for data_batch in _batches(self.dataloader, self._batch):
                empty = False
                yield data_batch
            if empty:
                raise no_batches()
            self.end_pass()

    def run_iter(self, data_batch: Any) -> None:
        self.train_iter(self._iter, data_batch)


def is_infinite(dataloader: Any) -> bool:
    """Whether one pass over a loader never ends: its sampler is mmengine's, or has the attribute ``infinite``.

    Lengths do not tell: infinite samplers have that of their dataset.
    """
    sampler = getattr(dataloader.batch_sampler, 'sampler', dataloader.sampler)
    return getattr(sampler, 'infinite', isinstance(sampler, InfiniteSampler))


@LOOPS.register_module()
class ValLoop(_ValLoop):
    """Validation.

    Args:
        runner: The runner.
        dataloader: The loader or its config.
        evaluator: The evaluator, or the config of one or several metrics.
        fp16: Predict with mixed precision.
        compute_loss: Also compute the losses of training on each batch; their means join the metrics as ``loss``,
            ``loss_cls``, ... The pipeline of ``val_dataloader`` must load annotations.
    """

    def __init__(
        self, runner: Any, dataloader: Any, evaluator: Any, fp16: bool = False, compute_loss: bool = False
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self.compute_loss = compute_loss
        self._losses: list[dict[str, float]] = []

    def run(self) -> dict:
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        self._losses.clear()
        for index, data_batch in enumerate(self.dataloader):
            if self.compute_loss:
                self._losses.append(self._batch_losses(index, copy.deepcopy(data_batch)))
            self.run_iter(index, data_batch)
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        if self.compute_loss:
            metrics.update(self._mean_losses())
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics

    @torch.no_grad()
    def _batch_losses(self, index: int, data_batch: Any) -> dict[str, float]:
        """The losses in evaluation mode, with the random numbers of heads fixed by the batch's number."""
        model = self.runner.model
        model = model.module if is_model_wrapper(model) else model
        state = torch.get_rng_state()
        seed_all(mix(self.runner.seed, 3, get_rank(), index))
        with torch.autocast(get_device(), enabled=self.fp16):
            data = model.data_preprocessor(data_batch, False)
            losses = model(**data, mode='loss') if isinstance(data, dict) else model(*data, mode='loss')
        torch.set_rng_state(state)
        _, values = model.parse_losses(losses)
        return {name: float(value) for name, value in values.items()}

    def _mean_losses(self) -> dict[str, float]:
        """Over the batches of all ranks."""
        rows = [row for rank in all_gather_object(self._losses) for row in rank]
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]} if rows else {}


@LOOPS.register_module()
class TeacherStudentValLoop(ValLoop):
    """Validates both models of semi-supervised training; metrics are named ``teacher/...`` and ``student/...``."""

    def run(self) -> dict:
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        model = self.runner.model
        model = model.module if is_model_wrapper(model) else model
        if not hasattr(model, 'semi_test_cfg'):
            raise UserValueError(
                f'TeacherStudentValLoop needs a model with semi_test_cfg, which {type(model).__name__} lacks'
            )
        chosen = model.semi_test_cfg.get('predict_on')
        metrics = {}
        for part in ('teacher', 'student'):
            model.semi_test_cfg['predict_on'] = part
            for index, data_batch in enumerate(self.dataloader):
                self.run_iter(index, data_batch)
            found = self.evaluator.evaluate(len(self.dataloader.dataset))
            metrics.update({f'{part}/{name}': value for name, value in found.items()})
        if chosen is None:  # which means the teacher
            del model.semi_test_cfg['predict_on']
        else:
            model.semi_test_cfg['predict_on'] = chosen
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics
