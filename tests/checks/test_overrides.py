"""Options of the command line take effect as if they stood in the file, or are named."""

import pytest

from mmdet.checks import ConfigError, check_config, require_sound
from mmdet.config import load_config
from mmdet.errors import UserValueError

BASE = """
data_root = 'data/old/'
backend_args = None
vis_backends = [dict(type='LocalVisBackend')]
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
]
train_dataloader = dict(
    batch_size=2, dataset=dict(type='CocoDataset', data_root=data_root, ann_file='a.json', pipeline=train_pipeline)
)
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations/val.json')
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends)
unused = 3
"""
CHILD = """
_base_ = './base.py'
max_epochs = 12
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
test_evaluator = dict(type='CocoMetric', ann_file=f'{_base_.data_root}annotations/test.json')
param_scheduler = [dict(type='CosineAnnealingLR', T_max={{_base_.unused}})]
"""


@pytest.fixture
def child(tmp_path):
    (tmp_path / 'base.py').write_text(BASE)
    path = tmp_path / 'child.py'
    path.write_text(CHILD)
    return path


@pytest.mark.parametrize(
    ('options', 'place', 'value'),
    [
        ({'data_root': '/new/'}, 'train_dataloader.dataset.data_root', '/new/'),
        ({'data_root': '/new/'}, 'val_evaluator.ann_file', '/new/annotations/val.json'),
        ({'data_root': '/new/'}, 'test_evaluator.ann_file', '/new/annotations/test.json'),
        ({'vis_backends': [{'type': 'WandbVisBackend'}]}, 'visualizer.vis_backends.0.type', 'WandbVisBackend'),
        ({'vis_backends.0.type': 'WandbVisBackend'}, 'visualizer.vis_backends.0.type', 'WandbVisBackend'),
        ({'train_pipeline.1.scale': (9, 8)}, 'train_dataloader.dataset.pipeline.1.scale', (9, 8)),
        ({'backend_args.backend': 'local'}, 'train_dataloader.dataset.pipeline.0.backend_args.backend', 'local'),
        ({'max_epochs': 3}, 'train_cfg.max_epochs', 3),
        ({'unused': 7}, 'param_scheduler.0.T_max', 7),
        # what is set by its place wins
        (
            {'data_root': '/new/', 'train_dataloader.dataset.data_root': '/own/'},
            'train_dataloader.dataset.data_root',
            '/own/',
        ),
    ],
)
def test_a_variable_reaches_what_was_made_of_it(child, options, place, value):
    cfg = load_config(child, options)
    node = cfg
    for key in place.split('.'):
        node = node[int(key) if key.isdigit() else key]
    assert node == value
    assert cfg.without_effect == {}


def test_variable_of_a_lazy_config(tmp_path):
    (tmp_path / '__init__.py').write_text('')
    (tmp_path / 'base.py').write_text("data_root = 'old/'\nhook = dict(path=data_root + 'a')\n")
    path = tmp_path / 'child.py'
    path.write_text(
        'from mmengine.config import read_base\nwith read_base():\n    from .base import *\nother = data_root\n'
    )
    cfg = load_config(path, {'data_root': 'new/'})
    assert (cfg.hook.path, cfg.other, cfg.data_root) == ('new/a', 'new/', 'new/')
    assert load_config(path).hook.path == 'old/a'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'optim_wraper.optimizer.lr': 1.0}, "there is no 'optim_wraper' in the config. Did you mean optim_wrapper?"),
        ({'load_form': 'a.pth'}, "there is no 'load_form' in the config. Did you mean load_from?"),
        ({'dataroot': '/new/'}, "there is no 'dataroot' in the config. Did you mean data_root?"),
        ({'something': 1}, "there is no 'something' in the config."),
        ({'lost': 4}, '4 would change nothing. What the variable was stands in train_dataloader.batch_size: set that.'),
        ({'alone': 4}, '4 would change nothing. No section of the config takes the variable.'),
    ],
)
def test_an_option_that_arrives_nowhere_is_named(child, options, message):
    child.write_text(
        CHILD + "model = dict(type='RetinaNet')\nlost = [2][0]\nalone = 99\n"
        'train_dataloader = dict(batch_size=[2][0])\n'
    )
    cfg = load_config(child, options)
    (key,) = options
    assert cfg.without_effect == {key: message}
    assert f'error: {key}: {message}' in [str(finding) for finding in check_config(cfg)]
    with pytest.raises(ConfigError, match=key):
        require_sound(cfg, None, report=lambda text: None)


def test_json_configs_have_no_variables(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text(
        '{"data_root": "old/", "model": {"type": "A"}, "train_dataloader": {"dataset": {"data_root": "old/"}}}'
    )
    message = load_config(path, {'data_root': 'new/'}).without_effect['data_root']
    assert 'stands in train_dataloader.dataset.data_root: set that.' in message


def test_options_of_a_variable_that_do_not_fit(child):
    with pytest.raises(UserValueError, match=r"the options {'train_pipeline.9.scale': 1} do not fit"):
        load_config(child, {'train_pipeline.9.scale': 1})
