"""Dynamic convolutions and enlarged masks, whose gradients are written by hand, against autograd's."""

import pytest
import torch
import torch.nn.functional as F

from mmdet.models.core import (
    GTMasks,
    aligned_bilinear,
    dynamic_inputs,
    dynamic_logits,
    enlarged_by_phase,
    parameter_counts,
    split_parameters,
)
from mmdet.structures.mask import BitmapMasks


def in_order(phases, factor):
    """Cells ``(B, C, H, W)`` put where they belong."""
    batch, channels, height, width = phases.shape
    cells = phases.view(batch, channels, factor, height // factor, factor, width // factor)
    return cells.permute(0, 1, 3, 2, 5, 4).reshape(phases.shape)


def convolved(features, params, points, reach, places, counts):
    """Logits ``(B, S, h, w)`` by one grouped convolution of each layer for each image (CondInst, Sec. 3.2)."""
    x, y = places
    found = []
    for maps, rows, centers, scale in zip(features, params, points, reach):
        ways = [
            (centers[:, 0, None, None] - x).expand(-1, len(y), -1),
            (centers[:, 1, None, None] - y[:, None]).expand(-1, -1, len(x)),
        ]
        ways = torch.stack(ways, 1) / scale[:, None, None, None]
        logits = torch.cat([ways, maps.expand(len(rows), -1, -1, -1)], 1).flatten(0, 1)[None]
        for i, (weight, bias) in enumerate(zip(*split_parameters(rows, *counts))):
            weight = weight.flatten(0, 1)[..., None, None]
            logits = F.conv2d(logits.relu() if i else logits, weight, bias.flatten(), groups=len(rows))
        found.append(logits[0])
    return torch.stack(found)


@pytest.mark.parametrize('num_layers', [2, 3, 4])
def test_dynamic_convolutions_are_those_of_a_loop(num_layers):
    torch.manual_seed(0)
    counts = parameter_counts(2 + 5, 4, num_layers)
    features, params = torch.randn(2, 5, 6, 7), torch.randn(2, 3, sum(map(sum, counts)))
    points, reach = torch.rand(2, 3, 2) * 8, torch.rand(2, 3) + 1
    places = torch.arange(7.0), torch.arange(6.0)
    slope, results = torch.randn(2, 3, 6, 7), []
    for compute in (convolved, lambda *given: dynamic_logits(*joined(dynamic_inputs(*given)))):
        leaves = [x.clone().requires_grad_() for x in (features, params)]
        logits = compute(*leaves, points, reach, places, counts)
        results.append((logits, *torch.autograd.grad(logits, leaves, slope)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        still = dynamic_logits(*joined(dynamic_inputs(features, params, points, reach, places, counts)))
    assert torch.equal(still, results[1][0])


def joined(inputs):
    maps, layers = inputs
    return maps, *layers


@pytest.mark.parametrize('factor', [1, 2, 3, 4])
@pytest.mark.parametrize('aligned', [True, False])
def test_cells_of_each_phase_are_those_of_an_enlarged_map(factor, aligned):
    torch.manual_seed(0)
    values, slope = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4 * factor, 5 * factor)
    if aligned:
        middle, enlarge = factor // 2, lambda x: aligned_bilinear(x, factor)
    else:
        middle, enlarge = (factor - 1) / 2, lambda x: F.interpolate(x, scale_factor=factor, mode='bilinear')
    results = []
    for compute in (enlarge, lambda x: in_order(enlarged_by_phase(x, factor, middle), factor)):
        leaf = values.clone().requires_grad_()
        found = compute(leaf)
        results.append((found, *torch.autograd.grad(found, leaf, slope)))
    torch.testing.assert_close(results[1], results[0])


def test_targets_lie_in_the_same_phases():
    masks = BitmapMasks(
        (torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0)) > 0.5).byte().numpy(), 32, 48
    )
    found = GTMasks.of([masks], torch.device('cpu'))
    whole = found.strided(4, (8, 12))
    assert torch.equal(in_order(found.strided(4, (8, 12), 2)[None], 2)[0], whole)
    assert not torch.equal(found.strided(4, (8, 12), 2), whole)
