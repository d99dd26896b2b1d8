"""What a run does where the optimizer and the schedules of its config are not those of the checkpoint it resumes.

A checkpoint holds rates, decays and milestones along with moments and counters. What the config says now rules, and
what differs is said: otherwise a changed learning rate would change nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from mmdet.engine.finite import wrappers_of
from mmdet.engine.runner.progress import Schedules

_KERNELS = frozenset({'params', 'param_names', 'foreach', 'fused', 'capturable', 'differentiable', 'maximize'})
_STEPS = frozenset({'last_step', '_global_step', '_last_value', 'verbose'})
"""What a schedule has done so far; the rest of its state is what the config made it."""


class OptimizerSettings:
    """The parameter groups of the optimizers as the config made them.

    Args:
        optim_wrapper: One, or one of several.
        scheduled: Names in parameter groups that schedules set, which are theirs to bring back.
    """

    def __init__(self, optim_wrapper: Any, scheduled: Iterable[str] = ()) -> None:
        self._optimizers = [w.optimizer for w in wrappers_of(optim_wrapper) if hasattr(w, 'optimizer')]
        skipped = _KERNELS | set(scheduled) | {f'initial_{name}' for name in scheduled}
        self._given = [
            [{k: copy.deepcopy(v) for k, v in group.items() if k not in skipped} for group in one.param_groups]
            for one in self._optimizers
        ]

    def misfit(self, state: Mapping[str, Any]) -> str:
        """Why the stored ``state`` of an optim wrapper is not of these optimizers; empty if it is."""
        states = [state] if 'param_groups' in state else list(state.values())
        if len(states) != len(self._optimizers):
            return f'{len(states)} optimizers, not {len(self._optimizers)}'
        for optimizer, stored in zip(self._optimizers, states, strict=True):
            kind, ours, theirs = type(optimizer).__name__, optimizer.param_groups, stored['param_groups']
            if [len(group['params']) for group in ours] != [len(group['params']) for group in theirs]:
                counts = [(sum(len(group['params']) for group in groups), len(groups)) for groups in (theirs, ours)]
                return '{} parameters in {} groups, not {} in {}'.format(*counts[0], *counts[1])
            lacking = sorted(set(optimizer.defaults) - _KERNELS - set(theirs[0]))
            if theirs and lacking and set(theirs[0]) - _KERNELS - set(ours[0]):
                return f'an optimizer other than {kind}, since it has no {lacking[0]}'
        return ''

    def restore(self) -> list[str]:
        """Set what the config gave and the checkpoint has changed; says what."""
        changes: dict[str, None] = {}
        for optimizer, groups in zip(self._optimizers, self._given, strict=True):
            for group, given in zip(optimizer.param_groups, groups, strict=True):
                for name, value in given.items():
                    if name in group and _plain(group[name]) != _plain(value):
                        changes[f'{name} {group[name]} -> {value}'] = None
                        group[name] = value
        return list(changes)


def changed_schedules(schedules: Schedules, stored: Any) -> list[str]:
    """How the schedules of the config differ from those of a checkpoint, but for how far these have come."""
    groups = stored.values() if isinstance(stored, Mapping) else [stored or []]
    old = [state for group in groups for state in (group if isinstance(group, list) else [group])]
    if len(old) != len(schedules.fresh):
        return [f'schedules {len(old)} -> {len(schedules.fresh)}']
    changes: dict[str, None] = {}
    for scheduler, before, now in zip(schedules.schedulers, old, schedules.fresh, strict=True):
        if getattr(scheduler, 'need_val_args', False):  # its state is what validations made it
            continue
        for name in now:
            same = name in _STEPS or callable(now[name]) or name not in before
            if not same and _plain(before[name]) != _plain(now[name]):
                title = scheduler.param_name if name == 'base_values' else name
                changes[f'{title} {_shown(before[name])} -> {_shown(now[name])}'] = None
    return list(changes)


def _plain(value: Any) -> Any:
    """A value that can be compared, whether it comes from a file or not."""
    if isinstance(value, Mapping):
        return sorted((str(key), _plain(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.tolist() if hasattr(value, 'tolist') else value


def _shown(value: Any) -> str:
    if isinstance(value, list) and value and all(each == value[0] for each in value):
        value = value[0]
    return str(sorted(value) if isinstance(value, Mapping) else value)
