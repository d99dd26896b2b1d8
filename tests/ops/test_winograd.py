import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdet.ops import winograd
from mmdet.ops.winograd import WinogradConv2d, winograd_conv2d


def arguments(height, width, dtype=torch.float64, batch=2):
    generator = torch.Generator().manual_seed(0)
    shapes = (batch, 3, height, width), (5, 3, 3, 3), (5,)
    return [torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize('size', [(4, 8), (5, 7), (1, 2), (12, 9)])
@pytest.mark.parametrize('at_once', [1, 1000])
def test_equals_the_direct_sum(size, at_once, monkeypatch):
    monkeypatch.setattr(winograd, '_TILES_AT_ONCE', at_once)
    x, weight, bias = arguments(*size, batch=3)
    torch.testing.assert_close(winograd_conv2d(x, weight, bias), F.conv2d(x, weight, bias, padding=1))
    torch.testing.assert_close(winograd_conv2d(x, weight), F.conv2d(x, weight, padding=1))
    assert torch.autograd.gradcheck(winograd_conv2d, (x, weight, bias))


def test_gradients_of_some_arguments_only():
    x, weight, bias = arguments(6, 6)
    for wanted in ((x,), (weight,), (bias,), (x, bias)):
        a = torch.autograd.grad(winograd_conv2d(x, weight, bias).square().sum(), wanted)
        b = torch.autograd.grad(F.conv2d(x, weight, bias, padding=1).square().sum(), wanted)
        torch.testing.assert_close(a, b)


def test_rounding_in_single_precision():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 128, 40, 40, generator=generator).relu()
    weight = torch.randn(128, 128, 3, 3, generator=generator) * 0.03
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    assert (winograd_conv2d(x, weight) - exact).abs().max() < 2e-5 * exact.abs().max()


@pytest.mark.parametrize(
    'shape, precision, called',
    [
        ((2, 128, 32, 32), torch.float32, True),
        ((1, 128, 8, 8), torch.float32, False),
        ((128, 40, 40), torch.float32, False),
        ((1, 128, 40, 40), torch.bfloat16, False),
    ],
    ids=['large', 'small', 'without batch', 'autocast'],
)
def test_which_inputs_take_it(shape, precision, called, monkeypatch):
    calls = []
    monkeypatch.setattr(winograd, 'winograd_conv2d', lambda *args: calls.append(1) or winograd_conv2d(*args))
    layer = nn.Conv2d(128, 128, 3, padding=1)
    x = torch.randn(shape)
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        expected = layer(x)
        torch.testing.assert_close(WinogradConv2d.of(layer)(x), expected, rtol=1e-4, atol=1e-4)
    assert bool(calls) == called


def test_in_inference_mode_and_then_in_training():
    winograd._transforms.cache_clear()
    x, weight, bias = arguments(8, 8)
    with torch.inference_mode():
        winograd_conv2d(x, weight, bias)
    winograd_conv2d(x, weight, bias).sum().backward()
    assert x.grad is not None


def test_repeats_bit_for_bit():
    results = []
    for offset in (0, 3):  # other places in memory
        x, weight, bias = [torch.empty(offset + y.numel())[offset:].view(y.shape).copy_(y) for y in arguments(20, 19)]
        leaves = [y.detach().requires_grad_() for y in (x, weight, bias)]
        out = winograd_conv2d(*leaves)
        out.square().sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
