"""Compiled networks: backbone, neck, transformer and what heads compute before losses and post-processing, by
``torch.compile``.

Modules stay what they are: their calls are compiled, so names of weights, copies, pickles and joints do not change.
A copy, such as an averaged model, is not compiled. Losses, assignment, post-processing and the optimizer stay eager.
"""

from __future__ import annotations

import difflib
import inspect
import time
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.utils._pytree import tree_iter

from mmdet.errors import UserTypeError, UserValueError

MANY = 8
"""More graphs than this for one network are too many: something about its inputs changes all the time."""

NUMBERS = ('spatial_shapes', 'level_start_index')
"""Arguments of attention layers that are tensors on the host: graphs get numbers, for they cannot look inside."""

WITHOUT_NETWORK = ('roi_head', 'panoptic_fusion_head')
"""Heads whose parts are compiled, or that have nothing to compile."""


def compile_options(value: Any) -> dict | None:
    """Arguments of ``torch.compile`` of a config's ``compile``: True, False, None or a dict of them.

    Raises:
        TypeError: for something else.
        ValueError: for an option that torch.compile does not have.
    """
    if value is None or value is False:
        return None
    if value is True:
        return {}
    if isinstance(value, Mapping):
        known = [name for name in inspect.signature(torch.compile).parameters if name != 'model']
        for name in value:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1, 0)[0]
                raise UserValueError(f'torch.compile has no option {name!r} of compile; nearest: {near!r}')
        return dict(value)
    raise UserTypeError(f'compile must be True, False or a dict of options of torch.compile, not {value!r}')


def networks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of what is compiled: backbones, necks, heads of one level, each head of region heads, and each
    layer of encoders and decoders: these are alike, so that what is made for the first serves all."""
    found: set[nn.Module] = set()
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        *owner, last = name.split('.')
        if last.isdigit():  # one of several stages, or layers
            *owner, last = owner
        wanted = last in ('backbone', 'neck') or (last == 'layers' and owner[-1:] in (['encoder'], ['decoder']))
        wanted |= last.endswith('_head') and last not in WITHOUT_NETWORK
        if wanted and not isinstance(module, nn.ModuleList) and module not in found and not name.startswith(inside):
            found.add(module)
            inside += (f'{name}.',)
            yield name, module


def compile_networks(model: nn.Module, options: Mapping[str, Any] | None = None) -> list[str]:
    """Compile the calls of the :func:`networks` of a model in place; once, however often it is asked for.

    A network is compiled for the sizes that it sees first. As soon as it sees others, it is compiled once more for any
    number of pictures or regions and, if that changes too, for any height, width and number of queries.
    ``dynamic=True`` does so from the start, ``dynamic=False`` compiles for each size anew.

    Args:
        options: Arguments of ``torch.compile``.

    Returns:
        Names of the networks.
    """
    inner: Any = model
    while is_model_wrapper(inner):
        inner = inner.module
    names: list[str] = []
    for name, module in networks(inner):
        if not isinstance(module._compiled_call_impl, CompiledCall):
            # nn.Module leaves this attribute out of copies and pickles, as they must not call the original
            module._compiled_call_impl = CompiledCall(name, module._call_impl, dict(options or {}), not names)
        names.append(name)
    return names


def is_compiled(model: nn.Module) -> bool:
    """Whether :func:`compile_networks` found a network in the model."""
    return any(isinstance(module._compiled_call_impl, CompiledCall) for module in model.modules())


class CompiledCall:
    """A compiled function of tensors in nested tuples that says when it is compiled, and for what.

    Args:
        begins: Whether each call begins a new step of training or inference. What CUDA graphs computed in the step
            before may be written over then.

    Attributes:
        graphs: How often it was compiled.
    """

    def __init__(self, name: str, function: Callable, options: dict, begins: bool = False) -> None:
        self.marks = begins and _records_cuda_graphs(options)
        self.name, self.graphs = name, 0
        owner = type(getattr(function, '__self__', None))
        self.takes_numbers = owner.__module__.partition('.')[0] == 'mmdet'  # others may need tensors
        self.dynamic = options.pop('dynamic', None)
        self.compiled = torch.compile(
            _own_code(function, name), dynamic=False if self.dynamic is False else None, **options
        )
        self._first: dict[tuple, list[torch.Size]] = {}
        self._axes: tuple[int, ...] = (0, 1, 2, 3) if self.dynamic else ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.marks:
            torch.compiler.cudagraph_mark_step_begin()
        for name in NUMBERS if self.takes_numbers else ():
            if isinstance(kwargs.get(name), Tensor) and kwargs[name].is_cpu:
                kwargs[name] = kwargs[name].tolist()
        if self.dynamic is not False:
            self._mark([x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)])
        before, started = _graphs(), time.perf_counter()
        out = self.compiled(*args, **kwargs)
        if _graphs() != before:
            self.graphs += 1
            self._report(time.perf_counter() - started, args)
        return out

    def _mark(self, tensors: list[Tensor]) -> None:
        """Tell the compiler which sides of the inputs change."""
        sizes = [x.shape for x in tensors]
        first = self._first.setdefault(tuple(map(len, sizes)), sizes)
        if sizes != first and len(self._axes) < 4:
            inner = any(a[axis] != b[axis] for a, b in zip(sizes, first) for axis in _inner_axes(len(a)))
            self._axes = (0, 1, 2, 3) if inner else (0,)
        for x in tensors if self._axes else ():
            torch._dynamo.maybe_mark_dynamic(x, [axis for axis in self._axes if axis in (0, *_inner_axes(x.dim()))])

    def _report(self, seconds: float, args: tuple) -> None:
        shapes = ', '.join('x'.join(map(str, x.shape)) for x in tree_iter(args) if isinstance(x, Tensor))
        print_log(f'compiled {self.name} for {shapes} in {seconds:.0f} s (graph {self.graphs})', 'current')
        if self.graphs == MANY:
            print_log(
                f'{self.name} was compiled {MANY} times: its inputs differ too much. Pad pictures to fewer sizes, set '
                'compile=dict(dynamic=True), or TORCH_LOGS=recompiles to see why',
                'current',
                30,
            )


def _inner_axes(dims: int) -> tuple[int, ...]:
    """Which axes of a tensor change with the sizes of pictures and the number of queries; never those of channels."""
    return (2, 3) if dims == 4 else (1,) if dims in (2, 3) else ()


def _records_cuda_graphs(options: Mapping[str, Any]) -> bool:
    modes, inner = ('reduce-overhead', 'max-autotune'), options.get('options') or {}
    return (
        options.get('mode') in modes or options.get('backend') == 'cudagraphs' or bool(inner.get('triton.cudagraphs'))
    )


def _graphs() -> int:
    return torch._dynamo.utils.counters['stats']['unique_graphs']


def _own_code(function: Callable, name: str) -> Callable:
    """``function`` behind a code object of its own: torch limits recompilations by code, which modules share."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    code = call.__code__.replace(co_name=name.replace('.', '_'))
    return types.FunctionType(code, call.__globals__, name, None, call.__closure__)
