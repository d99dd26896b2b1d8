"""A config that came with weights runs no code, imports no module and fetches no file, on whatever path it is used."""

import copy
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.apis.inference import build_detector, build_test_pipeline, build_visualizer, stored_config
from mmdet.config import StoredConfig, building
from mmdet.engine.replay import encode, replay
from mmdet.errors import UserError
from mmdet.registry import MODELS, TRANSFORMS, UnimportedNameError, is_scope, only_registered
from mmdet.utils.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
NORM = dict(type='BN')
MODEL = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, base_channels=8, out_indices=(1, 2, 3), norm_cfg=NORM),
    neck=dict(type='FPN', in_channels=[16, 32, 64], out_channels=8, num_outs=3),
    bbox_head=dict(
        type='RetinaHead',
        num_classes=3,
        in_channels=8,
        feat_channels=8,
        stacked_convs=1,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0], strides=[8, 16, 32]
        ),
    ),
    test_cfg=dict(nms_pre=100, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5),
)
HONEST = dict(
    model=MODEL,
    test_dataloader=dict(
        dataset=dict(
            type='CocoDataset',
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='Resize', scale=(64, 64), keep_ratio=True),
                dict(type='PackDetInputs', meta_keys=('img_path', 'ori_shape', 'img_shape', 'scale_factor')),
            ],
        )
    ),
    visualizer=dict(type='DetLocalVisualizer'),
)
PICTURE = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture
def payload(tmp_path, monkeypatch):
    """A folder on the import path whose modules write a file when they are imported; gives the mark they leave."""
    mark = tmp_path / 'mark'
    code = f'from pathlib import Path\nPath({str(mark)!r}).touch()\ndef run(*args, **kwargs):\n    pass\n'
    home = tmp_path / 'modules'
    (home / 'payload_package').mkdir(parents=True)
    for name in ('payload_module', 'mc', 'payload_package/__init__', 'payload_package/registry'):
        (home / f'{name}.py').write_text(code)
    monkeypatch.syspath_prepend(str(home))
    yield mark
    for name in ('payload_module', 'mc', 'payload_package', 'payload_package.registry'):
        sys.modules.pop(name, None)


def touch(mark):
    return dict(type='os.system', command=f'touch {mark}')


def kinds(mark):
    """Dicts that run code when mmengine's registry builds them."""
    return [
        touch(mark),
        dict(type='subprocess.call', args=['touch', str(mark)]),
        dict(type='mmengine.os.system', command=f'touch {mark}'),
        dict(type='mmdet.os.system', command=f'touch {mark}'),
        dict(type='pathlib.Path.touch', self=str(mark)),
        dict(type='payload_module.run'),
        dict(type='payload_module'),
        dict(type='payload_package.Name'),
        dict(type='payload_package.registry.run'),
        dict(type='mmengine.payload_module.run'),
        dict(type='RetinaNet', _scope_='payload_package'),
        # registered, but elsewhere: these write into folders
        dict(type='mmengine.runner.runner.Runner', model=MODEL, work_dir=str(mark)),
        dict(type='mmengine.visualization.vis_backend.LocalVisBackend', save_dir=str(mark)),
    ]


COUNT = len(kinds(''))
PLACES = {
    'model': lambda cfg, evil: cfg.update(model=evil),
    'init': lambda cfg, evil: cfg['model']['neck'].update(init_cfg=evil),
    'backbone': lambda cfg, evil: cfg['model'].update(backbone=evil),
    'norm': lambda cfg, evil: cfg['model']['backbone'].update(norm_cfg=evil),
    'conv': lambda cfg, evil: cfg['model']['backbone'].update(conv_cfg=evil),
    'activation': lambda cfg, evil: cfg['model']['neck'].update(act_cfg=evil),
    'loss': lambda cfg, evil: cfg['model']['bbox_head'].update(loss_cls=evil),
    'assigner': lambda cfg, evil: cfg['model'].update(train_cfg=dict(assigner=evil)),
    'coder': lambda cfg, evil: cfg['model']['bbox_head'].update(bbox_coder=evil),
    'preprocessor': lambda cfg, evil: cfg['model'].update(data_preprocessor=evil),
    'batch_augments': lambda cfg, evil: cfg['model']['data_preprocessor'].update(batch_augments=[evil]),
    'transform': lambda cfg, evil: pipeline(cfg).insert(1, evil),
    'nested_transform': lambda cfg, evil: pipeline(cfg).insert(1, dict(type='RandomChoice', transforms=[[evil]])),
    'compose': lambda cfg, evil: pipeline(cfg).insert(1, dict(type='Compose', transforms=[evil])),
    'wrapped_transform': lambda cfg, evil: pipeline(cfg).insert(
        1, dict(type='TransformBroadcaster', transforms=[evil])
    ),
    'visualizer': lambda cfg, evil: cfg.update(visualizer=evil),
    'dataset': lambda cfg, evil: cfg['test_dataloader'].update(dataset=dict(evil, pipeline=pipeline(cfg))),
    'collate': lambda cfg, evil: cfg['test_dataloader'].update(collate_fn=evil['type']),
}


