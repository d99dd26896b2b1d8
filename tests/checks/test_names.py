"""Misspelt keys at every depth of shipped configs are found, with the right name."""

import copy
import importlib
import inspect
import random
import re
from pathlib import Path

import pytest

from mmdet.checks.config_check import check_config
from mmdet.config import load_config
from mmdet.config.keys import MODEL_KEYS, NMS_KEYS
from mmdet.config.places import dotted, items_of, look_up, nearest
from mmdet.config.sections import FREE_KEYS, RUNNER_KEYS

ROOT = Path(__file__).resolve().parents[2]
SEVERAL = [
    'atss/atss_r50_fpn_1x_coco.py',
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    'dcnv2/faster-rcnn_r50_fpn_mdpool_1x_coco.py',
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'gfl/gfl_r50_fpn_1x_coco.py',
    'hrnet/faster-rcnn_hrnetv2p-w18-1x_coco.py',
    'lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py',
    'pascal_voc/retinanet_r50_fpn_1x_voc0712.py',
    'pvt/retinanet_pvt-t_fpn_1x_coco.py',
    'reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco.py',
    'retinanet/retinanet_tta.py',
    'ssd/ssd300_coco.py',
    'swin/mask-rcnn_swin-t-p4-w7_fpn_amp-ms-crop-3x_coco.py',
]
RETINANET = ROOT / 'configs' / 'retinanet' / 'retinanet_r50_fpn_1x_coco.py'


def errors(cfg):
    return {str(finding) for finding in check_config(cfg) if finding.level == 'error'}


def misspelt(key, rng):
    """A key with one of the faults that fingers make."""
    i = rng.randrange(len(key))
    faults = [
        key[:i] + key[i + 1 :],
        key[:i] + key[i] + key[i:],
        key[:i] + key[i + 1 : i + 2] + key[i] + key[i + 2 :],
        key[:i] + rng.choice('aeinorst') + key[i + 1 :],
        key[:-1] if key.endswith('s') else f'{key}s',
        key.replace('_', ''),
        key.replace('_', '-'),
        key.upper(),
        key.title(),
    ]
    return rng.choice([fault for fault in faults if fault not in ('', key)])


def keys_of(node, where=()):
    for key, item in items_of(node):
        if key in FREE_KEYS or (where and where[-1] == 'custom_keys'):  # its keys are parts of names of parameters
            continue
        if isinstance(node, dict):
            yield (*where, key)
        yield from keys_of(item, (*where, key))


def mutants(count, seed=0):
    rng = random.Random(seed)
    for name in SEVERAL:
        cfg = load_config(ROOT / 'configs' / name)
        before = errors(cfg)
        assert not before, f'a false alarm in {name}'
        places = list(keys_of({key: item for key, item in items_of(cfg._cfg_dict) if key in RUNNER_KEYS}))
        for where in rng.sample(places, min(count, len(places))):
            mutant = copy.deepcopy(cfg)
            node = look_up(mutant._cfg_dict, where[:-1])
            wrong = misspelt(where[-1], rng)
            if wrong in node:
                continue
            node[wrong] = dict.__getitem__(node, where[-1])
            if rng.random() < 0.5:  # in the place of the right key, or beside that of a base file
                del node[where[-1]]
            yield where, wrong, [text for text in errors(mutant) if wrong in text]


