"""Gradients that are not finite though the loss is: they reach neither the weights nor a checkpoint."""

import copy
import math
import os
import re
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from test_resume import EMA
from torch import nn
from toy import ToyModel
from toy_runs import build, join_ranks, run_ranks, toy_config

from mmdet.engine.finite import NonFiniteStateError, nonfinite_names
from mmdet.engine.optimizers.optim_wrapper import (
    AmpOptimWrapper,
    NonFiniteGradientError,
    NonFiniteLossError,
    OptimWrapper,
    SkippedStepsError,
)
from mmdet.registry import MODELS
from mmdet.utils.checkpoint import read_checkpoint
from mmdet.utils.resumable import newest_readable


class Poison(torch.autograd.Function):
    """The identity, with gradients that are ``value``."""

    @staticmethod
    def forward(ctx, x, value):
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.full_like(grad, ctx.value), None


@MODELS.register_module(force=True)
class PoisonedModel(ToyModel):
    """Its losses are always finite; from the backward pass number ``bad`` on, the gradients of its head are not."""

    def __init__(self, bad=10**9, last=10**9, value=math.nan, **kwargs):
        super().__init__(**kwargs)
        self.bad, self.last, self.value, self.calls = bad, last, value, 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        found = super().forward(inputs, data_samples, mode)
        if mode == 'loss' and torch.is_grad_enabled():
            self.calls += 1
            if self.bad <= self.calls <= self.last:
                found['loss_0'] = found['loss_0'] + 0 * Poison.apply(self.head.weight, self.value).square().mean()
        return found


WRAPPERS = {
    'plain': dict(type='OptimWrapper', clip_grad=None),
    'clipped': dict(type='OptimWrapper', clip_grad=dict(max_norm=5)),
    'clipped by value': dict(type='OptimWrapper', clip_grad=dict(type='value', clip_value=1.0)),
    'accumulated': dict(type='OptimWrapper', accumulative_counts=3, clip_grad=dict(max_norm=5)),
    'bfloat16': dict(type='AmpOptimWrapper', dtype='bfloat16', clip_grad=None),
    'adam': dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
}


def poisoned(folder, wrapper, **model):
    cfg = toy_config(folder, model__type='PoisonedModel', custom_hooks=[EMA])
    cfg.model.update(model)
    cfg.optim_wrapper = {'optimizer': cfg.optim_wrapper.optimizer, **copy.deepcopy(wrapper)}
    return build(cfg)