def pipeline(cfg):
    return cfg['test_dataloader']['dataset']['pipeline']


def weights(tmp_path, cfg, **meta):
    torch.manual_seed(0)
    path = tmp_path / 'weights.pth'
    text = cfg if isinstance(cfg, str) else Config(cfg, format_python_code=False).pretty_text
    state = MODELS.build(copy.deepcopy(MODEL)).state_dict()
    torch.save(dict(state_dict=state, meta=dict(cfg=text, dataset_meta=dict(classes=('a', 'b', 'c')), **meta)), path)
    return str(path)


def use(path):
    """All that the package does with a config that came with weights."""
    inferencer = DetInferencer(weights=path, device='cpu')
    inferencer(PICTURE, return_vis=True)
    inferencer.model.init_weights()  # as training would
    return inferencer


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('index', range(COUNT))
def test_no_code_runs_in_the_inferencer(index, place, tmp_path, payload, default_scope):
    cfg = copy.deepcopy(HONEST)
    PLACES[place](cfg, kinds(payload)[index])
    try:
        use(weights(tmp_path, cfg))
    except UserError as error:
        assert len(str(error)) < 2000
    assert not payload.exists() and 'payload_module' not in sys.modules


@pytest.mark.parametrize(
    'more',
    [
        dict(custom_imports=dict(imports=['payload_module'], allow_failed_imports=False)),
        dict(default_scope='payload_package'),
        dict(default_scope='payload_module'),
        dict(_scope_='payload_package'),
    ],
)
def test_no_import_for_the_whole_config(more, tmp_path, payload, default_scope):
    inferencer = use(weights(tmp_path, {**copy.deepcopy(HONEST), **more}))
    assert not payload.exists() and 'custom_imports' not in inferencer.cfg
    MODELS.build(copy.deepcopy(MODEL))  # a later build, under the scope that is left, imports nothing either
    assert not payload.exists() and inferencer.cfg.default_scope == 'mmdet'


def test_no_file_is_fetched(tmp_path, payload, default_scope, monkeypatch):
    cfg = copy.deepcopy(HONEST)
    address = dict(type='Pretrained', checkpoint='http://127.0.0.1:9/weights.pth')
    cfg['model']['backbone'].update(init_cfg=address, pretrained='torchvision://resnet18')
    cfg['model']['neck'].update(init_cfg=[address])
    cfg['model']['bbox_head'].update(init_cfg=dict(type='mmengine.PretrainedInit', checkpoint='/etc/passwd'))
    stores = dict(backend='memcached', server_list_cfg='', client_cfg='', sys_path=str(payload.parent / 'modules'))
    pipeline(cfg)[0].update(backend_args=stores, file_client_args=stores)
    del cfg['model']['backbone']['pretrained']
    inferencer = use(weights(tmp_path, cfg))
    assert not payload.exists() and pipeline(inferencer.cfg)[0].backend_args is None
    inferencer.model.init_weights()  # would read what init_cfg names


