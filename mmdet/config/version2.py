"""Configs of MMDetection 2.x as those of 3.x."""

from __future__ import annotations

import copy
from typing import Any

_OLD_KEYS = (
    *('data', 'optimizer', 'optimizer_config', 'lr_config', 'momentum_config', 'runner', 'evaluation'),
    *('checkpoint_config', 'log_config', 'img_norm_cfg', 'dist_params', 'workflow', 'fp16', 'total_epochs'),
    *('resume_from', 'cudnn_benchmark', 'mp_start_method', 'opencv_num_threads', 'gpu_ids', 'gpus', 'seed'),
)
_RENAMED_TRANSFORMS = {'Collect': None, 'DefaultFormatBundle': None, 'ImageToTensor': None, 'Normalize': None}


def is_v2(cfg: Any) -> bool:
    """Whether a config has the sections of MMDetection 2.x."""
    data = cfg.get('data')
    return isinstance(data, dict) and any(key in data for key in ('train', 'val', 'test', 'samples_per_gpu'))


def translate_v2(old: dict) -> tuple[dict, list[str]]:
    """A 2.x config as a 3.x one.

    Returns:
        The new config and one note for each thing that was translated, or that has no meaning any more.
    """
    old = copy.deepcopy(old)
    notes: list[str] = []
    new = {key: value for key, value in old.items() if key not in _OLD_KEYS}
    new.setdefault('default_scope', 'mmdet')
    note = notes.append
    _model(new, old, note)
    _data(new, old, note)
    _run(new, old, note)
    _optimisation(new, old, note)
    _hooks(new, old, note)
    _environment(new, old, note)
    return new, notes


# --------------------------------------------------------------------------------------------------------------------
def _norm_settings(old: dict) -> dict | None:
    """Mean, std and channel order of the Normalize transform, or of ``img_norm_cfg``."""
    for split in ('train', 'test', 'val'):
        for transform in _flat(_innermost(old.get('data', {}).get(split)).get('pipeline', ())):
            if transform.get('type') == 'Normalize':
                return transform
    return old.get('img_norm_cfg')


def _flat(pipeline: Any) -> list[dict]:
    found = []
    for transform in pipeline or ():
        found.append(transform)
        found += _flat(transform.get('transforms', ()))
    return found


def _innermost(dataset: Any) -> dict:
    while isinstance(dataset, dict) and isinstance(dataset.get('dataset'), dict):
        dataset = dataset['dataset']
    if isinstance(dataset, (list, tuple)):
        dataset = dataset[0] if dataset else {}
    return dataset or {}


def _model(new: dict, old: dict, note: Any) -> None:
    model = new.get('model')
    if not isinstance(model, dict):
        return
    for name in ('train_cfg', 'test_cfg'):
        if name in new and name not in model:  # before 2.4 they stood beside the model
            model[name] = new.pop(name)
            note(f'{name} -> model.{name}')
    if 'pretrained' in model:
        checkpoint = model.pop('pretrained')
        if checkpoint is not None:
            model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=checkpoint)
        note('model.pretrained -> model.backbone.init_cfg')
    if 'data_preprocessor' not in model and 'data_preprocessor' not in new:
        norm = _norm_settings(old) or {}
        rgb = norm.get('to_rgb', True)
        model['data_preprocessor'] = dict(
            type='DetDataPreprocessor',
            mean=norm.get('mean', [0, 0, 0]),
            std=norm.get('std', [1, 1, 1]),
            bgr_to_rgb=rgb,
            pad_mask='mask' in str(model.get('type', '')).lower() or 'mask_head' in str(model),
            pad_size_divisor=_pad_divisor(old),
        )
        note('img_norm_cfg, Normalize and Pad -> model.data_preprocessor')


def _pad_divisor(old: dict) -> int:
    for split in ('train', 'test', 'val'):
        for transform in _flat(_innermost(old.get('data', {}).get(split)).get('pipeline', ())):
            if transform.get('type') == 'Pad' and 'size_divisor' in transform:
                return transform['size_divisor']
    return 1