@pytest.mark.parametrize('value', [math.nan, math.inf])
@pytest.mark.parametrize('name', list(WRAPPERS))
def test_the_poisoned_step_is_not_made(name, value, tmp_path):
    wrapper = WRAPPERS[name]
    runner = poisoned(tmp_path, wrapper, bad=12, value=value)
    seen = {}

    class Keep(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen[runner.iter] = copy.deepcopy(dict(runner.model.named_parameters()))

    runner.register_hook(Keep())
    with pytest.raises(NonFiniteGradientError) as caught:
        runner.train()
    message = str(caught.value)
    assert 'Iteration 12 on rank 0: the gradient norm is' in message and 'replay.py' in message
    assert 'the gradients of head.weight' in message and '"loss_0": ' in message and 'backbone' not in message
    for key, parameter in runner.model.named_parameters():
        assert torch.equal(parameter, seen[11][key])
    path, checkpoint, _ = newest_readable(tmp_path)
    assert path.name == 'epoch_1.pth' and not nonfinite_names(checkpoint['state_dict'].items())
    runner = poisoned(tmp_path, wrapper)
    runner._resume = runner.resume_state.resume = True
    runner.train()
    assert runner.iter == 24


@pytest.mark.parametrize('name', ['plain', 'accumulated'])
def test_the_last_iteration_is_looked_at_too(name, tmp_path):
    runner = poisoned(tmp_path, WRAPPERS[name], bad=24)
    with pytest.raises(NonFiniteGradientError, match='Iteration 24'):
        runner.train()
    assert not (tmp_path / 'epoch_3.pth').exists()


def test_every_wrapper_of_a_dict_is_guarded(tmp_path):
    class Two(BaseModel):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.calls = nn.Linear(1, 1), nn.Linear(1, 1), 0

        def train_step(self, data, optim_wrapper):
            self.calls += 1
            logs = {}
            for name in ('first', 'second'):
                weight = getattr(self, name).weight
                if name == 'second' and self.calls == 4:
                    weight = Poison.apply(weight, math.nan)
                loss = weight.square().sum()
                optim_wrapper[name].update_params(loss)
                logs[f'loss_{name}'] = loss.detach()
            return logs

        def forward(self, inputs, data_samples=None, mode='loss'):
            return dict(loss_first=self.first.weight.sum(), loss_second=self.second.weight.sum())

    model = Two()
    cfg = toy_config(tmp_path, val_cfg=None, val_dataloader=None, val_evaluator=None, param_scheduler=None)
    from mmengine.optim import OptimWrapperDict

    from mmdet.engine.runner import DetRunner

    wrapper = OptimWrapperDict(
        **{name: OptimWrapper(torch.optim.SGD(getattr(model, name).parameters(), 0.1)) for name in ('first', 'second')}
    )
    keys = ('work_dir', 'train_dataloader', 'train_cfg', 'randomness', 'experiment_name')
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    runner = DetRunner(model=model, optim_wrapper=wrapper, default_hooks=hooks, **{key: cfg[key] for key in keys})
    with pytest.raises(NonFiniteGradientError, match=r'Iteration 4.*the gradients of second\.weight\. '):
        runner.train()
    assert all(torch.isfinite(p).all() for p in model.parameters())


# --------------------------------------------------------------------------------------------------------------------
# On a device whose numbers the host reads later
class Later(OptimWrapper):
    """Takes the CPU for a device: norms are read with the next loss."""

    def _guard(self, parameters, norm, norms):
        self._last_gradients = (parameters, norms, self._inner_count)
        self._read_later(norm)


@pytest.fixture
def _later(monkeypatch):
    from mmdet.registry import OPTIM_WRAPPERS

    monkeypatch.setitem(OPTIM_WRAPPERS._module_dict, 'Later', Later)


@pytest.mark.usefixtures('_later')
@pytest.mark.parametrize(('bad', 'last_checkpoint'), [(12, 'epoch_1.pth'), (16, 'epoch_1.pth'), (24, 'epoch_2.pth')])
@pytest.mark.parametrize('clip', [None, dict(max_norm=5)])
def test_what_is_found_later_is_not_saved(bad, last_checkpoint, clip, tmp_path):
    runner = poisoned(tmp_path, dict(type='Later', clip_grad=clip), bad=bad)
    with pytest.raises(NonFiniteGradientError) as caught:
        runner.train()
    message = str(caught.value)
    assert f'Iteration {bad} on rank 0: the gradient norm is nan, with the losses {{"loss": ' in message
    assert 'not finite: head.weight' in message and 'took that step' in message
    assert str(tmp_path / last_checkpoint) in message
    assert (tmp_path / 'last_checkpoint').read_text() == last_checkpoint
    for path in tmp_path.glob('*.pth'):
        assert not nonfinite_names(read_checkpoint(path)['state_dict'].items())


@pytest.mark.parametrize(
    ('device', 'wrapper_type'), [('cpu', Later), pytest.param('cuda', OptimWrapper, marks=pytest.mark.gpu)]
)
@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('kind', [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize('clip', [None, dict(max_norm=5)])
def test_a_fused_optimizer_leaves_out_the_poisoned_step(device, wrapper_type, kind, fused, clip):
    model = nn.Linear(3, 2).to(device)
    wrapper = wrapper_type(kind(model.parameters(), lr=0.1, fused=fused), clip_grad=clip)
    wrapper.stop_on_nonfinite_loss = True
    x = torch.ones(4, 3, device=device)
    for _ in range(3):
        wrapper.update_params(model(x).square().sum())
    before = model.weight.detach().clone()
    wrapper.update_params(Poison.apply(model(x), math.nan).sum())
    with pytest.raises(NonFiniteGradientError) as caught:
        wrapper.update_params(model(x).square().sum())
    error = caught.value
    assert error.late and error.count == 4 and error.kept == fused and len(error.parameters) == 2
    assert torch.equal(model.weight, before) == fused


class Spoil(Hook):
    """Puts a NaN somewhere at the end of an epoch."""

    def __init__(self, epoch, where):
        self.epoch, self.where = epoch, where

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.epoch == self.epoch and batch_idx == len(runner.train_dataloader) - 1:
            next(iter(self.where(runner))).data.fill_(math.nan)


PLACES = {
    'weights': (lambda runner: [runner.model.head.weight], 'head.weight'),
    'buffers': (lambda runner: [runner.model.backbone[1].running_var], 'backbone.1.running_var'),
    'average': (
        lambda runner: next(h for h in runner.hooks if hasattr(h, 'ema_model')).ema_model.module.parameters(),
        'average of module.backbone.0.weight',
    ),
    'optimizer': (
        lambda runner: [runner.optim_wrapper.optimizer.state[runner.model.head.bias]['momentum_buffer']],
        'momentum_buffer of head.bias',
    ),
}


@pytest.mark.parametrize('epoch', [1, 2])
@pytest.mark.parametrize('place', list(PLACES))
def test_a_state_that_is_not_finite_is_not_saved(place, epoch, tmp_path):
    where, name = PLACES[place]
    runner = poisoned(tmp_path, WRAPPERS['clipped'])
    runner.register_hook(Spoil(epoch, where))
    with pytest.raises(NonFiniteStateError) as caught:
        runner.train()
    assert f'not saved, since not finite: {name}' in str(caught.value)
    assert f'Iteration {8 * (epoch + 1)}' in str(caught.value) and f'epoch_{epoch}.pth' in str(caught.value)
    assert (tmp_path / 'last_checkpoint').read_text() == f'epoch_{epoch}.pth'
    assert (tmp_path / f'epoch_{epoch}.pth').exists() and not (tmp_path / f'epoch_{epoch + 1}.pth').exists()


def test_a_run_without_saves_does_not_end_well_either(tmp_path):
    cfg = toy_config(tmp_path, default_hooks__checkpoint=None, default_hooks__nonfinite_loss=None)
    runner = build(cfg)
    runner.register_hook(Spoil(2, PLACES['weights'][0]))
    with pytest.raises(NonFiniteStateError, match=r'The run has ended.*head\.weight\. There is no checkpoint'):
        runner.train()


def test_buffers_that_are_infinite_by_design_are_saved(tmp_path):
    runner = poisoned(tmp_path, WRAPPERS['clipped'])
    runner.model.register_buffer('mask', torch.full((2, 2), -math.inf))
    runner.train()
    assert (tmp_path / 'last_checkpoint').read_text() == 'epoch_3.pth'


# --------------------------------------------------------------------------------------------------------------------
# Two ranks
def _rank(rank, ranks, port, folder, where):
    join_ranks(rank, ranks, port)
    cfg = toy_config(folder, model__type='PoisonedModel')
    cfg.launcher = 'pytorch'
    if where == 'gradients' and rank == 1:
        cfg.model.bad = 12
    runner = build(cfg)
    if where == 'buffers' and rank == 1:
        runner.register_hook(Spoil(1, lambda runner: [runner.model.module.backbone[1].running_var]))
    try:
        runner.train()
    except (NonFiniteGradientError, NonFiniteStateError) as error:
        (Path(folder) / f'error_{rank}.txt').write_text(str(error))
    os._exit(0)


@pytest.mark.parametrize(
    ('where', 'message'),
    [
        ('gradients', 'Iteration 12 on rank {}: the gradient norm is nan; not finite: the gradients of .*head.weight'),
        ('buffers', r'Iteration 8 on rank {}: not saved, since not finite: backbone\.1\.running_var of rank 1'),
    ],
)
def test_all_ranks_agree(where, message, tmp_path):
    run_ranks(_rank, tmp_path, where)
    for rank in range(2):
        assert re.match(message.format(rank), (tmp_path / f'error_{rank}.txt').read_text())
    expected = 'epoch_2.pth' if where == 'gradients' else 'epoch_1.pth'
    assert (tmp_path / 'last_checkpoint').read_text() == expected


# --------------------------------------------------------------------------------------------------------------------
# float16
def overflowing(folder, epochs, **model):
    cfg = toy_config(folder, model__type='PoisonedModel', train_cfg__max_epochs=epochs)
    cfg.model.update(value=math.inf, **model)
    cfg.optim_wrapper = dict(type='AmpOptimWrapper', dtype='float16', optimizer=dict(type='SGD', lr=1e-4))
    return build(cfg)


@pytest.mark.parametrize(
    ('epochs', 'message'), [(1, 'all 8 optimizer steps of this run'), (9, r'3\d optimizer steps in a row')]
)
def test_float16_that_skips_every_step_stops(epochs, message, tmp_path):
    runner = overflowing(tmp_path, epochs, bad=1)
    with pytest.raises(SkippedStepsError, match=f'float16: .*{message}.*skipped.*bfloat16'):
        runner.train()
    assert runner.iter <= 40


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)])
def test_float16_may_skip_some_steps(clip, tmp_path):
    runner = overflowing(tmp_path, 2, bad=5, last=9)
    runner.train()
    assert runner.iter == 16 and not runner.optim_wrapper._skipped