def test_the_config_stays_closed_after_the_detector_is_built(tmp_path, payload, default_scope):
    path = weights(tmp_path, HONEST)
    inferencer = use(path)
    for cfg in (inferencer.cfg, copy.deepcopy(inferencer.cfg), inferencer.model.cfg):
        assert isinstance(cfg, StoredConfig)
    model = init_detector(inferencer.cfg, path, device='cpu')
    assert len(inference_detector(model, PICTURE).pred_instances.bboxes) == 5
    evil = copy.deepcopy(model.cfg)
    pipeline(evil).insert(1, touch(payload))
    evil.visualizer = touch(payload)
    model.cfg = evil
    for attack in (
        lambda: inference_detector(model, PICTURE),
        lambda: build_test_pipeline(evil),
        lambda: build_visualizer(evil, {}),
        lambda: build_detector(StoredConfig(dict(model=touch(payload))), None),
        lambda: init_detector(StoredConfig(dict(model=touch(payload))), device='cpu'),
    ):
        with pytest.raises(UserError, match=r'os\.system'):
            attack()
    assert not payload.exists()


def run(script, *arguments):
    return runpy.run_path(str(ROOT / script))['parse_args'](list(arguments)), runpy.run_path(str(ROOT / script))['main']


def test_image_demo(tmp_path, payload, default_scope):
    import cv2

    cv2.imwrite(str(tmp_path / '0.png'), PICTURE)
    cfg = copy.deepcopy(HONEST)
    cfg['model'] = touch(payload)
    arguments, main = run('demo/image_demo.py', str(tmp_path / '0.png'), weights(tmp_path, cfg), '--device', 'cpu')
    with pytest.raises(UnimportedNameError, match=r"'os\.system', which no imported module has registered"):
        main(arguments)
    assert not payload.exists()


def recorded(tmp_path, cfg):
    from mmdet.structures import DetDataSample

    sample = DetDataSample(metainfo=dict(img_shape=(32, 32)))
    record = dict(
        kind='mmdet step',
        config=Config(cfg, format_python_code=False).pretty_text,
        batch=encode(dict(inputs=[torch.zeros(3, 32, 32)], data_samples=[sample])),
        **dict(iter=0, rank=0, seed=1, losses={}, images=[], lr={}, amp_dtype=None),
        state_dict=MODELS.build(copy.deepcopy(MODEL)).state_dict(),
    )
    save_checkpoint(record, tmp_path / 'step.pth')
    return str(tmp_path / 'step.pth')


@pytest.mark.parametrize('place', ['model', 'backbone', 'norm', 'preprocessor', 'batch_augments'])
@pytest.mark.parametrize('index', range(COUNT))
def test_replay(index, place, tmp_path, payload, default_scope):
    cfg = dict(model=copy.deepcopy(MODEL), default_scope='payload_package')
    PLACES[place](cfg, kinds(payload)[index])
    try:
        replay(recorded(tmp_path, cfg))
    except UserError:
        pass
    except (AttributeError, KeyError, RuntimeError) as error:  # an honest name in the wrong place
        assert kinds(payload)[index]['type'] == 'RetinaNet', error
    assert not payload.exists()


def test_replay_tool(tmp_path, payload, default_scope):
    imports = dict(custom_imports=dict(imports=['payload_module']))
    arguments, main = run('tools/replay.py', recorded(tmp_path, dict(model=MODEL, **imports)))
    with pytest.raises(UserError, match='--import payload_module if you trust it'):
        main(arguments)
    arguments, main = run('tools/replay.py', recorded(tmp_path, dict(model=touch(payload))))
    with pytest.raises(UserError, match='no imported module has registered'):
        main(arguments)
    assert not payload.exists()
    save_checkpoint(dict(kind='mmdet step'), tmp_path / 'step.pth')
    with pytest.raises(UserError, match='not a whole recorded step: amp_dtype, batch'):
        replay(tmp_path / 'step.pth')


# --------------------------------------------------------------------------------------------------------------------
def test_what_is_registered_still_builds(tmp_path, default_scope):
    """Names with the scope before them, those that a lazy config dumps, and a module that the caller imported."""
    cfg = copy.deepcopy(HONEST)
    cfg['model']['type'] = 'mmdet.models.detectors.single_stage.RetinaNet'
    cfg['model']['backbone'].update(type='mmdet.ResNet', norm_cfg=dict(type='torch.nn.modules.batchnorm.BatchNorm2d'))
    cfg['model']['backbone'].update(init_cfg=dict(type='mmengine.Kaiming', layer='Conv2d'))
    pipeline(cfg)[1]['type'] = 'mmdet.datasets.transforms.Resize'

    @MODELS.register_module(name='CallersOwnNeck')
    class Neck(MODELS.get('FPN')):
        pass

    cfg['model']['neck']['type'] = 'CallersOwnNeck'
    try:
        assert isinstance(use(weights(tmp_path, cfg)).model.neck, Neck)
    finally:
        MODELS._module_dict.pop('CallersOwnNeck')


