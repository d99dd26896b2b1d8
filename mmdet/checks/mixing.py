"""Transforms that mix pictures, and the wrapper that has to give them these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmdet.config.sections import datasets_of, steps_inside
from mmdet.datasets.walk import gives_no_partners, mixing_message, needs_partners, nested_message
from mmdet.registry import DATASETS, HOOKS, TRANSFORMS, UnknownNameError


def mixing_faults(cfg: Any) -> Iterator[tuple[str, str]]:
    """Place and sentence of each transform, and each hook, that misses the wrapper it needs."""
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for where, dataset, inside in datasets_of(cfg, loader):
            kind = _class(DATASETS, dataset)
            given = inside or not (isinstance(kind, type) and gives_no_partners(kind))
            for index, step in enumerate(dataset.get('pipeline') or ()):
                yield from _step_faults(step, f'{where}.pipeline[{index}]', None if given else kind)
    yield from _hook_faults(cfg)


def _step_faults(step: Any, where: str, leaf: Any) -> Iterator[tuple[str, str]]:
    transform = _class(TRANSFORMS, step)
    if leaf is not None and transform is not None and needs_partners(transform):
        yield where, mixing_message(transform.__name__, leaf.__name__)
    for inner in steps_inside(step):
        nested = _class(TRANSFORMS, inner)
        if transform is not None and nested is not None and needs_partners(nested):
            yield where, nested_message(nested.__name__, transform.__name__)


def _hook_faults(cfg: Any) -> Iterator[tuple[str, str]]:
    """Hooks that switch pipelines, on training data without the wrapper."""
    found = list(datasets_of(cfg, 'train_dataloader'))
    mixers = tuple(f'{where}.' for where, dataset, inside in found if inside and 'pipeline' in dataset)
    bare = [dataset for where, dataset, inside in found if not inside and not where.startswith(mixers)]
    for index, hook in enumerate(cfg.get('custom_hooks') or ()):
        kind, where = _class(HOOKS, hook), f'custom_hooks[{index}]'
        name = getattr(kind, '__name__', None)
        if name == 'YOLOXModeSwitchHook' and found and not any(_skips(dataset) for _, dataset, _ in found):
            message = 'leaves transforms of a MultiImageMixDataset out, but train_dataloader.dataset has none. '
            yield where, f'{name} {message}PipelineSwitchHook changes the pipeline of other data sets'
        if name == 'PipelineSwitchHook' and bare:
            leaf = _class(DATASETS, bare[0])
            for place, step in enumerate(hook.get('switch_pipeline') or ()):
                if isinstance(leaf, type) and gives_no_partners(leaf):
                    yield from _step_faults(step, f'{where}.switch_pipeline[{place}]', leaf)


def _skips(dataset: dict) -> bool:
    """Whether a class may be one that can leave transforms out; that of another package is given the benefit."""
    kind = _class(DATASETS, dataset)
    return kind is None or hasattr(kind, 'update_skip_type_keys')


def _class(registry: Any, cfg: Any) -> Any:
    """What the ``type`` of a config stands for, None where it stands for nothing."""
    kind = cfg.get('type') if isinstance(cfg, dict) else None
    if not isinstance(kind, str):
        return kind
    try:
        return registry.get(kind)
    except (UnknownNameError, ImportError):
        return None
