"""Convolutions that become one after training."""

import torch

from mmdet.models.layers.rep_layer import CSPRepLayer, RepVGGBlock


def test_one_convolution_computes_what_two_did():
    torch.manual_seed(0)
    layer = CSPRepLayer(6, 8, num_blocks=2, expand_ratio=0.5).train()
    for _ in range(3):  # statistics that are not those of the start
        layer(torch.randn(4, 6, 8, 8) * 2 + 1)
    layer.eval()
    x = torch.randn(2, 6, 7, 9)
    want = layer(x)
    blocks = [module for module in layer.modules() if isinstance(module, RepVGGBlock)]
    before = sum(parameter.numel() for parameter in layer.parameters())
    for block in blocks:
        block.deploy()
        block.deploy()  # nothing is left to do
    torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=1e-5)
    assert sum(parameter.numel() for parameter in layer.parameters()) < before
    assert [name for name, _ in blocks[0].named_children()] == ['activate', 'conv']
