"""Names of numbers that hooks and schedulers wait for, against those that the validation will give."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from mmdet.checks.finding import Finding
from mmdet.checks.names import find_class
from mmdet.config.places import nearest
from mmdet.config.sections import holds_metrics

_COCO = 'mAP mAP_50 mAP_75 mAP_s mAP_m mAP_l'
_LVIS = 'AP AP50 AP75 APs APm APl APr APc APf'
_SEMANTIC = {'mIoU': 'mIoU mAcc', 'mDice': 'mDice mAcc', 'mFscore': 'mFscore mPrecision mRecall'}
# The numbers of the metrics that give the same ones whatever their arguments
_FIXED = {
    'CityScapesMetric': 'mAP AP@50',
    'CocoPanopticMetric': 'PQ SQ RQ PQ_th SQ_th RQ_th PQ_st SQ_st RQ_st',
}


def unknown_monitors(cfg: Any) -> Iterator[Finding]:
    """Findings on ``monitor`` of hooks and schedulers and on ``save_best``."""
    waiting = list(_waiting(cfg))
    evaluator = cfg.get('val_evaluator')
    if not waiting:
        return
    if not evaluator or cfg.get('val_cfg') is None:
        for where, name, _ in waiting:
            yield Finding('error', where, f'{name!r} comes from a validation, but the config has no val_evaluator.')
        return
    numbers = numbers_of(evaluator)
    if numbers is None:
        return
    names, patterns = numbers
    for where, name, _ in waiting:
        if name not in names and not any(re.fullmatch(pattern, name) for pattern in patterns):
            near = nearest(name, names)
            hint = f'Did you mean {" or ".join(near)}?' if near else f'It gives {", ".join(names)}.'
            yield Finding('error', where, f'{name!r} is no number that val_evaluator gives. {hint}')


def _waiting(cfg: Any) -> Iterator[tuple[str, str, Any]]:
    """Place and name of each number that something waits for."""
    hooks = [(f'custom_hooks[{i}]', hook) for i, hook in enumerate(cfg.get('custom_hooks') or ())]
    hooks += [(f'default_hooks.{name}', hook) for name, hook in (cfg.get('default_hooks') or {}).items()]
    for where, hook in hooks:
        if not isinstance(hook, dict):
            continue
        if _is_a(hook, 'HOOKS', 'EarlyStoppingHook') and isinstance(hook.get('monitor'), str):
            yield f'{where}.monitor', hook['monitor'], hook
        if _is_a(hook, 'HOOKS', 'CheckpointHook'):
            best = hook.get('save_best')
            for name in best if isinstance(best, (list, tuple)) else [best]:
                if isinstance(name, str) and name != 'auto':
                    yield f'{where}.save_best', name, hook
    schedulers = cfg.get('param_scheduler') or ()
    for index, scheduler in enumerate([schedulers] if isinstance(schedulers, dict) else schedulers):
        if isinstance(scheduler, dict) and _is_a(scheduler, 'PARAM_SCHEDULERS', 'ReduceOnPlateauParamScheduler'):
            yield f'param_scheduler[{index}].monitor', scheduler.get('monitor', 'loss'), scheduler


def _is_a(node: dict, registry: str, name: str) -> bool:
    kind = find_class(node.get('type'), registry, node)
    return inspect.isclass(kind) and any(each.__name__ == name for each in kind.__mro__)


def numbers_of(evaluator: Any) -> tuple[list[str], list[str]] | None:
    """Names of the numbers that an evaluator's config will give, and patterns of further ones; None if unknown."""
    names, patterns = [], []
    if isinstance(evaluator, dict) and (holds_metrics(evaluator) or 'metrics' in evaluator):
        if evaluator.get('type', 'Evaluator') != 'Evaluator':
            return None
        evaluator = evaluator['metrics']
    for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
        kind = find_class(metric.get('type'), 'METRICS', metric) if isinstance(metric, dict) else None
        if not inspect.isclass(kind) or not kind.__module__.startswith('mmdet.'):
            return None
        found = _numbers(kind.__name__, metric)
        if found is None:
            return None
        prefix = metric.get('prefix') or getattr(kind, 'default_prefix', None)
        start = f'{prefix}/' if prefix else ''
        names += [start + name for name in found[0]]
        patterns += [re.escape(start) + pattern for pattern in found[1]]
    return names, patterns


def _numbers(name: str, metric: dict) -> tuple[list[str], list[str]] | None:
    if name in _FIXED:
        return _FIXED[name].split(), []
    if name == 'VOCMetric':
        if metric.get('metric', 'mAP') in ('recall', ['recall']):
            return ['AR@100', 'AR@300', 'AR@1000'], [r'recall@.*', r'AR@\d+']
        thresholds = metric.get('iou_thrs', 0.5)
        thresholds = [thresholds] if isinstance(thresholds, (int, float)) else thresholds
        return ['mAP', *(f'AP{round(each * 100):02d}' for each in thresholds)], []
    if name == 'SemSegMetric':
        kinds = metric.get('iou_metrics', ['mIoU'])
        wanted = [kinds] if isinstance(kinds, str) else kinds
        return ' '.join(['aAcc', *(_SEMANTIC.get(kind, '') for kind in wanted)]).split(), []
    if name not in ('CocoMetric', 'LVISMetric'):
        return None
    kinds, items = metric.get('metric', 'bbox'), metric.get('metric_items')
    items = [items] if isinstance(items, str) else items
    names: list[str] = []
    patterns = ['.+_precision'] if metric.get('classwise') else []
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind in ('proposal', 'proposal_fast'):
            names += items or ['AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000']
            patterns += [] if items else [r'AR(_?[sml])?@\d+']
        else:
            names += [f'{kind}_{item}' for item in items or (_COCO if name == 'CocoMetric' else _LVIS).split()]
    return names, patterns
