"""Values in a config that cannot be what their key takes."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any

from mmdet.checks.finding import Finding
from mmdet.config.places import dotted, items_of

_WHOLE = ('batch_size', 'num_workers', 'num_classes', 'max_epochs', 'max_iters', 'val_interval', 'accumulative_counts')
_NUMBERS = ('lr', 'weight_decay', 'momentum', 'base_batch_size')
_TOGETHER = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)
_LISTS_OF_DICTS = ('custom_hooks', 'param_scheduler', 'vis_backends')


def is_number(value: Any) -> bool:
    """Whether a value is a number, of numpy too, and not text or a flag."""
    value = value.item() if hasattr(value, 'item') else value
    return isinstance(value, Real) and not isinstance(value, bool)


def wrong_values(cfg: Any) -> Iterator[Finding]:
    """Text where numbers or dicts belong, and sections of which a part is missing."""
    sections = getattr(cfg, '_cfg_dict', cfg)
    for name in ('model', 'optim_wrapper', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg'):
        yield from _texts(dict.get(sections, name), (name,))
    yield from _texts({'auto_scale_lr': dict.get(sections, 'auto_scale_lr')}, ())
    absent = {group: [name for name in group if dict.get(sections, name) is None] for group in _TOGETHER}
    # A file for others to inherit from may have half of each section; what is set to None was meant to be left out.
    whole = any(not missing for missing in absent.values())
    for group, missing in absent.items():
        if 0 < len(missing) < len(group):
            rest = ', '.join(name for name in group if name not in missing)
            level = 'error' if whole or any(name in sections for name in missing) else 'warning'
            yield Finding(level, missing[0], f'is None or missing, but {rest} is set: set all of them, or none')
    for name in _LISTS_OF_DICTS:
        value = dict.get(sections, name)
        for index, item in enumerate(value if isinstance(value, (list, tuple)) else ()):
            if isinstance(item, str):
                yield Finding('error', f'{name}[{index}]', f'is the text {item!r}, not a dict with a type')


def _texts(node: Any, path: tuple) -> Iterator[Finding]:
    for key, value in items_of(node):
        whole = key in _WHOLE
        if isinstance(value, str) and (whole or key in _NUMBERS):
            kind = 'whole number' if whole else 'number'
            yield Finding('error', dotted((*path, key)), f'is the text {value!r}, not a {kind}')
        else:
            yield from _texts(value, (*path, key))
