"""Helpers that research code imports from mmdet.utils and its neighbours."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict

import mmdet
from mmdet import utils
from mmdet.engine.hooks import trigger_visualization_hook
from mmdet.engine.hooks.sync_norm_hook import get_norm_states
from mmdet.models.task_modules.prior_generators import anchor_inside_flags, calc_region
from mmdet.structures.bbox import HorizontalBoxes, bbox_cxcyah_to_xyxy, bbox_xyxy_to_cxcyah
from mmdet.utils import benchmark, compat_config


def test_versions():
    assert mmdet.digit_version('3.3.0') > mmdet.digit_version('3.3.0rc1')
    assert mmdet.version.parse_version_info('1.2.3')[:3] == (1, 2, 3)
    with pytest.raises(AttributeError, match='digit_versoin'):
        mmdet.digit_versoin  # noqa: B018


def test_nice_repr():
    class Named(utils.NiceRepr):
        def __nice__(self):
            return 'Alice'

    class Sized(utils.NiceRepr):
        def __len__(self):
            return 3

    class Neither(utils.NiceRepr):
        pass

    assert str(Named()) == '<Named(Alice)>' and repr(Named()).startswith('<Named(Alice) at 0x')
    assert str(Sized()) == '<Sized(3)>'
    for show in (str, repr):
        with pytest.warns(RuntimeWarning, match='__nice__'):
            assert 'Neither' in show(Neither())


def test_random_generators():
    assert utils.ensure_rng(None) is np.random.mtrand._rand
    assert utils.ensure_rng(3).rand() == np.random.RandomState(3).rand()
    rng = np.random.RandomState(0)
    assert utils.ensure_rng(rng) is rng


def test_tensors_of_a_type_in_containers():
    inputs = dict(a=torch.zeros(1), b=[torch.zeros(1, dtype=torch.int), 'text'], c=3, d=(torch.zeros(1),))
    cast = utils.cast_tensor_type(inputs, torch.float, torch.half)
    assert cast['a'].dtype == cast['d'][0].dtype == torch.half
    assert (
        cast['b'][0].dtype == torch.int and cast['b'][1] == 'text' and cast['c'] == 3 and isinstance(cast['d'], tuple)
    )
    assert utils.cast_tensor_type(inputs, dst_type=torch.half)['b'][0].dtype == torch.half
    assert utils.cast_tensor_type(torch.zeros(1), torch.device('cpu'), torch.device('meta')).is_meta
    assert not utils.cast_tensor_type(torch.zeros(1), torch.device('cuda'), torch.device('meta')).is_meta
    with pytest.raises(AssertionError, match='dst_type'):
        utils.cast_tensor_type(inputs)


def test_pictures_of_a_source(tmp_path):
    for name in ('b.jpg', 'a.PNG', 'notes.txt', 'deep/c.webp'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files, kind = utils.get_file_list(str(tmp_path))
    assert [file.removeprefix(f'{tmp_path}/') for file in files] == ['a.PNG', 'b.jpg', 'deep/c.webp'] and kind['is_dir']
    assert utils.get_file_list('x.jpg') == (['x.jpg'], dict(is_dir=False, is_url=False, is_file=True))
    assert utils.get_file_list('x.txt')[0] == []


def cfg_2x(**data):
    return Config(dict(total_epochs=12, data=data))


def test_data_of_2x_configs():
    with pytest.warns(UserWarning, match='total_epochs'):
        cfg = utils.compat_cfg(
            cfg_2x(
                imgs_per_gpu=2,
                workers_per_gpu=3,
                persistent_workers=True,
                val=dict(samples_per_gpu=4),
                test=[dict(samples_per_gpu=5), dict()],
            )
        )
    assert cfg.runner == dict(type='EpochBasedRunner', max_epochs=12)
    assert cfg.data.train_dataloader == dict(samples_per_gpu=2, workers_per_gpu=3, persistent_workers=True)
    assert cfg.data.val_dataloader == dict(samples_per_gpu=4, workers_per_gpu=3)
    assert cfg.data.test_dataloader == dict(samples_per_gpu=5, workers_per_gpu=3)
    assert cfg.data.val == {} and list(cfg.data.test) == [{}, {}]


def test_data_of_2x_configs_given_twice():
    with pytest.raises(AssertionError, match='samples_per_gpu'):
        compat_config.compat_loader_args(cfg_2x(samples_per_gpu=1, train_dataloader=dict(samples_per_gpu=2)))
    cfg = cfg_2x()
    cfg.runner = ConfigDict(type='EpochBasedRunner', max_epochs=24)
    with pytest.raises(AssertionError, match='24'):
        compat_config.compat_runner_args(cfg)


@pytest.mark.parametrize('kind', [lambda boxes: boxes, HorizontalBoxes])
def test_anchors_inside_the_image(kind):
    anchors = kind(torch.tensor([[0.0, 0, 9, 9], [-1, 0, 5, 5], [0, 0, 10, 5], [-3, 0, 5, 5]]))
    valid = torch.tensor([True, True, True, False])
    assert anchor_inside_flags(anchors, valid, (10, 10, 3)).tolist() == [True, False, False, False]
    assert anchor_inside_flags(anchors, valid, (10, 10), allowed_border=1).tolist() == [True, True, True, False]
    assert anchor_inside_flags(anchors, valid, (10, 10), allowed_border=-1) is valid


def test_the_middle_of_a_box():
    box = torch.tensor([0.0, 10, 10, 20])
    assert [int(v) for v in calc_region(box, 0.2)] == [2, 12, 8, 18]
    assert [int(v) for v in calc_region(box, 0.0, (16, 7))] == [0, 10, 7, 16]


class Sleepless(benchmark.BaseBenchmark):
    def __init__(self, durations, **kwargs):
        super().__init__(**kwargs)
        self.durations = durations

    def run_once(self):
        return self._measure(self.durations, size=4)


def test_speed_leaves_out_the_warm_up():
    timed = Sleepless([9.0, 0.5, 0.5, 100.0], max_iter=3, log_interval=1, num_warmup=1)
    assert timed.run_once() == dict(fps=8.0)
    assert timed.run(2) == dict(avg_fps=8.0, fps=[8.0, 8.0])
    with pytest.raises(AssertionError, match='num_warmup'):
        Sleepless([9.0], max_iter=3, log_interval=1, num_warmup=1).run()
    with pytest.raises(AssertionError, match='max_iter'):
        Sleepless([], max_iter=3, log_interval=1, num_warmup=3)


def test_states_of_norm_layers():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.Sequential(torch.nn.BatchNorm2d(2)))
    states = get_norm_states(net)
    assert states and {name for name in states} == {name for name in net.state_dict() if name.startswith('1.0.')}


def test_drawing_as_the_arguments_say():
    cfg = Config(dict(default_hooks=dict(visualization=dict(type='DetVisualizationHook'))))
    arguments = Namespace(show=True, wait_time=3, show_dir='out')
    hook = trigger_visualization_hook(cfg, arguments).default_hooks.visualization
    assert (hook.draw, hook.show, hook.wait_time, hook.test_out_dir) == (True, True, 3, 'out')
    with pytest.raises(KeyError, match='DetVisualizationHook'):
        trigger_visualization_hook(Config(dict()), arguments)


def test_boxes_by_center_ratio_and_height():
    boxes = torch.tensor([[0.0, 10, 10, 30]])
    assert bbox_xyxy_to_cxcyah(boxes).tolist() == [[5, 20, 0.5, 20]]
    assert torch.equal(bbox_cxcyah_to_xyxy(bbox_xyxy_to_cxcyah(boxes)), boxes)
