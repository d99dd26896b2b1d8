"""The last state of a run that cannot go on, saved while other ranks are gone or hang."""

from __future__ import annotations

import threading
from typing import Any

import torch

from mmdet.engine.finite import last_good, wrappers_of
from mmdet.engine.hooks.checkpoint_hook import CheckpointHook, at_optimizer_step

WAITING = 'agreeing with other ranks'
"""A phase in which all of an iteration is done but its count."""
_lock = threading.Lock()


def where_it_is(runner: Any) -> str:
    """'Rank 1 has been in the phase ... of iteration ...'"""
    phase = phase_of(runner)
    return f'Rank {runner.rank} has been in the phase {phase!r} of iteration {runner.iter + 1}'


def phase_of(runner: Any) -> str:
    """What a runner does at the moment, in words."""
    phase = getattr(runner, 'phase', '') or 'loading data'
    if phase != 'training step':
        return phase
    wrappers = [getattr(wrapper, 'phase', '') for wrapper in wrappers_of(runner.optim_wrapper)]
    return f'training step: {next(filter(None, wrappers), "forward pass")}'


def save_last_state(runner: Any) -> str:
    """Write what rank 0 has, without asking other ranks, from whichever thread; once.

    Returns:
        A sentence for the log: what was saved or why nothing was.
    """
    with _lock:  # the watchdog and the main thread may both come here
        if getattr(runner, 'rescue', None) is None:
            runner.rescue = _save(runner)
        return runner.rescue


def _save(runner: Any) -> str:
    if runner.rank != 0:
        return 'Rank 0 writes the checkpoint, if it can.'
    reason = _reason_against(runner)
    if reason:
        return f'No checkpoint is made of the present state: {reason}. {last_good(runner)}'
    done = runner.iter + (phase_of(runner) == WAITING)
    hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    name = f'iter_{done}.pth'
    try:
        if hook is not None:
            hook.save_interim(runner, done, alone=True)
        else:
            runner.save_checkpoint(runner.work_dir, name, meta=dict(epoch=runner.epoch, iter=done), by_epoch=False)
    except Exception as error:  # it must not keep the process from ending
        return f'No checkpoint could be made of the present state: {error}. {last_good(runner)}'
    return f'Saved {name}; --resume continues from it.'


def _reason_against(runner: Any) -> str:
    """Why the present state is none to continue from; empty if it is."""
    phase = phase_of(runner)
    if not hasattr(runner.train_loop, 'progress'):
        return 'the training loop is not one of this package'
    if not runner.iter + (phase == WAITING):
        return 'no iteration is done'
    if phase == 'validation':  # a moving average may stand in the place of the weights
        return 'what there is to save was saved before the validation'
    if phase.endswith('optimizer step') or phase == 'hooks after a step':
        return f'it is half done ({phase})'
    if not at_optimizer_step(runner):
        return 'gradients are accumulated, and are not saved'
    if torch.cuda.is_initialized() and not torch.cuda.default_stream().query():
        return 'the GPU has not finished what was queued'
    return ''