def _data(new: dict, old: dict, note: Any) -> None:
    data = old.get('data', {})
    size, workers = data.get('samples_per_gpu', 1), data.get('workers_per_gpu', 0)
    for split in ('train', 'val', 'test'):
        if split not in data:
            continue
        loader = dict(
            batch_size=size if split == 'train' else data.get(f'{split}_dataloader', {}).get('samples_per_gpu', 1),
            num_workers=workers,
            persistent_workers=workers > 0,
            sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
            dataset=_dataset(data[split], split, note),
        )
        if split == 'train':
            loader['batch_sampler'] = dict(type='AspectRatioBatchSampler')
        else:
            loader['drop_last'] = False
        new[f'{split}_dataloader'] = loader
        note(f'data.{split} -> {split}_dataloader')
    note('data.samples_per_gpu, data.workers_per_gpu -> batch_size, num_workers')
    metrics = old.get('evaluation', {}).get('metric', 'bbox')
    for split in ('val', 'test'):
        if split in data:
            new[f'{split}_evaluator'] = _evaluators(new[f'{split}_dataloader']['dataset'], metrics)
            new[f'{split}_cfg'] = dict(type='ValLoop' if split == 'val' else 'TestLoop')
    if 'evaluation' in old:
        note('evaluation.metric -> val_evaluator, test_evaluator')


def _dataset(cfg: Any, split: str, note: Any) -> Any:
    if isinstance(cfg, (list, tuple)):
        return dict(type='ConcatDataset', datasets=[_dataset(item, split, note) for item in cfg])
    cfg = dict(cfg)
    if isinstance(cfg.get('dataset'), dict):
        cfg['dataset'] = _dataset(cfg['dataset'], split, note)
    if isinstance(cfg.get('ann_file'), (list, tuple)):
        parts, prefixes = cfg.pop('ann_file'), cfg.get('img_prefix', '')
        prefixes = prefixes if isinstance(prefixes, (list, tuple)) else [prefixes] * len(parts)
        several = [dict(cfg, ann_file=part, img_prefix=prefix) for part, prefix in zip(parts, prefixes, strict=True)]
        note('a list of ann_file -> ConcatDataset')
        return _dataset(several, split, note)
    prefix = {}
    for name, key in (('img_prefix', 'img'), ('seg_prefix', 'seg')):
        if name in cfg:
            prefix[key] = cfg.pop(name)
            note(f'{name} -> data_prefix.{key}')
    if prefix:
        if cfg.get('type') in ('VOCDataset', 'XMLDataset'):
            prefix = dict(sub_data_root=prefix['img'])
        cfg['data_prefix'] = prefix
    if 'classes' in cfg:
        classes = cfg.pop('classes')
        cfg['metainfo'] = dict(classes=(classes,) if isinstance(classes, str) else tuple(classes))
        note('classes -> metainfo.classes')
    empty = cfg.pop('filter_empty_gt', None)
    if 'ann_file' in cfg and split == 'train':
        cfg['filter_cfg'] = dict(filter_empty_gt=True if empty is None else empty, min_size=32)
    if 'ann_file' in cfg and split != 'train':
        cfg['test_mode'] = True
    if 'pipeline' in cfg:
        cfg['pipeline'] = _pipeline(cfg['pipeline'], note)
    return cfg


def _pipeline(pipeline: Any, note: Any) -> list[dict]:
    result: list[dict] = []
    keys: tuple | None = None
    for transform in pipeline:
        transform = dict(transform)
        kind = transform.get('type')
        if kind in _RENAMED_TRANSFORMS:
            keys = transform.get('meta_keys', keys)
            note(f'{kind} -> PackDetInputs and the data preprocessor')
        elif kind == 'Pad' and 'size_divisor' in transform:
            note('Pad(size_divisor) -> model.data_preprocessor.pad_size_divisor')
        elif kind == 'MultiScaleFlipAug':
            scales = transform.get('img_scale')
            if isinstance(scales, list) or transform.get('flip'):
                note('MultiScaleFlipAug with several scales or flips -> its first scale; use --tta for the rest')
            scale = scales[0] if isinstance(scales, list) else scales
            inner = [dict(t) for t in transform['transforms'] if t.get('type') != 'RandomFlip']
            for step in inner:
                if step.get('type') == 'Resize':
                    step.setdefault('img_scale', scale)
            result += [step for step in _pipeline(inner, note) if step['type'] != 'PackDetInputs']
            note('MultiScaleFlipAug -> its transforms')
        elif kind == 'Resize':
            result.append(_resize(transform, note))
        elif kind == 'RandomFlip':
            if 'flip_ratio' in transform:
                transform['prob'] = transform.pop('flip_ratio')
                note('RandomFlip.flip_ratio -> prob')
            result.append(transform)
        elif kind in ('LoadImageFromFile', 'LoadAnnotations', 'LoadImageFromWebcam'):
            if 'file_client_args' in transform:
                transform['backend_args'] = None
                del transform['file_client_args']
                note(f'{kind}.file_client_args has no meaning any more: use backend_args')
            if transform.pop('to_float32', False):
                transform['to_float32'] = True
            result.append(transform)
        else:
            result.append(transform)
    pack: dict = dict(type='PackDetInputs')
    if keys:
        pack['meta_keys'] = tuple('img_path' if k == 'filename' else k for k in keys if k not in ('ori_filename',))
    return [*result, pack]


