"""Configs: loading, checking, translating; every message that the checks give."""

import copy
from pathlib import Path

import pytest
from mmengine.config import Config
from toy_runs import build, toy_config

from mmdet.apis.arguments import parse_value
from mmdet.checks.config_check import ConfigError, check_config, require_sound
from mmdet.config import (
    batch_size_message,
    diff_to_base,
    is_installed,
    is_v2,
    load_config,
    translate_v2,
    uses_read_base,
)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1', 1),
        ('1e-3', 1e-3),
        ('true', True),
        ('None', None),
        ('abc', 'abc'),
        ('1,2', [1, 2]),
        ('[1,2]', [1, 2]),
        ('(1,2)', (1, 2)),
        ('[(1,2),(3,4)]', [(1, 2), (3, 4)]),
        ('(1,2),(3,4)', [(1, 2), (3, 4)]),
        ('[]', []),
        ('a,b c', ['a', 'b c']),
        ("'quoted'", 'quoted'),
        ('/a path/with spaces', '/a path/with spaces'),
    ],
)
def test_values_of_cfg_options(text, value):
    assert parse_value(text) == value


def test_brackets_that_do_not_match():
    with pytest.raises(ValueError, match='do not match'):
        parse_value('[1,2')


def test_values_agree_with_mmengine():
    from mmengine.config import DictAction

    for text in ('1', '1.5', 'a', '[1,a]', '(1,2,(3,4))', '[(1,2),[a,b]]', '1,2,3', 'False'):
        assert parse_value(text) == DictAction._parse_iterable(text)


def test_classic_config_that_imports_the_standard_library(tmp_path):
    (tmp_path / 'base.py').write_text('a = 1\n')
    (tmp_path / 'child.py').write_text("import math\n_base_ = './base.py'\nb = math.floor(2.5)\n")
    cfg = load_config(tmp_path / 'child.py', {'a': 3})
    assert (cfg.a, cfg.b) == (3, 2)


def test_lazy_config(tmp_path):
    (tmp_path / '__init__.py').write_text('')
    (tmp_path / 'base.py').write_text('from mmengine.hooks import LoggerHook\nhook = dict(type=LoggerHook)\n')
    source = (
        'from mmengine.config import read_base\nwith read_base():\n    from .base import *\nhook.update(interval=3)\n'
    )
    (tmp_path / 'child.py').write_text(source)
    assert uses_read_base(source)
    cfg = load_config(tmp_path / 'child.py')
    assert cfg.hook.interval == 3 and cfg.hook.type.__name__ == 'LoggerHook'


def test_config_of_an_installed_package():
    assert is_installed('mmengine') and not is_installed('no-such-package')
    from mmdet.config import installed_path

    assert (Path(installed_path('mmengine')) / 'config').is_dir()
    with pytest.raises(ModuleNotFoundError, match='no-such-package'):
        installed_path('no-such-package')


def test_text_of_a_config_needs_no_formatter(tmp_path, monkeypatch):
    import mmengine.config.config as module

    def formatter(*args, **kwargs):
        raise AssertionError('the formatter was called')

    monkeypatch.setattr(module, 'FormatCode', formatter)
    cfg = toy_config(tmp_path)
    assert Config.fromstring(cfg.pretty_text, '.py').model == cfg.model
    assert copy.deepcopy(cfg).pretty_text == cfg.pretty_text


# --------------------------------------------------------------------------------------------------------------------
META = dict(classes=('a', 'b'))


def findings(cfg, path=None):
    return [str(finding) for finding in check_config(cfg, path)]