def test_misspelt_keys_are_found_in_shipped_configs():
    made = list(mutants(25))
    missed = [f'{dotted(where)} as {wrong}' for where, wrong, found in made if not found]
    unnamed = [where for where, wrong, found in made if found and not any(where[-1] in text for text in found)]
    assert len(made) > 300
    assert len(missed) <= 0.02 * len(made), missed
    assert len(unnamed) <= 0.1 * len(made), unnamed


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('model.test_cfg.score_thresh', 'Did you mean score_thr'),
        ('model.test_cfg.nms.iou_treshold', 'Did you mean iou_threshold'),
        ('model.test_cfg.nms.tpye', 'Did you mean type'),
        ('model.train_cfg.assigner.pos_iou_threshold', 'Did you mean pos_iou_thr'),
        ('model.bbox_head.num_clases', 'Did you mean num_classes'),
        ('model.backbone.norm_cfg.requires_grads', 'Did you mean requires_grad'),
        ('model.backbone.init_cfg.chekpoint', 'Did you mean checkpoint'),
        ('model.data_preprocessor.pad_divisor', 'Did you mean pad_size_divisor'),
        ('default_hooks.chekpoint.interval', 'Did you mean default_hooks.checkpoint?'),
        ('default_hooks.logger.intervall', 'Did you mean interval'),
        ('train_dataloader.batchsize', 'Did you mean batch_size'),
        ('train_dataloader.sampler.shufle', 'Did you mean shuffle'),
        ('train_dataloader.dataset.data_prefix.image', 'Did you mean img'),
        ('train_dataloader.dataset.metainfo.CLASSES', 'Did you mean classes'),
        ('train_dataloader.dataset.filter_cfg.filter_empty', 'Did you mean filter_empty_gt'),
        ('train_dataloader.dataset.pipeline.2.keepratio', 'Did you mean keep_ratio'),
        ('train_cfg.max_epoch', 'Did you mean max_epochs'),
        ('val_evaluator.clas_wise', 'Did you mean classwise'),
        ('optim_wrapper.lr', 'Did you mean optim_wrapper.optimizer.lr'),
        ('optim_wrapper.optimizer.learning_rate', 'Did you mean lr'),
        ('optim_wrapper.clip_grads', 'Did you mean clip_grad'),
        ('optim_wrapper.clip_grad.maxnorm', 'Did you mean max_norm'),
        ('optim_wrapper.paramwise_cfg.norm_decay', 'Did you mean norm_decay_mult'),
        ('optim_wrapper.paramwise_cfg.custom_keys.bakbone.lr_mult', 'Did you mean backbone'),
        ('optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mul', 'Did you mean lr_mult'),
        ('param_scheduler.0.start_facter', 'Did you mean start_factor'),
        ('env_cfg.mp_cfg.opencv_threads', 'Did you mean opencv_num_threads'),
        ('env_cfg.cudnn_benchmarks', 'Did you mean cudnn_benchmark'),
        ('visualizer.vis_backend', 'Did you mean vis_backends'),
        ('log_processor.windows_size', 'Did you mean window_size'),
        ('auto_scale_lr.base_batchsize', 'Did you mean base_batch_size'),
        ('randomness.sed', 'Did you mean seed'),
        ('optim_wraper.optimizer.lr', 'Did you mean optim_wrapper'),
        ('param_schedulers', 'Did you mean param_scheduler'),
        ('load_form', 'Did you mean load_from'),
        ('lr_config.policy', 'Set param_scheduler'),
    ],
)
@pytest.mark.parametrize('way', ['option', 'file'])
def test_misspelt_keys_by_name(key, message, way, tmp_path):
    if way == 'option':
        cfg = load_config(RETINANET, {key: 1})
    else:
        if re.search(r'\.\d', key):
            pytest.skip('a file replaces a list as a whole')
        names = key.split('.')
        value = '1'
        for name in reversed(names[1:]):
            value = f'{{{name!r}: {value}}}'
        path = tmp_path / 'child.py'
        path.write_text(f'_base_ = {str(RETINANET)!r}\n{names[0]} = {value}\n')
        cfg = load_config(path)
    found = [text for text in errors(cfg) if message in text]
    assert found, errors(cfg)


def test_misspelt_variable_of_the_base(tmp_path):
    path = tmp_path / 'child.py'
    path.write_text(f'_base_ = {str(RETINANET)!r}\ntrain_pipelines = [dict(type="LoadImageFromFile")]\n')
    assert errors(load_config(path)) == {
        'error: train_pipelines: is no section of a config and nothing uses it. Did you mean train_pipeline?'
    }
    path.write_text(
        f'_base_ = {str(RETINANET)!r}\npipe = []\ntest_pipe = [*pipe]\nother = test_pipe\nimg_scales = [(1, 2)]\n'
    )
    assert errors(load_config(path)) == set()


@pytest.mark.parametrize(
    ('name', 'known', 'near'),
    [
        ('learning_rate', ['lr', 'rate_of_learning'], 'lr'),
        ('bs', ['batch_size', 'base'], 'batch_size'),
        ('NumClasses', ['num_classes', 'classes'], 'num_classes'),
        ('score_threshold', ['score_thr', 'nms'], 'score_thr'),
        ('tpye', ['type', 'tape'], 'type'),
    ],
)
def test_nearest_names(name, known, near):
    assert nearest(name, known)[0] == near


def test_a_class_of_others_may_read_keys_of_its_own(tmp_path):
    cfg = load_config(RETINANET)
    cfg.model.test_cfg.my_own = 3
    assert any('my_own' in text for text in errors(cfg))
    (tmp_path / 'own.py').write_text('')

    from mmdet.models.dense_heads import RetinaHead

    class OwnHead(RetinaHead):
        def __init__(self, own=1, **kwargs):
            super().__init__(**kwargs)

    OwnHead.__module__ = 'elsewhere'
    cfg.model.bbox_head.type = OwnHead
    assert errors(cfg) == set()
    cfg.model.test_cfg.score_thresh = 3
    assert [str(finding) for finding in check_config(cfg) if finding.level == 'warning'] == [
        "warning: model.test_cfg.score_thresh: has no key 'score_thresh'. Did you mean score_thr?"
    ]


def test_every_key_that_models_read_is_known():
    """``train_cfg.x`` and ``test_cfg.get('x')`` in the models: what they read, the check knows."""
    known = {word for keys in MODEL_KEYS.values() for word in keys.split()} | {'get', 'items', 'keys', 'pop'}
    known |= set(MODEL_KEYS) | {'type'}
    pattern = re.compile(r"(?:train|test)_cfg(?:\.get\('|\['|\.)([a-z_]\w*)")
    unknown = {}
    for path in (ROOT / 'mmdet' / 'models').rglob('*.py'):
        words = set(pattern.findall(path.read_text())) - known
        if words:
            unknown[path.name] = words
    assert unknown == {}, 'add them to mmdet/config/keys.py'


def test_keys_of_suppression_are_those_of_its_functions():
    functions = importlib.import_module('mmdet.ops.nms')
    for name, keys in NMS_KEYS.items():
        parameters = set(inspect.signature(getattr(functions, name)).parameters) - {'boxes', 'scores'}
        assert parameters <= set(keys.split())
