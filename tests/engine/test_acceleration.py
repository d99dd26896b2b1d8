import copy
from types import SimpleNamespace

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.registry import init_default_scope
from torch import nn
from toy_runs import build, toy_config

from mmdet.engine.acceleration import accelerate_training, fold_batch_norms, optimize_for_inference, use_winograd
from mmdet.ops.winograd import WinogradConv2d
from mmdet.registry import HOOKS, MODELS

BACKBONES = [
    dict(type='ResNet', depth=18, base_channels=8),
    dict(type='ResNet', depth=50, base_channels=8, style='caffe', deep_stem=True, avg_down=True),
    dict(type='ResNeXt', depth=50, groups=4, base_width=4),
    dict(type='Res2Net', depth=50, scales=4, base_width=26),
    dict(type='RegNet', arch='regnetx_400mf'),
    dict(type='Darknet', depth=53),
    dict(type='CSPDarknet', arch='P5', deepen_factor=0.33, widen_factor=0.25),
    dict(type='CSPNeXt', arch='P5', deepen_factor=0.33, widen_factor=0.25),
    dict(type='MobileNetV2', widen_factor=0.5),
]


def with_statistics(model):
    """Batch norms as after training, with large differences between channels."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for value in (module.running_mean, module.bias.data):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
            for value in (module.running_var, module.weight.data):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return model.eval()


@pytest.mark.parametrize('cfg', BACKBONES, ids=lambda cfg: f'{cfg["type"]}{cfg.get("depth", "")}')
@torch.no_grad()
def test_folded_backbones_give_the_same(cfg):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = with_statistics(MODELS.build(cfg))
    image = torch.randn(1, 3, 64, 64)
    expected = model(image)
    assert fold_batch_norms(model) > 10
    for a, b in zip(model(image), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * b.abs().max().item())


@torch.no_grad()
def test_what_is_left_alone():
    norm_first = ConvModule(4, 4, 1, norm_cfg=dict(type='BN'), order=('norm', 'conv', 'act'))
    standardized = ConvModule(4, 4, 1, conv_cfg=dict(type='ConvWS'), norm_cfg=dict(type='BN'))
    other_width = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(4))
    model = with_statistics(nn.ModuleList([norm_first, standardized, other_width]))
    assert fold_batch_norms(model) == 0


@torch.no_grad()
def test_a_shared_convolution_is_copied():
    towers = nn.ModuleList(ConvModule(4, 4, 1, norm_cfg=dict(type='BN')) for _ in range(2))
    towers[1].conv = towers[0].conv
    x = torch.randn(1, 4, 5, 5)
    expected = [tower(x) for tower in with_statistics(towers)]
    assert fold_batch_norms(towers) == 2
    torch.testing.assert_close([tower(x) for tower in towers], expected)


def test_wrong_choice():
    with pytest.raises(ValueError, match=r"optimize='fp16'.*nearest: 'bf16'"):
        optimize_for_inference(nn.Identity(), 'fp16')


def test_hook_gives_the_model_back():
    init_default_scope('mmdet')
    model = with_statistics(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    state = copy.deepcopy(model.state_dict())
    runner = SimpleNamespace(model=model, cfg={})
    hook = HOOKS.build(dict(type='FastInferenceHook', optimize='fuse'))
    hook.before_test_epoch(runner)
    assert isinstance(runner.model[1], nn.Identity)
    x = torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(runner.model(x), model(x))
    hook.after_test_epoch(runner)
    assert runner.model is model
    torch.testing.assert_close(model.state_dict(), state)


@pytest.mark.parametrize('wanted', [True, False, None])
def test_channels_last_is_one_key_of_the_config(wanted, tmp_path):
    cfg = toy_config(tmp_path)
    if wanted is not None:
        cfg.channels_last = wanted
    convolution = nn.Conv2d(4, 4, 3)
    weight = build(cfg).build_model(convolution).weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == bool(wanted)


@pytest.mark.parametrize('wanted', [True, False, None])
def test_winograd_is_one_key_of_the_config(wanted, tmp_path):
    cfg = toy_config(tmp_path)
    if wanted is not None:
        cfg.winograd = wanted
    runner = build(cfg)
    runner.model.large = nn.Conv2d(128, 128, 3, padding=1)
    runner.train()
    assert isinstance(runner.model.large, WinogradConv2d) == (wanted is not False)


def test_a_compiled_model_keeps_its_convolutions():
    model = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1))
    accelerate_training(model, dict(compile=True))
    assert type(model[0]) is nn.Conv2d


@pytest.mark.parametrize('activation', [nn.SiLU, nn.Hardswish, nn.Mish, nn.ReLU])
def test_activations_copy_nothing(activation):
    model = nn.Sequential(nn.Conv2d(2, 2, 1), activation(inplace=True))
    accelerate_training(model, {})
    with torch.profiler.profile() as profile:
        model(torch.rand(1, 2, 3, 3))
    assert 'aten::clone' not in {event.name for event in profile.events()}


def test_which_convolutions_take_it():
    conv = dict(kernel_size=3, padding=1)
    taken = nn.ModuleList([nn.Conv2d(128, 128, **conv), ConvModule(128, 256, 3, padding=1)])
    left = nn.ModuleList(
        [
            nn.Conv2d(64, 128, **conv),
            nn.Conv2d(128, 128, 3),
            nn.Conv2d(128, 128, **conv, stride=2),
            nn.Conv2d(128, 128, **conv, groups=2),
            nn.Conv2d(128, 128, **conv, padding_mode='reflect'),
            nn.Conv2d(128, 128, 3, padding=2, dilation=2),
            nn.Conv2d(128, 128, 1),
            ConvModule(128, 128, 3, padding=1, conv_cfg=dict(type='ConvWS'), norm_cfg=dict(type='BN')),
        ]
    )
    keys = list(taken.state_dict())
    assert (use_winograd(taken), use_winograd(left)) == (2, 0)
    assert isinstance(taken[1].conv, WinogradConv2d) and list(taken.state_dict()) == keys


def test_winograd_takes_over_a_shared_convolution_with_its_hooks():
    calls = []
    shared = nn.Conv2d(128, 128, 3, padding=1)
    shared.register_forward_hook(lambda *args: calls.append(1))
    model = nn.ModuleList([nn.Sequential(shared), nn.Sequential(shared)])
    assert use_winograd(model) == 1 and use_winograd(model) == 0
    assert model[0][0] is model[1][0] and model[0][0].weight is shared.weight
    model[1](torch.randn(1, 128, 44, 40))
    assert calls == [1]


@torch.no_grad()
def test_fused_inference_takes_winograd_and_agrees():
    layer = ConvModule(128, 128, 3, padding=1, norm_cfg=dict(type='BN'))
    model = with_statistics(nn.Sequential(layer))
    x = torch.randn(1, 128, 44, 40)
    expected = model(x)
    assert isinstance(optimize_for_inference(model, 'fuse')[0].conv, WinogradConv2d)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