def test_sound_config_has_no_errors(tmp_path):
    require_sound(toy_config(tmp_path), None, report=lambda text: None)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(model__type='ToyModell'),
            "model.type: 'ToyModell' is not in the 'model' registry of mmdet. Did you mean",
        ),
        (dict(model__dropuot=1), "model.dropuot: ToyModel has no argument 'dropuot'. Did you mean dropout?"),
        (
            dict(train_dataloader__sampler__shufle=True),
            "train_dataloader.sampler.shufle: DefaultSampler has no argument 'shufle'. Did you mean shuffle?",
        ),
        (
            dict(param_scheduler=[dict(type='CosineAnnealingLR', T_max=3, milestones=[1])]),
            "error: param_scheduler[0].milestones: CosineAnnealingLR has no argument 'milestones'. It takes T_max",
        ),
        (
            dict(custom_hooks=[dict(type='EMAHok')]),
            "custom_hooks[0].type: 'EMAHok' is not in the 'hook' registry of mmdet. Did you mean EMAHook",
        ),
        (
            dict(optim_wrapper__optimizer__type='SDG'),
            "optim_wrapper.optimizer.type: 'SDG' is not in the 'optimizer' registry of mmdet. Did you mean SGD",
        ),
        (
            dict(model__head=dict(_delete_=True)),
            'model.head: _delete_ was not used up: no base file has a dict here that it could replace. Remove it.',
        ),
        (
            dict(param_scheduler=[dict(type='MultiStepLR', milestones=[2, 8, 11], by_epoch=True)]),
            'param_scheduler[0].milestones: MultiStepLR would change the rate at epoch 8, 11, '
            'but the run ends after epoch 3',
        ),
        (
            dict(param_scheduler=[dict(type='CosineAnnealingLR', T_max=12, by_epoch=True)]),
            'param_scheduler[0].T_max: CosineAnnealingLR is 12 epochs long, but the run ends after 3',
        ),
        (
            dict(train_cfg=dict(type='IterBasedTrainLoop', max_iters=90)),
            'param_scheduler[1]: MultiStepLR counts epochs, but the run is 90 iterations long',
        ),
        (
            dict(model__bbox_head=dict(type='ToyModel', num_classes=80), train_dataloader__dataset__metainfo=META),
            'model.bbox_head.num_classes: is 80, but train_dataloader.dataset has 2 classes: a, b',
        ),
        (
            dict(train_dataloader__dataset__metainfo=dict(classes='person')),
            "train_dataloader.dataset.metainfo.classes: 'person' is text; one class is written ('person',)",
        ),
        (
            dict(
                train_dataloader__dataset__metainfo=META,
                val_dataloader__dataset__metainfo=dict(classes=('b', 'a')),
            ),
            "val_dataloader.dataset: its classes differ from those of train_dataloader.dataset: 'b' where that has 'a'",
        ),
        (
            dict(
                train_dataloader__dataset__metainfo=META,
                val_dataloader__dataset__metainfo=dict(classes=('a', 'b', 'c')),
            ),
            'val_dataloader.dataset: 3 classes, but train_dataloader.dataset has 2',
        ),
        (
            {},
            'auto_scale_lr: batch size 4 (1 x 4), learning rate 0.05 chosen for batch size 16: '
            '--auto-scale-lr would make it 0.0125.',
        ),
    ],
)
def test_each_mistake_has_its_message(changes, message, tmp_path):
    found = findings(toy_config(tmp_path, **changes))
    assert any(message in text for text in found), found


def test_errors_stop_training_and_are_listed_together(tmp_path):
    cfg = toy_config(tmp_path, model__dropuot=1, default_hooks__logger__intervall=3)
    with pytest.raises(ConfigError, match=r'(?s)mistakes:.*intervall.*dropuot'):
        require_sound(cfg, None, report=lambda text: None)


def test_overridden_variable_that_reaches_nothing(tmp_path):
    (tmp_path / 'base.py').write_text(
        "train_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]\n"
        "data_root = 'data/coco/'\n"
        'train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))\n'
        'val_dataloader = dict(dataset=dict(data_root=data_root))\n'
    )
    child = tmp_path / 'child.py'
    child.write_text(
        "_base_ = './base.py'\n"
        "train_pipeline = [dict(type='LoadImageFromFile')]\n"
        "data_root = 'data/mine/'\n"
        'train_dataloader = dict(dataset=dict(data_root=data_root))\n'
    )
    found = [text for text in findings(load_config(child), child) if 'is set in' in text]
    assert found == [
        'error: train_pipeline: is set in child.py, but train_dataloader.dataset.pipeline still has the value of the '
        'base file, which has read its own variable already. Set train_dataloader.dataset.pipeline too.',
        'warning: data_root: is set in child.py, but val_dataloader.dataset.data_root still has the value of the base '
        'file, which has read its own variable already. Set val_dataloader.dataset.data_root too.',
    ]
    with child.open('a') as file:
        file.write(
            'train_dataloader.update(dataset=dict(data_root=data_root, pipeline=train_pipeline))\n'
            'val_dataloader = dict(dataset=dict(data_root=data_root))\n'
        )
    assert not [text for text in findings(load_config(child), child) if 'is set in' in text]


