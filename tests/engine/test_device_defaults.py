"""What a run on CUDA takes where the config says nothing; without a GPU."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn
from toy_runs import build, toy_config

from mmdet.engine import acceleration
from mmdet.engine.device_defaults import has_bounded_sizes, keep_kernels, with_fused_optimizer


class OnCuda(nn.Module):
    """A model that says its weights are on a GPU."""

    def __init__(self, *devices):
        super().__init__()
        self.devices = devices

    def parameters(self, recurse=True):
        for device in self.devices:
            parameter = nn.Parameter(torch.ones(1, device='meta'))
            parameter.__class__ = type('Anywhere', (nn.Parameter,), dict(device=torch.device(device)))
            yield parameter


@pytest.mark.parametrize('kind', ['SGD', 'Adam', 'AdamW', torch.optim.SGD])
def test_optimizers_are_fused_on_a_gpu_alone(kind):
    cfg = ConfigDict(type='AmpOptimWrapper', optimizer=dict(type=kind, lr=0.1))
    before = copy.deepcopy(cfg)
    assert with_fused_optimizer(cfg, OnCuda('cuda:0', 'cuda:0')).optimizer.fused is True
    assert 'fused' not in with_fused_optimizer(cfg, OnCuda('cuda', 'cpu')).optimizer
    assert 'fused' not in with_fused_optimizer(cfg, nn.Linear(1, 1)).optimizer
    assert cfg == before


@pytest.mark.parametrize(
    'optimizer',
    [
        dict(type='SGD', fused=False),
        dict(type='AdamW', foreach=True),
        dict(type='Adagrad'),
        dict(type='Adam', capturable=True),
    ],
)
def test_a_choice_of_the_config_stays(optimizer):
    cfg = dict(type='OptimWrapper', optimizer=optimizer)
    assert with_fused_optimizer(cfg, OnCuda('cuda')) == cfg


def test_several_optimizers():
    cfg = dict(one=dict(optimizer=dict(type='SGD')), two=dict(optimizer=dict(type='LBFGS')), constructor='Several')
    fused = with_fused_optimizer(cfg, OnCuda('cuda'))
    assert fused['one']['optimizer'] == dict(type='SGD', fused=True)
    assert fused['two'] == cfg['two'] and fused['constructor'] == 'Several'


@pytest.mark.parametrize(('saved', 'resumed'), [(True, False), (False, True), (None, True)])
def test_a_resumed_optimizer_computes_as_it_was_built(saved, resumed):
    def make(fused):
        torch.manual_seed(0)
        model = nn.Linear(2, 2)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)

    model, optimizer = make(saved)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    _, other = make(resumed)
    keep_kernels(other)
    other.load_state_dict(state)
    assert other.param_groups[0]['fused'] is resumed
    assert state['param_groups'][0]['fused'] is saved
    for mine, theirs in zip(other.state.values(), optimizer.state.values()):
        assert all(torch.equal(mine[key], theirs[key]) for key in ('step', 'exp_avg', 'exp_avg_sq'))


def loader(*steps):
    return dict(dataset=dict(type='CocoDataset', pipeline=[dict(type='LoadImageFromFile'), *steps]))


FIXED = dict(type='Resize', scale=(320, 320), keep_ratio=False)
RATIO = dict(type='Resize', scale=(1333, 800), keep_ratio=True)
PADDED = [dict(type='RandomCrop', crop_size=(64, 64)), dict(type='mmdet.Pad', size=(64, 64))]


@pytest.mark.parametrize(
    ('train', 'val', 'augments', 'bounded'),
    [
        ([FIXED], [FIXED], None, True),
        (PADDED, [FIXED], None, True),
        ([FIXED], [RATIO], None, False),
        ([FIXED, dict(type='RandomCrop', crop_size=(64, 64))], [FIXED], None, False),
        ([RATIO, dict(type='Pad', size_divisor=32)], [FIXED], None, False),
        ([RATIO], [FIXED], [dict(type='BatchFixedSizePad', size=(64, 64))], True),
        ([FIXED], [FIXED], [dict(type='BatchSyncRandomResize', random_size_range=(64, 96))], False),
        ([], [FIXED], None, False),
    ],
)
def test_where_sizes_are_bounded(train, val, augments, bounded):
    cfg = dict(train_dataloader=loader(*train), val_dataloader=loader(*val))
    cfg['model'] = dict(data_preprocessor=dict(type='DetDataPreprocessor', batch_augments=augments))
    assert has_bounded_sizes(cfg) is bounded


def test_the_search_for_convolutions_where_the_config_leaves_it_open(tmp_path, monkeypatch):
    monkeypatch.setattr('mmdet.engine.runner.det_runner.has_bounded_sizes', lambda cfg: True)
    for env, deterministic, expected in [
        ({}, False, True),
        (dict(cudnn_benchmark=False), False, False),
        ({}, True, False),
    ]:
        torch.backends.cudnn.benchmark = False
        build(toy_config(tmp_path, env_cfg=env, randomness=dict(seed=1, deterministic=deterministic)))
        assert torch.backends.cudnn.benchmark is expected, (env, deterministic)


@pytest.fixture(autouse=True)
def _settings_stay():
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.backends.cudnn.benchmark = benchmark
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ('cuda', 'switch', 'wrapper', 'given', 'expected'),
    [
        (True, True, 'AmpOptimWrapper', None, True),
        (True, True, 'AmpOptimWrapper', False, False),
        (True, False, 'AmpOptimWrapper', None, False),
        (True, True, 'OptimWrapper', None, False),
        (False, True, 'AmpOptimWrapper', None, False),
        (False, True, 'OptimWrapper', True, True),
    ],
)
def test_channels_last_with_mixed_precision(monkeypatch, cuda, switch, wrapper, given, expected):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    monkeypatch.setattr(acceleration, 'CHANNELS_LAST_WITH_AMP', switch)
    cfg = dict(optim_wrapper=dict(type=wrapper)) | ({} if given is None else dict(channels_last=given))
    weight = acceleration.lay_out(nn.Conv2d(4, 4, 3), cfg).weight
    assert weight.is_contiguous(memory_format=torch.channels_last) is expected


@pytest.mark.parametrize(
    ('cuda', 'given', 'expected'), [(True, None, True), (False, None, False), (True, False, False)]
)
def test_batches_are_pinned_for_a_gpu(monkeypatch, tmp_path, cuda, given, expected):
    runner = build(toy_config(tmp_path))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    cfg = dict(runner.cfg.train_dataloader) | ({} if given is None else dict(pin_memory=given))
    assert runner.build_dataloader(cfg, seed=0).pin_memory is expected


def test_the_log_says_when_data_are_waited_for(tmp_path, monkeypatch):
    from mmdet.engine.hooks import IterTimerHook

    runner = build(toy_config(tmp_path))
    runner.logger = type('Lines', (list,), dict(info=list.append))()
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    now = [0.0]
    monkeypatch.setattr('mmdet.engine.hooks.iter_timer_hook.time.time', lambda: now[0])
    for wait, expected in [(0.05, []), (0.5, ['waiting for data: 29% of the time'])]:
        hook = IterTimerHook()
        hook.before_train(runner)
        hook._before_epoch(runner)
        for index in range(hook.interval):
            now[0] += wait if index else 60  # workers start
            hook.before_train_iter(runner, index)
            now[0] += 1
            hook.after_train_iter(runner, index)
        assert [line.split('.')[0] for line in runner.logger] == expected