def _resize(transform: dict, note: Any) -> dict:
    scale = transform.pop('img_scale', transform.pop('scale', None))
    mode = transform.pop('multiscale_mode', 'range')
    ratio = transform.pop('ratio_range', None)
    transform.pop('override', None)
    note('Resize.img_scale -> scale')
    if ratio is not None:
        return dict(transform, type='RandomResize', scale=scale, ratio_range=ratio)
    if isinstance(scale, list) and len(scale) > 1:
        if mode == 'value':
            return dict(transform, type='RandomChoiceResize', scales=scale)
        return dict(transform, type='RandomResize', scale=scale)
    return dict(transform, scale=scale[0] if isinstance(scale, list) else scale)


def _evaluators(dataset: dict, metrics: Any) -> dict:
    """The metric of a data set, or of each data set of a concatenation, with the prefixes that 2.x gives them."""
    parts = dataset.get('datasets')
    if not isinstance(parts, list) or len(parts) < 2:
        return _evaluator(_innermost(parts or dataset), metrics)
    each = [_evaluator(_innermost(part), metrics) for part in parts]
    return dict(type='MultiDatasetsEvaluator', metrics=each, dataset_prefixes=list(map(str, range(len(parts)))))


def _evaluator(dataset: dict, metrics: Any) -> dict:
    kind = dataset.get('type', '')
    if kind in ('VOCDataset', 'XMLDataset'):
        return dict(type='VOCMetric', metric='mAP', eval_mode='11points')
    metrics = [metrics] if isinstance(metrics, str) else list(metrics)
    ann_file = dataset.get('ann_file', '')
    root = dataset.get('data_root')
    if root and not str(ann_file).startswith('/'):
        ann_file = f'{str(root).rstrip("/")}/{ann_file}'
    return dict(type='CocoMetric', ann_file=ann_file, metric=metrics[0] if len(metrics) == 1 else metrics)


def _run(new: dict, old: dict, note: Any) -> None:
    runner = old.get('runner') or {}
    interval = old.get('evaluation', {}).get('interval', 1)
    if runner.get('type') == 'IterBasedRunner':
        new['train_cfg'] = dict(type='IterBasedTrainLoop', max_iters=runner['max_iters'], val_interval=interval)
    else:
        epochs = runner.get('max_epochs', old.get('total_epochs'))
        if epochs is None:
            return
        new['train_cfg'] = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=interval)
    note(('runner' if runner else 'total_epochs') + ' -> train_cfg')


def _optimisation(new: dict, old: dict, note: Any) -> None:
    by_epoch = (old.get('runner') or {}).get('type') != 'IterBasedRunner'
    if 'optimizer' in old:
        optimizer = dict(old['optimizer'])
        paramwise, constructor = optimizer.pop('paramwise_cfg', None), optimizer.pop('constructor', None)
        wrapper: dict = dict(type='OptimWrapper', optimizer=optimizer)
        if paramwise is not None:
            wrapper['paramwise_cfg'] = paramwise
        if constructor not in (None, 'DefaultOptimizerConstructor'):
            wrapper['constructor'] = constructor
        settings = old.get('optimizer_config') or {}
        if settings.get('grad_clip'):
            wrapper['clip_grad'] = settings['grad_clip']
        if settings.get('cumulative_iters', 1) > 1:
            wrapper['accumulative_counts'] = settings['cumulative_iters']
        if old.get('fp16'):
            wrapper.update(type='AmpOptimWrapper', loss_scale=old['fp16'].get('loss_scale', 'dynamic'))
            note('fp16 -> optim_wrapper.type AmpOptimWrapper')
        new['optim_wrapper'] = wrapper
        note('optimizer, optimizer_config -> optim_wrapper')
        for name in settings:
            if name not in ('grad_clip', 'cumulative_iters', '_delete_', 'type'):
                note(f'optimizer_config.{name} has no meaning any more')
    schedule = old.get('lr_config')
    if not schedule:
        return
    schedulers: list[dict] = []
    warmup = schedule.get('warmup')
    if warmup:
        kinds = {'linear': 'LinearLR', 'constant': 'ConstantLR', 'exp': 'QuadraticWarmupLR'}
        steps = schedule.get('warmup_iters', 500)
        scheduler = dict(
            type=kinds.get(warmup, 'LinearLR'), by_epoch=schedule.get('warmup_by_epoch', False), begin=0, end=steps
        )
        if warmup == 'linear':
            scheduler['start_factor'] = schedule.get('warmup_ratio', 0.1)
        elif warmup == 'constant':
            scheduler['factor'] = schedule.get('warmup_ratio', 0.1)
        else:
            note(f'lr_config.warmup={warmup!r} -> QuadraticWarmupLR, which starts at 0')
        schedulers.append(scheduler)
    train_cfg = new.get('train_cfg', {})
    end = train_cfg.get('max_epochs' if by_epoch else 'max_iters', 0)
    policy = str(schedule.get('policy', 'fixed'))
    if policy == 'step':
        step = schedule['step']
        milestones = list(range(step, end, step)) if isinstance(step, int) else list(step)
        schedulers.append(
            dict(
                type='MultiStepLR',
                begin=0,
                end=end,
                by_epoch=by_epoch,
                milestones=milestones,
                gamma=schedule.get('gamma', 0.1),
            )
        )
    elif policy in ('CosineAnnealing', 'YOLOX'):
        cosine = dict(type='CosineAnnealingLR', begin=0, end=end, T_max=end, by_epoch=by_epoch)
        if 'min_lr' in schedule:
            cosine['eta_min'] = schedule['min_lr']
        elif 'min_lr_ratio' in schedule:
            cosine['eta_min'] = schedule['min_lr_ratio'] * old.get('optimizer', {}).get('lr', 1)
        schedulers.append(cosine)
    elif policy == 'poly':
        poly = dict(type='PolyLR', begin=0, end=end, by_epoch=by_epoch, power=schedule.get('power', 1.0))
        schedulers.append(dict(poly, eta_min=schedule.get('min_lr', 0)))
    elif policy != 'fixed':
        note(f'lr_config.policy={policy!r} has no translation: set param_scheduler yourself')
    new['param_scheduler'] = schedulers
    note('lr_config -> param_scheduler')


