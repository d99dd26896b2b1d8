"""What is deployed gives what was trained."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet.engine.deployment import deploy
from mmdet.models.layers.rep_layer import CSPRepLayer
from mmdet.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs'


def lively(model):
    """Batch norms that do something."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return model.eval()


@pytest.mark.parametrize('name', ['yolox/yolox_tiny_8xb8-300e_coco.py', 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py'])
def test_detectors_without_queries(name, default_scope):
    torch.manual_seed(0)
    model = lively(MODELS.build(Config.fromfile(CONFIGS / name).model))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        want = model(image, mode='tensor')
        found = deploy(model, (64, 96))(image, mode='tensor')
    assert not any(isinstance(module, _BatchNorm) for module in model.modules())
    for levels, same in zip(want, found):
        for level, other in zip(levels, same):
            torch.testing.assert_close(other, level, rtol=1e-5, atol=1e-5)


def test_parts_and_custom_modules():
    calls = []

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = CSPRepLayer(4, 4, num_blocks=2)

        def deploy(self):
            calls.append(hasattr(self.inner.bottlenecks[0], 'conv'))

        def forward(self, x):
            return self.inner(x)

    torch.manual_seed(0)
    model, x = lively(Own()), torch.randn(1, 4, 5, 5)
    want = model(x)
    assert deploy(model) is model and calls == [True]  # children come first
    torch.testing.assert_close(model(x), want, rtol=1e-5, atol=1e-5)
    assert not any(value.requires_grad for value in model.parameters())
    with pytest.raises(RuntimeError, match='already'):
        deploy(model)


@pytest.mark.parametrize(
    ('make', 'error', 'message'),
    [
        (lambda: deploy('rtdetr'), TypeError, 'got str'),
        (lambda: deploy(nn.Linear(1, 1), (640,)), ValueError, r'\(640,\)'),
        (lambda: deploy(nn.Linear(1, 1), (0, 640)), ValueError, r'\(0, 640\)'),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