def test_an_unknown_dataset_does_not_matter_where_the_checkpoint_names_the_classes(tmp_path, payload, default_scope):
    cfg = copy.deepcopy(HONEST)
    cfg['test_dataloader']['dataset']['type'] = 'payload_package.Dataset'
    assert use(weights(tmp_path, cfg)).model.dataset_meta['classes'] == ('a', 'b', 'c')
    assert not payload.exists()


@pytest.mark.parametrize(
    'text, message',
    [
        (3, 'carries no config'),
        ('import os', 'Import is not allowed'),
        ('model = 3', 'has no model'),
        ('a = 1', 'has no model'),
        ('model = dict(type="RetinaNet", backbone=True, detector=3)', 'no argument .detector'),
        ('model = dict(type=3)', 'cannot be used'),
        ('filename = 1', 'cannot be used'),
        ('a = ' + '[' * 70 + ']' * 70, 'nested more than 60'),
    ],
)
def test_config_that_is_none(text, message, tmp_path, default_scope):
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict={}, meta=dict(cfg=text)), path)
    with pytest.raises(UserError, match=message):
        DetInferencer(weights=str(path), device='cpu')


@pytest.mark.parametrize(
    'changed, message',
    [
        (dict(dataset_meta=dict(classes=3)), 'class names'),
        (dict(dataset_meta=dict(classes=['a', 3, 'b'])), 'class names'),
        (dict(dataset_meta=dict(classes=['a', 'b', 'c'], palette=[(1, 2, float('nan'))] * 3)), 'colours'),
        (dict(dataset_meta=dict(classes=['a', 'b', 'c'], palette={1: 2})), 'colours'),
        (dict(dataset_meta=dict(classes=['a', 'b', 'c'], palette='no colour')), 'neither a colour nor a palette'),
        (dict(cfg=['a']), 'carries no config'),
    ],
)
def test_meta_that_is_no_meta(changed, message, tmp_path, default_scope):
    path = weights(tmp_path, HONEST)
    checkpoint = torch.load(path)
    checkpoint['meta'].update(changed)
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=message):
        use(path)


@pytest.mark.parametrize('value', [3, 'x', [1], True, {1: 2}])
def test_parts_that_are_no_dicts_are_as_none(value, tmp_path, default_scope):
    path = weights(tmp_path, HONEST)
    checkpoint = torch.load(path)
    checkpoint.update(message_hub=value)
    checkpoint['meta']['dataset_meta'] = value
    torch.save(checkpoint, path)
    assert use(path).model.dataset_meta['classes'] is not None
    torch.save(dict(checkpoint, meta=value), path)
    with pytest.raises(UserError, match='carries no config'):
        use(path)


@pytest.mark.parametrize('step', [dict(type='BuildsLate'), dict(type='LoadProposals')], ids=['builds', 'fails'])
def test_transforms_run_within_the_guard(step, tmp_path, payload, default_scope):
    @TRANSFORMS.register_module(force=True)
    class BuildsLate:
        def __call__(self, data):
            return TRANSFORMS.build(dict(type='payload_module.run'))(data)

    cfg = copy.deepcopy(HONEST)
    pipeline(cfg).insert(1, step)
    with pytest.raises(UserError, match='config that came with the weights'):
        use(weights(tmp_path, cfg))
    assert not payload.exists()


def test_the_guard_ends_with_its_block(payload, default_scope):
    with pytest.raises(UnimportedNameError), only_registered():
        MODELS.get('payload_module.run')
    assert not payload.exists()
    with building(Config(dict(a=1))):  # a config of the caller's is a program
        assert MODELS.get('payload_module.run') is sys.modules['payload_module'].run
    assert payload.exists() and is_scope('mmengine') and is_scope('mmdet') and not is_scope('payload_package')
    assert os.path.isfile(payload) and stored_config(dict(meta=dict(cfg='a = 1')), 'x').a == 1
