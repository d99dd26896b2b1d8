"""Mistakes that can be seen in a config before anything is built or trained."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mmdet.checks.finding import Finding
from mmdet.checks.mixing import mixing_faults
from mmdet.checks.monitors import unknown_monitors
from mmdet.checks.names import unknown_names
from mmdet.checks.values import is_number, wrong_values
from mmdet.config.bases import merged_bases
from mmdet.config.batch_size import batch_size_message
from mmdet.config.loading import load_config
from mmdet.config.places import dotted, look_up, places_of
from mmdet.config.sections import RUNNER_KEYS, dataset_classes, innermost_datasets
from mmdet.errors import UserError, UserValueError
from mmdet.names_3x import absent


class ConfigError(UserValueError):
    """A config with mistakes; the message lists all of them."""


# What testing does not read: mistakes there are said, and do not stop it
ONLY_TRAINING = {'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr'}
ONLY_TRAINING |= {'val_dataloader', 'val_cfg', 'val_evaluator'}


def check_config(cfg: Any, path: str | Path | None = None) -> list[Finding]:
    """All findings on a loaded config, errors first.

    Args:
        path: The file it came from; the check of overridden variables reads it and its bases again.
    """
    broken = list(_broken_imports(getattr(cfg, '_cfg_dict', cfg), ''))
    if broken:  # its values cannot be read
        return broken
    findings = _names(cfg)
    for check in (unknown_monitors, _long_schedules, _class_counts, wrong_values, _sizes_and_rates, _mixing):
        findings += _found_by(check, cfg)
    if path is not None:
        findings += _found_by(_dead_variables, cfg, Path(path))
    return sorted(findings, key=lambda finding: ('error', 'warning', 'note').index(finding.level))


def _names(cfg: Any) -> list[Finding]:
    return [
        finding for check in (_without_effect, unknown_names, _delete_leftovers) for finding in _found_by(check, cfg)
    ]


def _found_by(check: Callable[..., Iterable[Finding]], *args: Any) -> list[Finding]:
    """What a check finds, with a warning where a value is of a kind that it cannot look at."""
    found: list[Finding] = []
    try:
        found.extend(check(*args))
    except UserError:
        raise
    except Exception as error:  # nobody knows what may stand in a config
        what = check.__name__.strip('_').replace('_', ' ')
        reason = f'{type(error).__name__}: {error}'[:300]
        found.append(Finding('warning', what, f'not looked at, since a value is of an unexpected kind ({reason})'))
    return found


def _mixing(cfg: Any) -> Iterator[Finding]:
    for where, message in mixing_faults(cfg):
        yield Finding('error', where, message)


def require_sound(cfg: Any, path: str | Path | None, report: Any = print) -> None:
    """The check at the start of training: reports everything, stops at errors.

    Raises:
        ConfigError: listing the errors.
    """
    _stop_at_errors(check_config(cfg, path), report)


def require_known_names(cfg: Any, report: Any = print) -> None:
    """The check at the start of testing: only of names, and what testing does not read is reported.

    Raises:
        ConfigError: listing the errors.
    """
    findings = list(_broken_imports(getattr(cfg, '_cfg_dict', cfg), '')) or _names(cfg)
    for finding in findings:
        finding.stops = finding.stops and re.split(r'[.\[]', finding.where)[0] not in ONLY_TRAINING
    _stop_at_errors(findings, report)


def load_with_options(path: str | Path, cfg_options: dict | None = None) -> Any:
    """A config of a file, read by :func:`mmdet.config.load_config`, whose options are known: what tools load.

    Raises:
        ConfigError: an option sets a key that nothing knows, or arrives nowhere.
    """
    cfg = load_config(path, cfg_options)
    require_known_options(cfg, cfg_options)
    return cfg


def require_known_options(cfg: Any, cfg_options: dict | None) -> None:
    """Stop at options whose keys nothing knows; the rest of the config is not looked at.

    Raises:
        ConfigError: listing them, with the nearest right names.
    """
    options = tuple(cfg_options or ())
    findings = _names(cfg) if options and not list(_broken_imports(getattr(cfg, '_cfg_dict', cfg), '')) else []
    for finding in findings:
        place = re.sub(r'\[(\d+)\]', r'.\1', finding.where)
        finding.stops = any(
            f'{option}.'.startswith(f'{place}.') or place.startswith(f'{option}.') for option in options
        )
    _stop_at_errors([finding for finding in findings if finding.stops], lambda text: None)


def _stop_at_errors(findings: list[Finding], report: Any) -> None:
    for finding in findings:
        # what the runner will say itself, with the number of processes that there are, is no news here
        if finding.level == 'warning' or (finding.level == 'error' and not finding.stops):
            report(str(finding))
    errors = [f'{f.where}: {f.message}' for f in findings if f.level == 'error' and f.stops]
    if errors:
        raise ConfigError('\n  '.join(['the config has mistakes:', *errors]))


# --------------------------------------------------------------------------------------------------------------------
# Options and imports
def _without_effect(cfg: Any) -> Iterator[Finding]:
    """Options of the command line that arrive nowhere."""
    for key, message in (getattr(cfg, 'without_effect', None) or {}).items():
        # code of others may read the config itself
        unsure = cfg.get('custom_imports') and 'Did you mean' not in message
        yield Finding('warning' if unsure else 'error', key, message)


def _broken_imports(node: Any, where: str) -> Iterator[Finding]:
    """What a lazy config imports and cannot have."""
    from mmengine.config.lazy import LazyAttr, LazyObject

    if isinstance(node, (LazyObject, LazyAttr)):
        try:
            node.build()
        except ImportError as error:
            name = str(node).rpartition('.')[2]
            yield Finding('error', where, f'{error}. {absent(node.module, name) or ""}'.rstrip())
        return
    items: Any = ()
    if isinstance(node, dict):
        keys = node if where else sorted(RUNNER_KEYS & node.keys())
        items = [(f'{where}.{key}' if where else key, dict.__getitem__(node, key)) for key in keys]
    elif isinstance(node, (list, tuple)):
        items = [(f'{where}[{index}]', item) for index, item in enumerate(node)]
    for place, item in items:
        yield from _broken_imports(item, place)


# --------------------------------------------------------------------------------------------------------------------
_MISSPELT_DELETE = ('_delete', 'delete_', '__delete__', '_deleted_', '_del_')


def _delete_leftovers(node: Any, where: str = '') -> Iterator[Finding]:
    if isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            yield from _delete_leftovers(item, f'{where}[{index}]')
    elif isinstance(node, dict) or hasattr(node, '_cfg_dict'):
        for key in list(node):
            value = node[key] if not isinstance(node, dict) else dict.__getitem__(node, key)
            if key in _MISSPELT_DELETE:
                yield Finding(
                    'error', f'{where}.{key}' if where else key, f'{key!r} is unknown. Did you mean _delete_?'
                )
            elif key == '_delete_':
                yield Finding(
                    'error',
                    where or 'top level',
                    '_delete_ was not used up: no base file has a dict here that it could replace. Remove it.',
                    stops=False,
                )
            else:
                yield from _delete_leftovers(value, f'{where}.{key}' if where else key)


def _long_schedules(cfg: Any) -> Iterator[Finding]:
    train_cfg, schedulers = cfg.get('train_cfg') or {}, cfg.get('param_scheduler') or []
    epochs, iterations = train_cfg.get('max_epochs'), train_cfg.get('max_iters')
    for index, scheduler in enumerate(schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]):
        if not isinstance(scheduler, dict):
            continue
        by_epoch = scheduler.get('by_epoch', True)
        limit, unit = (epochs, 'epoch') if by_epoch else (iterations, 'iteration')
        where, kind = f'param_scheduler[{index}]', scheduler.get('type')
        if by_epoch and epochs is None and iterations is not None:
            yield Finding('warning', where, f'{kind} counts epochs, but the run is {iterations} iterations long')
        if limit is None:
            continue
        late = [m for m in scheduler.get('milestones', ()) if m >= limit]
        if late:
            yield Finding(
                'warning',
                f'{where}.milestones',
                f'{kind} would change the rate at {unit} {", ".join(map(str, late))}, '
                f'but the run ends after {unit} {limit}',
            )
        for name in ('begin', 'end', 'T_max', 'total_steps'):
            value = scheduler.get(name)
            # MultiStepLR acts at its milestones only
            if isinstance(value, int) and value > limit and not (name == 'end' and 'milestones' in scheduler):
                yield Finding(
                    'warning', f'{where}.{name}', f'{kind} is {value} {unit}s long, but the run ends after {limit}'
                )


# --------------------------------------------------------------------------------------------------------------------
# Classes
def _class_counts(cfg: Any) -> Iterator[Finding]:
    model = cfg.get('model')
    if isinstance(model, dict) and 'language_model' in model:  # whose classes are words, different in every dataset
        return
    found: dict[str, tuple[str, ...]] = {}
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for where, dataset in innermost_datasets(cfg, loader):
            classes = dataset_classes(dataset)
            if 'Panoptic' in str(dataset.get('type')):  # whose heads count things and stuff apart
                continue
            if isinstance(classes, str):
                yield Finding(
                    'error', f'{where}.metainfo.classes', f'{classes!r} is text; one class is written ({classes!r},)'
                )
            elif classes is not None:
                found[where] = classes
    places = list(found)
    for where in places[1:]:
        if found[where] != found[places[0]] and len(found[where]) == len(found[places[0]]):
            differing = [(a, b) for a, b in zip(found[places[0]], found[where], strict=True) if a != b]
            yield Finding(
                'error',
                where,
                f'its classes differ from those of {places[0]}: {differing[0][1]!r} where that has {differing[0][0]!r}',
            )
        elif len(found[where]) != len(found[places[0]]):
            yield Finding('error', where, f'{len(found[where])} classes, but {places[0]} has {len(found[places[0]])}')
    if not found or not isinstance(model, dict):
        return
    count = len(found[places[0]])
    for where, head in _heads(model, 'model'):
        if head['num_classes'] != count:
            yield Finding(
                'error',
                f'{where}.num_classes',
                f'is {head["num_classes"]}, but {places[0]} has {count} classes: '
                f'{", ".join(found[places[0]][:5])}{", ..." if count > 5 else ""}',
            )


def _heads(node: Any, where: str) -> Iterator[tuple[str, dict]]:
    """Heads that count the classes of the dataset."""
    if isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            yield from _heads(item, f'{where}[{index}]')
    elif isinstance(node, dict):
        last = where.rsplit('.', 1)[-1]
        if last in ('rpn_head', 'backbone', 'semantic_head', 'train_cfg', 'test_cfg', 'panoptic_fusion_head'):
            return
        if isinstance(node.get('num_classes'), int) and 'type' in node and 'head' in last:
            yield where, node
        for key in node:
            if not key.startswith('loss'):
                yield from _heads(dict.__getitem__(node, key), f'{where}.{key}')


def _sizes_and_rates(cfg: Any) -> Iterator[Finding]:
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    loader, wrapper = cfg.get('train_dataloader'), cfg.get('optim_wrapper')
    if not base or not isinstance(loader, dict) or not isinstance(wrapper, dict):
        return
    size, rate = loader.get('batch_size'), (wrapper.get('optimizer') or {}).get('lr')
    if size and rate and is_number(size) and is_number(rate) and is_number(base):
        accumulated = wrapper.get('accumulative_counts') or 1
        yield Finding('note', 'auto_scale_lr', batch_size_message(size, 1, base, rate, False, accumulated))


# --------------------------------------------------------------------------------------------------------------------
# The train_pipeline trap
def _dead_variables(cfg: Any, path: Path) -> Iterator[Finding]:
    """Variables of a base file that a file sets anew although the base has already put the old value in its place."""
    base = merged_bases(path)
    if not base:
        return
    source = path.read_text(encoding='utf-8')
    for name in _assigned(source):
        if name in RUNNER_KEYS or name not in base or name not in cfg:
            continue
        old, new = base[name], cfg[name]
        if old == new or isinstance(old, (bool, int, float)) or not old:
            continue
        uses = [where for where in places_of(base, old) if where[0] != name and where[0] in RUNNER_KEYS]
        stale = [where for where in uses if look_up(cfg._cfg_dict, where) == old]
        if stale:
            shown = ', '.join(map(dotted, stale[:3])) + (f' and {len(stale) - 3} more' if len(stale) > 3 else '')
            yield Finding(
                'error' if len(stale) == len(uses) else 'warning',
                name,
                f'is set in {path.name}, but {shown} still has the value of the base file, which has read its own '
                f'variable already. Set {dotted(stale[0])} too.',
                stops=False,
            )


def _assigned(source: str) -> list[str]:
    targets = [s.targets[0] for s in ast.parse(source).body if isinstance(s, ast.Assign)]
    return list(dict.fromkeys(t.id for t in targets if isinstance(t, ast.Name) and not t.id.startswith('_')))