def test_diff_to_base(tmp_path):
    (tmp_path / 'base.py').write_text('model = dict(depth=50, out=[1, 2])\nepochs = 12\n')
    (tmp_path / 'child.py').write_text("_base_ = './base.py'\nmodel = dict(depth=18, new=dict(a=1))\n")
    assert diff_to_base(load_config(tmp_path / 'child.py'), tmp_path / 'child.py') == [
        '- model.depth = 50',
        '+ model.depth = 18',
        '+ model.new.a = 1',
    ]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((2, 8, 16, 0.02, False), 'batch size 16 (8 x 2), learning rate 0.02 chosen for batch size 16: they fit.'),
        (
            (2, 1, 16, 0.02, True, 8),
            'batch size 16 (1 x 2, 8 accumulated), learning rate 0.02 chosen for batch size 16: they fit.',
        ),
        (
            (2, 1, 16, 0.02, True),
            'batch size 2 (1 x 2), learning rate 0.02 chosen for batch size 16: scaled by 0.125 to 0.0025.',
        ),
    ],
)
def test_batch_size_against_learning_rate(arguments, message):
    assert batch_size_message(*arguments) == message


# --------------------------------------------------------------------------------------------------------------------
NORM = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
V2 = dict(
    model=dict(type='RetinaNet', pretrained='torchvision://resnet50', backbone=dict(type='ResNet', depth=50)),
    img_norm_cfg=NORM,
    data=dict(
        samples_per_gpu=2,
        workers_per_gpu=3,
        train=dict(
            type='RepeatDataset',
            times=3,
            dataset=dict(
                type='CocoDataset',
                classes=('a', 'b'),
                ann_file='train.json',
                img_prefix='train/',
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='LoadAnnotations', with_bbox=True),
                    dict(type='Resize', img_scale=[(1333, 640), (1333, 800)], multiscale_mode='value', keep_ratio=True),
                    dict(type='RandomFlip', flip_ratio=0.5),
                    dict(type='Normalize', **NORM),
                    dict(type='Pad', size_divisor=32),
                    dict(type='DefaultFormatBundle'),
                    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels']),
                ],
            ),
        ),
        val=dict(
            type='CocoDataset',
            ann_file='val.json',
            img_prefix='val/',
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(
                    type='MultiScaleFlipAug',
                    img_scale=(1333, 800),
                    flip=False,
                    transforms=[
                        dict(type='Resize', keep_ratio=True),
                        dict(type='RandomFlip'),
                        dict(type='Normalize', **NORM),
                        dict(type='Pad', size_divisor=32),
                        dict(type='ImageToTensor', keys=['img']),
                        dict(type='Collect', keys=['img']),
                    ],
                ),
            ],
        ),
    ),
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9),
    optimizer_config=dict(grad_clip=dict(max_norm=35, norm_type=2), coalesce=True),
    lr_config=dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001, step=[8, 11]),
    runner=dict(type='EpochBasedRunner', max_epochs=12),
    evaluation=dict(interval=1, metric=['bbox', 'segm'], save_best='bbox_mAP'),
    checkpoint_config=dict(interval=2),
    log_config=dict(interval=20, hooks=[dict(type='TextLoggerHook')]),
    workflow=[('train', 1), ('val', 1)],
)


def test_config_of_2x_is_translated():
    assert is_v2(V2) and not is_v2(dict(train_dataloader={}))
    cfg, notes = translate_v2(V2)
    train = cfg['train_dataloader']
    assert (train['batch_size'], train['num_workers']) == (2, 3)
    inner = train['dataset']['dataset']
    assert inner['metainfo'] == dict(classes=('a', 'b')) and inner['data_prefix'] == dict(img='train/')
    assert inner['pipeline'] == [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='RandomChoiceResize', scales=[(1333, 640), (1333, 800)], keep_ratio=True),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs'),
    ]
    assert cfg['val_dataloader']['dataset']['pipeline'] == [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', keep_ratio=True, scale=(1333, 800)),
        dict(type='PackDetInputs'),
    ]
    assert cfg['val_evaluator'] == dict(type='CocoMetric', ann_file='val.json', metric=['bbox', 'segm'])
    assert cfg['model']['backbone']['init_cfg'] == dict(type='Pretrained', checkpoint='torchvision://resnet50')
    assert cfg['model']['data_preprocessor']['mean'] == NORM['mean']
    assert cfg['model']['data_preprocessor']['pad_size_divisor'] == 32
    assert cfg['optim_wrapper'] == dict(
        type='OptimWrapper', optimizer=V2['optimizer'], clip_grad=dict(max_norm=35, norm_type=2)
    )
    assert cfg['param_scheduler'] == [
        dict(type='LinearLR', by_epoch=False, begin=0, end=500, start_factor=0.001),
        dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
    ]
    assert cfg['train_cfg'] == dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=1)
    assert cfg['default_hooks']['checkpoint'] == dict(type='CheckpointHook', interval=2, save_best='coco/bbox_mAP')
    assert cfg['default_hooks']['logger']['interval'] == 20
    for note in ('lr_config -> param_scheduler', 'workflow has no meaning any more', 'img_prefix -> data_prefix.img'):
        assert note in notes
    assert 'optimizer_config.coalesce has no meaning any more' in notes


