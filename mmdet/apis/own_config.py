"""A plan as the text of a config that a person reads and changes."""

from __future__ import annotations

import pprint
from pathlib import Path
from typing import Any

from .own_data import DIVISOR, Plan

_SWITCHES = ('PipelineSwitchHook', 'YOLOXModeSwitchHook')


def config_text(plan: Plan, annotations: Path, work_dir: str) -> str:
    """The config; ``annotations`` is the folder of ``train.json`` and ``val.json``."""
    classes = ', '.join(map(repr, plan.data.classes)) + (',' if len(plan.data.classes) == 1 else '')
    mask = ', with_mask=True' if plan.with_mask else ''
    pad = f"dict(type='Pad', size_divisor={DIVISOR}, pad_val=dict(img=({plan.pad:g}, {plan.pad:g}, {plan.pad:g})))"
    keys = "'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'"
    resize = f"dict(type='Resize', scale=size, keep_ratio={plan.keep_ratio})"
    jitter = "dict(type='RandomResize', scale=size, ratio_range=(0.8, 1.25), keep_ratio=True)"
    pack = "dict(type='PackDetInputs')"
    padded = ['pad'] if plan.keep_ratio else []
    train = ['load', 'boxes', jitter if plan.keep_ratio else resize, "dict(type='RandomFlip', prob=0.5)", *padded]
    test_split = 'test' if 'test' in plan.data.splits else 'val'
    metric = "['bbox', 'segm']" if plan.with_mask else "'bbox'"
    warm = min(500, max(1, plan.epochs * plan.iterations // 10))
    lines = [
        f'# Written by mmdet init for {plan.data.root}; every line may be changed.',
        f'_base_ = {plan.base!r}',
        f'work_dir = {work_dir!r}',
        f'load_from = {plan.weights!r}',
        f'classes = ({classes})',
        f'data_root = {plan.data.root.as_posix() + "/"!r}  # of the pictures',
        f'annotations = {annotations.as_posix() + "/"!r}',
        f'size = ({plan.size[0]}, {plan.size[1]})  # width and height that pictures are brought to fit',
        f'epochs, batch_size = {plan.epochs}, {plan.batch}',
        f'model = {_model(plan)}',
        '',
        f"load, boxes = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True{mask})",
        *([f'pad = {pad}'] if plan.keep_ratio else []),
        'train_pipeline = [',
        f'    {", ".join(train[:3])},',
        f'    {", ".join([*train[3:], pack])},',
        ']',
        'test_pipeline = [',
        f'    {", ".join(["load", resize, *padded, "boxes"])},',
        f"    dict(type='PackDetInputs', meta_keys=({keys})),",
        ']',
        "data = dict(type='CocoDataset', metainfo=dict(classes=classes), data_prefix=dict(img=data_root))",
        f'workers = dict(num_workers={plan.workers}, persistent_workers={plan.workers > 0})',
        *_loader('train', 'train'),
        *_loader('val', 'val'),
        *(_loader('test', 'test') if test_split == 'test' else ['test_dataloader = val_dataloader']),
        f"val_evaluator = dict(_delete_=True, type='CocoMetric', ann_file=annotations + 'val.json', metric={metric})",
        f"test_evaluator = dict(_delete_=True, type='CocoMetric', ann_file=annotations + '{test_split}.json', "
        f'metric={metric})',
        '',
        "train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1)",
        f'optim_wrapper = dict(optimizer=dict(lr={float(f"{plan.lr:.4g}")!r}))',
        'param_scheduler = [',
        f"    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end={warm}),",
        "    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, T_max=epochs, convert_to_iter_based=True),",
        ']',
        *_hooks(plan),
        "default_hooks = dict(checkpoint=dict(interval=1, save_best='auto', max_keep_ckpts=2))",
        'auto_scale_lr = dict(enable=False, base_batch_size=batch_size)',
        f'randomness = dict(seed={plan.seed})',
    ]
    return '\n'.join(lines) + '\n'


def _loader(name: str, split: str) -> list[str]:
    train = name == 'train'
    extra = 'filter_cfg=dict(filter_empty_gt=False)' if train else 'test_mode=True'
    return [
        f'{name}_dataloader = dict(',
        f"    _delete_=True, batch_size=batch_size, **workers, sampler=dict(type='DefaultSampler', shuffle={train}),",
        f"    dataset=dict(**data, ann_file=annotations + '{split}.json', {extra},",
        f'                 pipeline={"train" if train else "test"}_pipeline),',
        ')',
    ]


def _model(plan: Plan) -> str:
    """What changes in the model: the number of classes, and without weights what is frozen or fetched."""
    changes = _class_counts(plan.cfg.model, len(plan.data.classes))
    backbone = plan.cfg.model.get('backbone')
    if isinstance(backbone, dict):
        inner = changes.setdefault('backbone', {})
        if backbone.get('init_cfg'):
            inner['init_cfg'] = None  # load_from has these weights, or there shall be none
        if plan.weights is None:
            inner |= {key: value for key, value in (('frozen_stages', -1), ('norm_eval', False)) if key in backbone}
        if not inner:
            changes.pop('backbone')
    return _as_call(changes)


def _class_counts(node: Any, count: int) -> dict:
    """The places of ``num_classes`` in nested dicts; a list with such a place is given whole."""
    found: dict[str, Any] = {}
    for key in node:
        value = node[key]
        if key in ('num_classes', 'num_things_classes') and value is not None:
            found[key] = count
        elif key == 'class_weight' and isinstance(value, (list, tuple)) and len(value) > 1:
            found[key] = _class_weights(value, count)
        elif isinstance(value, dict) and key not in ('backbone', 'neck', 'data_preprocessor'):
            inner = _class_counts(value, count)
            if inner:
                found[key] = inner
        elif isinstance(value, (list, tuple)) and any(isinstance(x, dict) and _class_counts(x, count) for x in value):
            found[key] = [_whole(item, count) for item in value]
    return found


def _class_weights(weights: Any, count: int) -> list[float]:
    """The weight that all classes have, and that of the background behind them."""
    return [float(weights[0])] * count + [float(weights[-1])]


def _whole(node: Any, count: int) -> Any:
    if isinstance(node, dict):
        changes = ('num_classes', 'num_things_classes')
        found = {key: count if key in changes else _whole(node[key], count) for key in node}
        if isinstance(found.get('class_weight'), list) and len(found['class_weight']) > 1:
            found['class_weight'] = _class_weights(found['class_weight'], count)
        return found
    return [_whole(item, count) for item in node] if isinstance(node, list) else node


def _as_call(value: Any) -> str:
    if isinstance(value, dict):
        return f'dict({", ".join(f"{key}={_as_call(item)}" for key, item in value.items())})'
    if isinstance(value, list):
        return pprint.pformat(value, width=90, compact=True, sort_dicts=False)
    return repr(value)


def _hooks(plan: Plan) -> list[str]:
    """The hooks of the base without those that switch pipelines; an average that follows a training of this length."""
    hooks = plan.cfg.get('custom_hooks')
    if not hooks:
        return []
    kept = []
    for hook in hooks:
        if hook.get('type') in _SWITCHES:
            continue
        hook = {key: hook[key] for key in hook}
        if hook.get('type') == 'EMAHook':
            steps = plan.epochs * plan.iterations
            hook['momentum'] = float(f'{min(0.02, max(0.0002, 20 / steps)):.2g}')
            if hook.get('ema_type') == 'ExpMomentumEMA':
                hook['gamma'] = max(10, steps // 40)
        kept.append(hook)
    return ['custom_hooks = [', *(f'    {_as_call(hook)},' for hook in kept), ']']