def test_a_resumed_run_may_end_with_a_skipped_step(tmp_path):
    model = nn.Linear(1, 1)
    wrapper = AmpOptimWrapper(dtype='float16', optimizer=torch.optim.SGD(model.parameters(), 0.1))
    wrapper.stop_on_nonfinite_loss = True
    wrapper.initialize_count_status(model, 7, 9)
    for _ in range(2):
        wrapper.update_params(Poison.apply(model.weight, math.inf).sum())
    wrapper.finish()
    wrapper.initialize_count_status(model, 0, 2)
    with pytest.raises(SkippedStepsError, match='all 2 optimizer steps'):
        wrapper.finish()


# --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('kind', [2.0, 1.0, math.inf])
def test_clipping_equals_that_of_torch(kind):
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.randn(5, 3)
    for model in models:
        model(x).square().sum().backward()
    wrapper = OptimWrapper(torch.optim.SGD(models[0].parameters(), 0.1), clip_grad=dict(max_norm=0.5, norm_type=kind))
    wrapper._clip_grad()
    norm = nn.utils.clip_grad_norm_(models[1].parameters(), 0.5, norm_type=kind)
    assert torch.equal(wrapper.pending_norms[0], norm)
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_sparse_gradients_are_looked_at_too():
    layer = nn.Embedding(4, 2, sparse=True)
    wrapper = OptimWrapper(torch.optim.SGD(layer.parameters(), 0.1))
    wrapper.stop_on_nonfinite_loss = True
    wrapper.update_params(layer(torch.tensor([1, 1])).sum())
    with pytest.raises(NonFiniteGradientError) as caught:
        wrapper.update_params(Poison.apply(layer(torch.tensor([1, 2])), math.nan).sum())
    assert caught.value.parameters[0] is layer.weight


