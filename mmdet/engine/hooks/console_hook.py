"""The lines of a quiet console: a header, one for each epoch, what a test gave."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook

from mmdet.datasets import walk
from mmdet.engine.console import say
from mmdet.engine.hooks.checkpoint_hook import overall_metric, says_no_truth
from mmdet.registry import HOOKS
from mmdet.version import __version__

SILENCE = 60  # seconds after which a file of output gets a line, where no bar shows that something happens


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03 or 2:03."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f'{hours}:{minutes:02}:{rest:02}' if hours else f'{minutes}:{rest:02}'


@HOOKS.register_module()
class ConsoleHook(Hook):
    """Says on the console what a run is, how each epoch went and which was the best so far.

    Where no terminal looks there is no bar; then a line comes once a minute.
    """

    priority = 'LOWEST'  # after the checkpoint, of which it tells

    def __init__(self) -> None:
        self._best: tuple[float, str] | None = None
        self._pending = False
        self._begin = self._epoch_begin = self._last_line = 0.0
        self._first_iter = 0

    def _say(self, runner: Any, text: str) -> None:
        self._last_line = time.monotonic()
        if is_main_process():
            say(runner.logger, text)

    # ----------------------------------------------------------------------------------------------------------------
    # Header
    def before_train(self, runner: Any) -> None:
        for line in header(runner):
            self._say(runner, line)
        info = runner.message_hub.runtime_info
        if runner.iter and isinstance(info.get('best_score'), (int, float)):
            found = re.search(r'(epoch|iter)_(\d+)', Path(info.get('best_ckpt') or '').name)
            place = f'{"step" if found[1] == "iter" else found[1]} {found[2]}' if found else 'an epoch before'
            self._best = (float(info['best_score']), place)
        self._begin = self._epoch_begin = time.monotonic()
        self._first_iter = runner.iter

    def before_test(self, runner: Any) -> None:
        for line in header(runner, testing=True):
            self._say(runner, line)

    # ----------------------------------------------------------------------------------------------------------------
    # Epochs
    def before_train_epoch(self, runner: Any) -> None:
        self._flush(runner)
        self._epoch_begin = time.monotonic()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if time.monotonic() - self._last_line > SILENCE:
            progress = runner.hooks and next((h for h in runner.hooks if type(h).__name__ == 'ProgressHook'), None)
            if progress is None or not progress.enabled:
                done = f'step {runner.iter + 1}/{runner.max_iters}'
                self._say(runner, f'  {done}{_loss(runner)}{self._left(runner, runner.iter + 1)}')
            self._last_line = time.monotonic()

    def after_train_epoch(self, runner: Any) -> None:
        self._pending = _by_epoch(runner)

    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        if self._begin and metrics is not None:  # and not a validation without training
            self._line(runner, metrics)
        elif metrics is not None:
            self.after_test_epoch(runner, metrics)

    def after_train(self, runner: Any) -> None:
        self._flush(runner)

    def _flush(self, runner: Any) -> None:
        if self._pending:
            self._line(runner, {})

    def _line(self, runner: Any, metrics: Mapping) -> None:
        self._pending = False
        by_epoch = _by_epoch(runner)
        done, total = (runner.epoch, runner.max_epochs) if by_epoch else (runner.iter, runner.max_iters)
        unit = 'epoch' if by_epoch else 'step'
        text = f'{unit} {done:>{len(str(total))}}/{total}{_loss(runner)}'
        numbers = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
        if numbers:
            name = overall_metric(numbers)
            value = float(numbers[name])
            text += f', {name} {value:.3f}'
            if not says_no_truth(name, value) and (self._best is None or value > self._best[0]):
                self._best = (value, f'{unit} {done}')
                text += ' (the best so far)'
            elif self._best is not None:
                text += f' (best {self._best[0]:.3f} at {self._best[1]})'
        now = time.monotonic()
        text += f', {duration(now - self._epoch_begin)}{self._left(runner, runner.iter)}'
        self._epoch_begin = now
        self._say(runner, text)

    def _left(self, runner: Any, done: int) -> str:
        steps = done - self._first_iter
        left = runner.max_iters - done
        if steps <= 0 or left <= 0:
            return ''
        return f', {duration((time.monotonic() - self._begin) / steps * left)} left'

    # ----------------------------------------------------------------------------------------------------------------
    # Tests
    def after_test_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        numbers = {name: value for name, value in (metrics or {}).items() if isinstance(value, (int, float))}
        width = max(map(len, numbers), default=0)
        for name, value in numbers.items():
            self._say(runner, f'  {name:<{width}}  {value:.4f}')


def _by_epoch(runner: Any) -> bool:
    loop = runner._train_loop
    return getattr(loop, '_max_epochs', 1) > 1 or 'Epoch' in type(loop).__name__


def _loss(runner: Any) -> str:
    history = runner.message_hub.log_scalars.get('train/loss')
    if history is None or not len(history.data[0]):
        return ''
    return f', loss {history.mean(min(50, len(history.data[0]))):.4g}'


def header(runner: Any, testing: bool = False) -> list[str]:
    """What runs on what, with which data, and where its log is."""
    device = next(iter(runner.model.parameters()), torch.zeros(())).device
    lines = [f'mmdet {__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}']
    lines.append(f'  model     {_model(runner)}')
    if testing:
        lines.append(f'  data      {_pictures(runner.test_dataloader)}')
    else:
        lines.append(f'  data      {_pictures(runner.train_dataloader)} to train on' + _val(runner))
        lines.append(f'  schedule  {_schedule(runner)}')
    where = f'{device}'
    if device.type == 'cuda':
        where = f'{get_world_size()} x {torch.cuda.get_device_name(device)}'
    elif device.type == 'cpu':
        where = f'CPU, {torch.get_num_threads()} threads' + (f', {get_world_size()} processes' * (get_world_size() > 1))
    lines.append(f'  device    {where}')
    if runner._load_from or runner.iter:
        what = 'goes on from' if runner.iter else 'weights of'
        lines.append(f'  start     {what} {runner.resume_state.path or runner._load_from}'[:200])
    lines.append(f'  log       {runner._log_dir}')
    return lines


def _model(runner: Any) -> str:
    from mmengine.model import is_model_wrapper

    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    parts = []
    for name in ('backbone', 'neck', 'bbox_head', 'rpn_head', 'roi_head'):
        part = getattr(model, name, None)
        if isinstance(part, torch.nn.Module):
            parts.append(type(part).__name__)
    every = list(model.parameters())
    total = sum(p.numel() for p in every) / 1e6
    trained = sum(p.numel() for p in every if p.requires_grad) / 1e6
    inside = f' ({", ".join(parts)})' if parts else ''
    return f'{type(model).__name__}{inside}, {total:.2f} M parameters, {trained:.2f} M of them trained'


def _pictures(loader: Any) -> str:
    dataset = loader.dataset
    found = f'{len(dataset)} pictures'
    leaves = walk.leaves(dataset)
    classes = (getattr(leaves[0], 'metainfo', None) or {}).get('classes') if leaves else None
    if classes:
        shown = ', '.join(map(str, classes[:5])) + (', ...' if len(classes) > 5 else '')
        found += f' of {len(classes)} class{"es" * (len(classes) > 1)} ({shown})'
    return found


def _val(runner: Any) -> str:
    loop = runner._val_loop
    if loop is None or not hasattr(loop, 'dataloader'):
        return ''
    return f', {len(loop.dataloader.dataset)} to validate'


def _schedule(runner: Any) -> str:
    loader = runner.train_dataloader
    batch = getattr(loader, 'batch_size', None) or getattr(getattr(loader, 'batch_sampler', None), 'batch_size', None)
    text = f'{runner.max_epochs} epochs, ' if _by_epoch(runner) else ''
    text += f'{runner.max_iters} steps'
    if batch:
        text += f' of {batch * get_world_size()} pictures'
    optimizers = getattr(runner.optim_wrapper, 'optimizer', None)
    if optimizers is not None:
        rates = [group.get('initial_lr', group['lr']) for group in optimizers.param_groups]
        text += f', {type(optimizers).__name__} with a learning rate of {max(rates):.4g}'
    return text
