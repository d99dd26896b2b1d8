"""Types, arguments and keys that nothing knows, at every depth of a config, with the nearest right ones."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

from mmdet.checks.albumentations_check import albumentations_findings
from mmdet.checks.finding import Finding
from mmdet.config.keys import (
    CLOSED_KEYS,
    LAYER_EXTRAS,
    MODEL_KEYS,
    NMS_KEYS,
    OLD_KEYS,
    OPEN_KEYS,
    backend_keys,
    words,
)
from mmdet.config.places import dotted, items_of, look_up, nearest, paths_to
from mmdet.config.sections import (
    FREE_KEYS,
    INSIDE,
    LAYER_KEYS,
    RUNNER_KEYS,
    SECTIONS,
    TAKEN_BEFORE,
    default_type,
    holds_metrics,
)

OURS = ('mmdet.', 'mmengine.', 'mmcv.', 'torch.')
# Each dict in these, or in a list of these, is built by its type
TYPED = {'pipeline', 'transforms', 'custom_hooks', 'param_scheduler', 'vis_backends', 'sampler', 'batch_sampler'}
TYPED |= {'dataset', 'datasets', 'optimizer', 'val_evaluator', 'test_evaluator', 'metrics', 'tta_pipeline'}
EVERYWHERE = {'type', '_scope_', '_delete_'}


def unknown_names(cfg: Any) -> Iterator[Finding]:
    """Findings on the names of a loaded config."""
    import mmengine.runner  # noqa: F401 (fills mmengine's registries)
    from mmengine.registry import init_default_scope

    init_default_scope(cfg.get('default_scope', 'mmdet'))
    values = getattr(cfg, '_cfg_dict', cfg)
    yield from misspelt_sections(cfg)
    walk = _Walk(values)
    for key, registry in SECTIONS.items():
        if values.get(key) is not None:
            yield from walk.inside(dict.__getitem__(values, key), (key,), registry)


def misspelt_sections(cfg: Any) -> Iterator[Finding]:
    """Keys of the top level that look like a section, or a variable, and are used by nothing in the files."""
    text, said = getattr(cfg, 'text', '') or '', {key.partition('.')[0] for key in getattr(cfg, 'without_effect', ())}
    unused = [
        key for key in cfg if key not in RUNNER_KEYS | said and not key.startswith('_') and not _is_read(key, text)
    ]
    for key in unused:
        if key in OLD_KEYS:
            yield Finding('error', key, f'is a key of MMDetection 2.x, which nothing reads. Set {OLD_KEYS[key]}.')
            continue
        if key in LAYER_KEYS or key.endswith('_pipeline') or any(key.startswith(f'{known}_') for known in RUNNER_KEYS):
            continue  # usual names of variables
        near = nearest(key, RUNNER_KEYS | (set(cfg) - set(unused)), cutoff=0.8)[:1]
        if near and near[0] not in RUNNER_KEYS:  # a variable: one of another kind, img_scales for img_scale, is its own
            near = nearest(key, near, cutoff=0.9) if type(cfg[key]) is type(cfg[near[0]]) else []
        if near:
            yield Finding('error', key, f'is no section of a config and nothing uses it. Did you mean {_or(near)}?')


def _is_read(variable: str, text: str) -> bool:
    """Whether the text of config files uses a variable, other than to assign it."""
    return re.search(rf'(?<![\w\'"/]){re.escape(variable)}\b(?![\'"/:]|\s*=[^=])', text) is not None


class _Walk:
    def __init__(self, cfg: dict) -> None:
        self.cfg = cfg
        self.seen: dict[tuple, Any] = {}
        model = cfg.get('model')
        # a class of others may read keys of train_cfg and its kin that nobody else does
        self.model_is_ours = all(each.__module__.startswith(OURS) for each in self.classes(model))

    def find(self, kind: Any, registry: str, node: Any) -> Any:
        """As :func:`find_class`, once for each name."""
        if not isinstance(kind, str):
            return kind
        key = (kind, registry, registry == 'METRICS' and holds_metrics(node))
        if key not in self.seen:
            self.seen[key] = find_class(kind, registry, node)
        return self.seen[key]

    def classes(self, node: Any) -> Iterator[Any]:
        """The classes in the model part of a config that can be found."""
        if isinstance(node, dict) and node.get('type') is not None:
            kind = self.find(node['type'], 'model', node)
            if callable(kind) and kind is not cannot_be_seen:
                yield kind
        for key, item in items_of(node):
            if key not in FREE_KEYS and key not in ('init_cfg', 'nms'):
                yield from self.classes(item)

    def inside(self, node: Any, path: tuple, registry: str) -> Iterator[Finding]:
        if isinstance(node, (list, tuple)):
            for index, item in enumerate(node):
                yield from self.inside(item, (*path, index), registry)
            return
        if not isinstance(node, dict):
            return
        last = next((key for key in reversed(path) if isinstance(key, str)), '')
        if last == 'nms':
            yield from self.suppression(node, path)
            return
        if last == 'backend_args':
            known = backend_keys(node)
            yield from self.keys(node, path, known or {'backend'}, 'error', only_near=known is None)
            return
        kind = node.get('type') or default_type(path, node)
        if kind is not None and registry not in ('data', 'plain'):
            yield from self.typed(node, path, kind, registry, last)
        else:
            yield from self.untyped(node, path, registry, last)
        if last in ('metainfo', 'custom_keys', 'paramwise_cfg'):
            return
        albu = _name(node.get('type')) == 'Albu'
        if albu:
            yield from albumentations_findings(node, dotted(path), look_up(self.cfg, path[:-1]))
        for key, item in items_of(node):
            if key in FREE_KEYS or (albu and key in ('transforms', 'bbox_params')):
                continue
            if key == 'detector' and _name(node.get('type')) == 'Detectron2Wrapper':
                continue  # a config of another library
            yield from self.inside(item, (*path, key), _registry_below(key, registry, path))

    def typed(self, node: dict, path: tuple, kind: Any, registry: str, last: str) -> Iterator[Finding]:
        kind = self.find(kind, registry, node)
        if isinstance(kind, Exception):
            yield Finding('error', f'{dotted(path)}.type', str(kind))
            return
        if not callable(kind):
            return
        known = _argument_names(kind) | EVERYWHERE | set(TAKEN_BEFORE.get(registry, ()))
        if last in LAYER_KEYS:
            known |= set(LAYER_EXTRAS.get(last, ()))
        if last.startswith('loss'):
            known.add('bg_cls_weight')  # DETR's heads make class_weight of it
        if registry == 'WEIGHT_INITIALIZERS':
            known |= {'override', 'name'}
        if 'resize_type' in known:  # which takes the rest
            inner = node.get('resize_type') or inspect.signature(kind).parameters['resize_type'].default
            inner = self.find(inner, 'TRANSFORMS', node)
            known |= _argument_names(inner) if inspect.isclass(inner) else set()
        branches = node.get('branch_field')
        known |= set(branches) if isinstance(branches, (list, tuple)) else set()
        takes, ours = _open_arguments(kind), kind.__module__.startswith(OURS)
        # **kwargs that a class of others hands on may be used up on the way
        level = 'error' if takes == 'named' or ours else 'warning'
        title = f'{kind.__name__} has no argument'
        elsewhere = vars(kind).get('keywords_go_to', kind) is None or not kind.__module__.startswith('mmdet.')
        yield from self.keys(node, path, known, level, title, only_near=takes == 'any' and elsewhere)

    def untyped(self, node: dict, path: tuple, registry: str, last: str) -> Iterator[Finding]:
        where, hooks = dotted(path), words(OPEN_KEYS['default_hooks'])
        is_hook = path[0] == 'default_hooks' and len(path) == 2
        needs_type = is_hook or (last in TYPED and registry not in ('data', 'plain') and not holds_metrics(node))
        wrong = nearest_to_type(node)
        if wrong:
            yield Finding('error', f'{where}.{wrong}', f'{wrong!r} is unknown. Did you mean type?')
        elif needs_type:
            near = nearest(last, hooks, cutoff=0.7) if is_hook and last not in hooks else []
            hint = f' Did you mean default_hooks.{_or(near)}?' if near else ''
            yield Finding('error', where, f'has no type, which names the class to build.{hint}')
        if registry in ('model', 'WEIGHT_INITIALIZERS'):
            known, ours = words(MODEL_KEYS.get(last, '')), self.model_is_ours
            if known:
                yield from self.keys(node, path, known, 'error' if ours else 'warning', only_near=not ours)
            return
        if last == 'paramwise_cfg':
            yield from self.parameterwise(node, path)
        elif last in CLOSED_KEYS:
            own = 'dataset' not in path or self.is_our_dataset(path)
            yield from self.keys(node, path, words(CLOSED_KEYS[last]), 'error', only_near=not own)
        elif last in OPEN_KEYS:
            yield from self.keys(node, path, words(OPEN_KEYS[last]), 'error', only_near=True)

    def is_our_dataset(self, path: tuple) -> bool:
        node: Any = self.cfg
        for key in path[:-1]:
            node = node[key]
        kind = self.find(node.get('type'), 'DATASETS', node) if isinstance(node, dict) and 'type' in node else None
        return getattr(kind, '__module__', '').startswith(OURS)

    def suppression(self, node: dict, path: tuple) -> Iterator[Finding]:
        kind = node.get('type', 'nms')
        if not isinstance(kind, str):
            return
        kind = kind.rpartition('.')[2]
        if kind not in NMS_KEYS:
            near = nearest(kind, NMS_KEYS)
            hint = f' Did you mean {_or(near)}?' if near else f' There are {", ".join(NMS_KEYS)}.'
            yield Finding('error', f'{dotted(path)}.type', f'{kind!r} is no kind of suppression.{hint}')
            return
        yield from self.keys(node, path, words(NMS_KEYS[kind]) | EVERYWHERE, 'error')

    def parameterwise(self, node: dict, path: tuple) -> Iterator[Finding]:
        """``paramwise_cfg``, whose ``custom_keys`` are parts of the names of parameters."""
        wrapper = self.cfg.get(path[0])
        constructor = _name(wrapper.get('constructor')) if isinstance(wrapper, dict) else ''
        ours = constructor in ('', 'DefaultOptimWrapperConstructor', 'LearningRateDecayOptimizerConstructor')
        yield from self.keys(node, path, words(OPEN_KEYS['paramwise_cfg']), 'error', only_near=not ours)
        optimizer = wrapper.get('optimizer') if isinstance(wrapper, dict) else None
        kind = self.find(optimizer.get('type'), 'OPTIMIZERS', optimizer) if isinstance(optimizer, dict) else None
        options = {'lr_mult', 'decay_mult'} | (_argument_names(kind) if inspect.isclass(kind) else set())
        parts = {key for key, item in items_of(self.cfg.get('model') or {}) if isinstance(item, (dict, list, tuple))}
        for pattern, item in items_of(node.get('custom_keys') or {}):
            first = str(pattern).partition('.')[0]
            near = nearest(first, parts, cutoff=0.8)
            if near and first not in parts and not any(first in part for part in parts):
                where = f'{dotted(path)}.custom_keys'
                yield Finding('error', where, f'{pattern!r} is in the name of no parameter. Did you mean {_or(near)}?')
            if isinstance(item, dict):
                yield from self.keys(item, (*path, 'custom_keys', pattern), options, 'error')

    def keys(
        self,
        node: dict,
        path: tuple,
        known: Collection[str],
        level: str,
        title: str = 'has no key',
        only_near: bool = False,
    ) -> Iterator[Finding]:
        """Findings on the keys of one dict.

        Args:
            only_near: Others may have keys here too: only what resembles a known one is a mistake.
        """
        for name in node:
            if not isinstance(name, str) or name in known or name in EVERYWHERE or name.startswith('_'):
                continue
            near = nearest(name, known, cutoff=0.75 if only_near else 0.6)
            if only_near and not near:
                continue
            if not near:  # in its section, another dict may have this key
                within = ((path[0], *rest) for rest in paths_to(self.cfg.get(path[0]), name))
                near = [dotted(place) for place in within if place != (*path, name)][:2]
            hint = f'Did you mean {_or(near)}?' if near else f'It takes {", ".join(sorted({*known} - EVERYWHERE))}.'
            yield Finding(level, f'{dotted(path)}.{name}', f'{title} {name!r}. {hint}')


def nearest_to_type(node: dict) -> str | None:
    """The key of a dict that may have been meant to be its ``type``."""
    return next((key for key in node if isinstance(key, str) and key != 'type' and nearest(key, ['type'], 0.75)), None)


def _or(names: Collection[str]) -> str:
    return ' or '.join(names)


def _name(kind: Any) -> str:
    return str(getattr(kind, '__name__', kind) or '').rpartition('.')[2]


def _registry_below(key: Any, registry: str, path: tuple) -> str:
    if registry == 'model':
        return 'WEIGHT_INITIALIZERS' if key == 'init_cfg' else 'model'
    if registry == 'METRICS' and key == 'metrics':
        return 'METRICS'
    return INSIDE.get(key, registry)


def find_class(kind: Any, registry: str, node: Any) -> Any:
    """The class of a ``type``, or the error that looking for it gives."""
    from mmdet import registry as registries

    if not isinstance(kind, str):
        return kind
    names = ('MODELS', 'TASK_UTILS') if registry == 'model' else (registry,)
    if registry == 'METRICS' and holds_metrics(node):
        names = ('EVALUATOR',)
    failure: Exception | None = None
    for name in names:
        try:
            return getattr(registries, name).get(kind)
        except registries.UnknownNameError as error:
            failure = failure or error
        except ImportError as error:  # an optional package of this one class
            return cannot_be_seen if 'mmdet' not in str(error) else error
    return failure


def cannot_be_seen(**kwargs: Any) -> None:
    """Stands for a class that cannot be looked at here."""


@cache
def _names_of(kind: Any) -> frozenset[str]:
    from mmdet.registry import argument_names

    try:
        return frozenset(argument_names(kind))
    except (TypeError, ValueError):
        return frozenset()


def _argument_names(kind: Any) -> set[str]:
    return set(_names_of(kind))


@cache
def _open_arguments(cls: Any) -> str:
    """'named': the constructor lists all arguments; 'handed on': its base classes list the rest; 'any': none does."""
    classes = cls.__mro__ if inspect.isclass(cls) else [cls]
    open_ended = False
    for each in classes:
        constructor = each.__dict__.get('__init__') if inspect.isclass(each) else each
        if constructor is None or each is object:
            continue
        try:
            parameters = inspect.signature(constructor).parameters.values()
        except (TypeError, ValueError):
            return 'any'
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return 'handed on' if open_ended else 'named'
        if vars(each).get('keywords_go_to', each) is None:
            return 'any'
        open_ended = True
    return 'any'