def test_a_loss_is_named_before_the_gradients_it_spoils(tmp_path):
    runner = build(toy_config(tmp_path, train_dataloader__dataset__nan_index=5))
    with pytest.raises(NonFiniteLossError, match=r'not finite: loss_0, loss_1\. Losses \{"loss_0": NaN'):
        runner.train()
    (path,) = tmp_path.glob('nonfinite_*.pth')
    assert read_checkpoint(path)['gradients'] == []


def test_a_norm_under_the_limit_leaves_gradients_as_they_are():
    parameter = nn.Parameter(torch.zeros(2))
    wrapper = OptimWrapper(torch.optim.SGD([parameter], 1.0), clip_grad=dict(max_norm=5.0))
    for scale, expected in ((1.0, [3.0, 4.0 - 2e-6]), (0.5, [1.5, 2.0]), (2.0, [3.0, 4.0])):
        parameter.grad = torch.tensor([3.0, 4.0]) * scale
        theirs = nn.Parameter(torch.zeros(2))
        theirs.grad = parameter.grad.clone()
        wrapper._clip_grad()
        nn.utils.clip_grad_norm_([theirs], 5.0)
        assert torch.equal(parameter.grad, theirs.grad)
        torch.testing.assert_close(parameter.grad, torch.tensor(expected))


def test_large_numbers_are_finite():
    large = torch.full((4,), 3e38)
    tensors = dict(large=large, half=torch.full((9,), 6e4, dtype=torch.float16), whole=torch.arange(3), none=large[:0])
    bad = dict(nan=torch.tensor([1.0, math.nan]), both=torch.tensor([math.inf, -math.inf]))
    assert nonfinite_names({**tensors, **bad}.items()) == ['nan', 'both']
