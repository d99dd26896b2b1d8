"""What the sections of a config are: which keys there are, what each builds, where its datasets are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

# What DetRunner and the tools read at the top level
RUNNER_KEYS = {
    *('model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg'),
    *('test_cfg', 'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator'),
    *('default_hooks', 'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg'),
    *('log_processor', 'log_level', 'visualizer', 'default_scope', 'randomness', 'experiment_name'),
    *('custom_imports', 'model_wrapper_cfg', 'find_unused_parameters', 'compile', 'sync_bn', 'tta_model'),
    *('tta_pipeline', 'efficient_conv_bn_eval', 'runner_type', 'channels_last', 'winograd', 'console'),
    'report',
}
SECTIONS = {
    'train_dataloader': 'data',
    'val_dataloader': 'data',
    'test_dataloader': 'data',
    'val_evaluator': 'METRICS',
    'test_evaluator': 'METRICS',
    'default_hooks': 'HOOKS',
    'custom_hooks': 'HOOKS',
    'train_cfg': 'LOOPS',
    'val_cfg': 'LOOPS',
    'test_cfg': 'LOOPS',
    'optim_wrapper': 'OPTIM_WRAPPERS',
    'param_scheduler': 'PARAM_SCHEDULERS',
    'visualizer': 'VISUALIZERS',
    'log_processor': 'LOG_PROCESSORS',
    'model': 'model',
    'tta_model': 'model',
    'tta_pipeline': 'TRANSFORMS',
    'model_wrapper_cfg': 'MODEL_WRAPPERS',
    **dict.fromkeys(('env_cfg', 'randomness', 'auto_scale_lr', 'custom_imports', 'compile'), 'plain'),
}
# Keys whose dicts are given to builders of layers, which add arguments of their own
LAYER_KEYS = (
    'conv_cfg',
    'norm_cfg',
    'act_cfg',
    'upsample_cfg',
    'activation',
    'norm',
    'dropout_layer',
    'act',
    'dcn',
    'sac',
)
# in these, ``type`` is a word of the model's own, or of a function
FREE_KEYS: tuple[str, ...] = ('adapt_cfg', 'dqs_cfg', 'collate_fn', 'worker_init_fn')
FREE_KEYS += ('same_up_trans', 'same_down_trans', 'across_lateral_trans', 'across_down_trans')
FREE_KEYS += ('across_up_trans', 'across_skip_trans', 'output_trans')
INSIDE = {  # dicts below these keys belong to another registry than what holds them
    'dataset': 'DATASETS',
    'datasets': 'DATASETS',
    'pipeline': 'TRANSFORMS',
    'transforms': 'TRANSFORMS',
    'sampler': 'DATA_SAMPLERS',
    'batch_sampler': 'DATA_SAMPLERS',
    'optimizer': 'OPTIMIZERS',
    'vis_backends': 'VISBACKENDS',
    'switch_pipeline': 'TRANSFORMS',
}
TAKEN_BEFORE = {  # arguments that the runner or a builder uses up before the class is made
    'OPTIM_WRAPPERS': ('constructor', 'paramwise_cfg', 'optimizer'),
    'PARAM_SCHEDULERS': ('convert_to_iter_based',),
    'LOOPS': ('by_epoch',),
    'HOOKS': ('priority',),
}


def default_type(path: tuple, node: dict) -> str | None:
    """What the runner builds of a section without a type."""
    if len(path) != 1:
        return None
    (section,) = path
    if section == 'train_cfg':
        return 'EpochBasedTrainLoop' if node.get('by_epoch', True) else 'IterBasedTrainLoop'
    if section == 'optim_wrapper' and 'optimizer' not in node and any(isinstance(v, dict) for v in node.values()):
        return None  # several optimizers side by side
    if section in ('val_evaluator', 'test_evaluator') and holds_metrics(node):
        return 'Evaluator'
    return {
        'val_cfg': 'ValLoop',
        'test_cfg': 'TestLoop',
        'optim_wrapper': 'OptimWrapper',
        'visualizer': 'Visualizer',
        'log_processor': 'LogProcessor',
        'model_wrapper_cfg': 'MMDistributedDataParallel',
    }.get(section)


def holds_metrics(node: Any) -> bool:
    """Whether a dict is an evaluator with metrics inside, not a metric."""
    inner = node.get('metrics') if isinstance(node, dict) else None
    return any(isinstance(item, dict) for item in (inner if isinstance(inner, (list, tuple)) else [inner]))


def datasets_of(cfg: Any, loader: str) -> Iterator[tuple[str, dict, bool]]:
    """All datasets of a loader with their paths, wrappers before what is inside, and whether each wraps others.

    A wrapper has a dataset, or several, under ``dataset`` or ``datasets``; a list may stand in the place of a dataset.
    """

    def walk(node: Any, where: str) -> Iterator[tuple[str, dict, bool]]:
        if isinstance(node, (list, tuple)):
            for index, item in enumerate(node):
                yield from walk(item, f'{where}[{index}]')
        elif isinstance(node, dict):
            inner = [key for key in ('datasets', 'dataset') if isinstance(node.get(key), (dict, list, tuple))][:1]
            yield where, node, bool(inner)
            for key in inner:
                yield from walk(node[key], f'{where}.{key}')

    loader_cfg = cfg.get(loader) or {}
    if isinstance(loader_cfg, dict) and 'dataset' in loader_cfg:
        yield from walk(loader_cfg['dataset'], f'{loader}.dataset')


def innermost_datasets(cfg: Any, loader: str) -> Iterator[tuple[str, dict]]:
    """The innermost datasets of a loader, with their paths."""
    return ((where, dataset) for where, dataset, wraps in datasets_of(cfg, loader) if not wraps)


def steps_inside(step: Any) -> Iterator[dict]:
    """The configs of transforms inside of that of a transform."""
    items: Any = step.values() if isinstance(step, dict) else step if isinstance(step, (list, tuple)) else ()
    for item in items:
        if isinstance(item, dict) and 'type' in item:
            yield item
        yield from steps_inside(item)


def pipelines_around(cfg: Any, where: str) -> list[list]:
    """The pipelines that a sample of a dataset goes through: its own, then those of the wrappers around it.

    Args:
        where: Path of the dataset, as :func:`innermost_datasets` gives it.
    """
    node, found = cfg, []
    for key in re.findall(r'[^.\[\]]+', where):
        node = node[int(key)] if isinstance(node, (list, tuple)) else node[key]
        if isinstance(node, dict) and isinstance(node.get('pipeline'), (list, tuple)):
            found.append(list(node['pipeline']))
    return found[::-1]


def dataset_classes(dataset: dict) -> tuple[str, ...] | str | None:
    """The class names of a dataset config: its own, or those of its class."""
    metainfo = dataset.get('metainfo')
    classes = metainfo.get('classes') if isinstance(metainfo, dict) else None
    if classes is None:
        from mmdet.registry import DATASETS, UnknownNameError

        kind = dataset.get('type')
        try:
            kind = DATASETS.get(kind) if isinstance(kind, str) else kind
        except (UnknownNameError, ImportError):
            return None
        classes = getattr(kind, 'METAINFO', {}).get('classes')
    return classes if classes is None or isinstance(classes, str) else tuple(classes)