def _hooks(new: dict, old: dict, note: Any) -> None:
    hooks = new.setdefault('default_hooks', {})
    for name, kind in (('timer', 'IterTimerHook'), ('param_scheduler', 'ParamSchedulerHook')):
        hooks.setdefault(name, dict(type=kind))
    hooks.setdefault('sampler_seed', dict(type='DistSamplerSeedHook'))
    checkpoint = dict(type='CheckpointHook', interval=1)
    if 'checkpoint_config' in old:
        checkpoint.update({k: v for k, v in (old['checkpoint_config'] or {}).items() if k != 'create_symlink'})
        note('checkpoint_config -> default_hooks.checkpoint')
    evaluation = old.get('evaluation', {})
    for name in ('save_best', 'rule'):
        if name in evaluation:
            value = evaluation[name]
            checkpoint[name] = f'coco/{value}' if name == 'save_best' and value.startswith(('bbox', 'segm')) else value
            note(f'evaluation.{name} -> default_hooks.checkpoint.{name}')
    hooks.setdefault('checkpoint', checkpoint)
    log = old.get('log_config') or {}
    hooks.setdefault('logger', dict(type='LoggerHook', interval=log.get('interval', 50)))
    backends = [dict(type='LocalVisBackend')]
    for hook in log.get('hooks', ()):
        if hook['type'] == 'TensorboardLoggerHook':
            backends.append(dict(type='TensorboardVisBackend'))
        elif 'Wandb' in hook['type']:
            backends.append(dict(type='WandbVisBackend', init_kwargs=hook.get('init_kwargs', {})))
        elif hook['type'] != 'TextLoggerHook':
            note(f'log_config.hooks: {hook["type"]} has no translation')
    if log:
        note('log_config -> default_hooks.logger and visualizer')
    new.setdefault('visualizer', dict(type='DetLocalVisualizer', vis_backends=backends, name='visualizer'))


def _environment(new: dict, old: dict, note: Any) -> None:
    env = new.setdefault('env_cfg', {})
    env['cudnn_benchmark'] = old.get('cudnn_benchmark', False)
    env['mp_cfg'] = dict(
        mp_start_method=old.get('mp_start_method', 'fork'), opencv_num_threads=old.get('opencv_num_threads', 0)
    )
    env['dist_cfg'] = old.get('dist_params') or dict(backend='nccl')
    if old.get('resume_from'):
        new['load_from'], new['resume'] = old['resume_from'], True
        note('resume_from -> load_from with resume=True')
    if old.get('seed') is not None:
        new['randomness'] = dict(seed=old['seed'])
        note('seed -> randomness.seed')
    for name in ('workflow', 'gpu_ids', 'gpus', 'momentum_config'):
        if old.get(name) and not (name == 'workflow' and len(old[name]) == 1):
            note(f'{name} has no meaning any more')
