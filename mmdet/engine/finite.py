"""What of a run is not finite: the state before it is saved, and the messages that name the parameters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.model import is_model_wrapper

from mmdet.engine.optimizers.optim_wrapper import NonFiniteGradientError
from mmdet.errors import UserError

NAMED = 5
"""How many names a message gives."""


class NonFiniteStateError(FloatingPointError, UserError):
    """Weights, averages, buffers or the optimizer's state are NaN or infinite, so they are not saved."""


def nonfinite_names(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Names of the tensors with a value that is NaN or infinite. Waits once for each device."""
    groups: dict[torch.device, list[tuple[str, torch.Tensor]]] = {}
    for name, tensor in tensors:
        if tensor.is_floating_point() and tensor.numel() and type(tensor) in (torch.Tensor, torch.nn.Parameter):
            groups.setdefault(tensor.device, []).append((name, tensor.detach()))
    found = []
    for device, group in groups.items():
        values = [tensor for _, tensor in group]
        if device.type == 'cpu':  # several times as fast there as a norm
            signs = [value.sum() for value in values]
        else:
            signs = list(torch._foreach_norm(values, 1))
        finite = torch.isfinite(torch.stack([sign.float() for sign in signs])).tolist()
        doubtful = [pair for pair, fine in zip(group, finite, strict=True) if not fine]
        found += [name for name, tensor in doubtful if not torch.isfinite(tensor).all()]  # large numbers add up too
    return found


def state_of(runner: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors that a checkpoint of a runner would hold, by name."""
    model = _bare(runner.model)
    yield from model.state_dict().items()
    for hook in runner.hooks:
        if hasattr(hook, 'ema_model'):
            yield from ((f'average of {name}', x) for name, x in hook.ema_model.state_dict().items())
    names = parameter_names(model)
    for wrapper in wrappers_of(runner.optim_wrapper):
        for parameter, values in getattr(getattr(wrapper, 'optimizer', None), 'state', {}).items():
            for key, value in values.items():
                if isinstance(value, torch.Tensor):
                    yield f'{key} of {names.get(id(parameter), "a parameter")}', value


def infinite_buffers(model: torch.nn.Module) -> set[str]:
    """Buffers that are infinite by design, such as masks of attention: those that are it before training."""
    names = nonfinite_names(_bare(model).named_buffers())
    return {prefix + name for name in names for prefix in ('', 'average of ', 'average of module.')}


def wrappers_of(optim_wrapper: Any) -> list:
    """The optimizer wrappers of a runner, of which it has one or a dict."""
    return list(optim_wrapper.values()) if hasattr(optim_wrapper, 'optim_wrappers') else [optim_wrapper]


def parameter_names(model: torch.nn.Module) -> dict[int, str]:
    """Names of parameters by ``id``."""
    return {id(parameter): name for name, parameter in model.named_parameters()}


def few(names: list[str]) -> str:
    """The first names, and how many there are besides."""
    more = len(names) - NAMED
    return ', '.join(names[:NAMED]) + (f' and {more} more' if more > 0 else '')


def last_losses(runner: Any) -> dict[str, float]:
    """Of the last iteration that ended, as the log has them or will have them."""
    for hook in runner.hooks:
        if getattr(hook, '_losses', None):
            names, values = hook._losses[-1]
            return dict(zip(names, values.tolist(), strict=True))
    scalars = runner.message_hub.log_scalars.items()
    return {key.partition('/')[2]: float(values.current()) for key, values in scalars if key.startswith('train/loss')}


def check_gradients(runner: Any, method: str = 'check') -> None:
    """Wait for the device and end the run if a step had gradients that are not finite.

    Args:
        method: 'check', or 'finish' at the end of a run, which must have made a step.
    """
    for wrapper in wrappers_of(runner.optim_wrapper):
        check = getattr(wrapper, method, None)  # a wrapper of mmengine has none
        if check is not None:
            try:
                check()
            except NonFiniteGradientError as error:
                raise NonFiniteGradientError(gradient_message(runner, error)) from error


def gradient_message(runner: Any, error: Any) -> str:
    """What is known of a step that could not be recorded, since it was found later."""
    names = parameter_names(_bare(runner.model))
    bad = [names.get(id(parameter), 'a parameter') for parameter in error.parameters]
    outcome = 'The weights are as before that step' if error.kept else 'The weights took that step'
    return (
        f'Iteration {error.count} on rank {runner.rank}: {error}, with the losses {json.dumps(last_losses(runner))}; '
        f'gradients that are not finite: {few(bad) or "not known"}. {outcome}. {last_good(runner)}'
    )


def last_good(runner: Any) -> str:
    """What there is to go back to."""
    folders = [getattr(hook, 'out_dir', None) for hook in runner.hooks] + [runner.work_dir]
    for folder in filter(None, folders):
        pointer = Path(folder) / 'last_checkpoint'
        if pointer.is_file():
            return f'The last good checkpoint is {pointer.parent / pointer.read_text().strip()}.'
    return 'There is no checkpoint yet.'


def _bare(model: Any) -> torch.nn.Module:
    return model.module if is_model_wrapper(model) else model