def test_lists_of_data_sets_of_2x_are_evaluated_one_by_one():
    data = dict(V2['data'])
    data['test'] = [dict(data['val'], ann_file=name) for name in ('a.json', 'b.json')]
    data['val'] = dict(data['val'], ann_file=['a.json', 'b.json'])
    cfg, _ = translate_v2(dict(V2, data=data))
    metric = dict(type='CocoMetric', metric=['bbox', 'segm'])
    for split in ('val', 'test'):
        assert cfg[f'{split}_dataloader']['dataset']['type'] == 'ConcatDataset'
        assert cfg[f'{split}_evaluator'] == dict(
            type='MultiDatasetsEvaluator',
            metrics=[dict(metric, ann_file='a.json'), dict(metric, ann_file='b.json')],
            dataset_prefixes=['0', '1'],
        )


def test_file_of_2x_loads_with_notes(tmp_path):
    path = tmp_path / 'old.py'
    path.write_text('\n'.join(f'{key} = {value!r}' for key, value in V2.items()))
    cfg = load_config(path, {'train_dataloader.batch_size': 5})
    assert cfg.train_dataloader.batch_size == 5
    assert 'runner -> train_cfg' in cfg.translation_notes
    assert Config.fromstring(cfg.pretty_text, '.py').model == cfg.model


@pytest.mark.parametrize(
    'name',
    [
        'retinanet/retinanet_r50_fpn_1x_coco.py',
        'retinanet/retinanet_r50_fpn_amp-1x_coco.py',
        'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        'atss/atss_r50_fpn_1x_coco.py',
    ],
)
def test_configs_of_the_zoo_are_sound(name):
    path = Path(__file__).resolve().parents[2] / 'configs' / name
    assert [str(finding) for finding in check_config(load_config(path), path) if finding.level == 'error'] == []


def test_settings_that_are_used_up_before_a_class_is_made(tmp_path):
    cfg = toy_config(
        tmp_path,
        optim_wrapper__paramwise_cfg=dict(bias_lr_mult=2.0),
        optim_wrapper__constructor='DefaultOptimWrapperConstructor',
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=3, by_epoch=True, convert_to_iter_based=True)],
        train_cfg__by_epoch=True,
    )
    require_sound(cfg, None, report=lambda text: None)
    build(cfg).train()


@pytest.mark.parametrize(
    ('size', 'accumulated', 'world_size', 'factor'),
    [(2, 1, 1, 1 / 8), (2, 8, 1, 1.0), (2, 4, 2, 1.0), (4, 8, 1, 2.0), (16, 1, 1, 1.0)],
)
def test_scaled_learning_rate_counts_accumulation_and_processes(tmp_path, size, accumulated, world_size, factor):
    runner = build(
        toy_config(
            tmp_path,
            train_dataloader__batch_size=size,
            optim_wrapper__accumulative_counts=accumulated,
            auto_scale_lr=dict(enable=True, base_batch_size=16),
        )
    )
    runner._world_size = world_size
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    assert [group['lr'] for group in runner.optim_wrapper.param_groups] == [pytest.approx(0.05 * factor)]


def test_learning_rate_is_not_scaled_after_the_schedulers_have_read_it(tmp_path):
    runner = build(toy_config(tmp_path))
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = runner.build_param_scheduler([dict(type='ConstantLR', factor=0.5)])
    with pytest.raises(RuntimeError, match='comes too late'):
        runner.scale_lr(runner.optim_wrapper, dict(enable=True, base_batch_size=16))


def test_custom_keys_that_no_parameter_has(tmp_path):
    keys = dict(bias=dict(lr_mult=2.0), bakbone=dict(lr_mult=0.1))
    runner = build(toy_config(tmp_path, optim_wrapper__paramwise_cfg=dict(custom_keys=keys)))
    said = []
    runner.logger.warning = said.append
    runner.build_optim_wrapper(runner.optim_wrapper)
    assert said == ["optim_wrapper.paramwise_cfg.custom_keys: 'bakbone' is in the name of no parameter"]
