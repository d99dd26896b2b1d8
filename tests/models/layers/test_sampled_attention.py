"""Attention to points within boxes, as RT-DETR and D-FINE have it."""

import pytest
import torch

from mmdet.models.layers.transformer import SampledAttention
from mmdet.ops import MultiScaleDeformableAttention

SHAPES = [(4, 6), (2, 3)]
CELLS = sum(height * width for height, width in SHAPES)


def given(dims=8, queries=5):
    generator = torch.Generator().manual_seed(0)
    random = lambda *shape: torch.rand(shape, generator=generator)
    return dict(
        query=random(2, queries, dims),
        value=random(2, CELLS, dims),
        query_pos=random(2, queries, dims),
        reference_points=random(2, queries, len(SHAPES), 4) * 0.4 + 0.3,
        spatial_shapes=SHAPES,
    )


def filled(attention):
    torch.manual_seed(1)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return attention


def test_equal_numbers_of_points_are_deformable_attention():
    sizes = dict(embed_dims=8, num_heads=2, num_levels=2)
    own = filled(SampledAttention(**sizes, num_points=3))
    other = MultiScaleDeformableAttention(**sizes, num_points=3, batch_first=True, dropout=0.0)
    other.load_state_dict(own.state_dict())
    torch.testing.assert_close(own(**given()), other(**given()))
    start = SampledAttention(**sizes, num_points=3).state_dict()
    for name, value in MultiScaleDeformableAttention(**sizes, num_points=3).state_dict().items():
        assert start[name].shape == value.shape
    torch.testing.assert_close(
        start['sampling_offsets.bias'], other.__class__(**sizes, num_points=3).sampling_offsets.bias
    )


@pytest.mark.parametrize('method', ['default', 'discrete'])
def test_levels_of_different_numbers_by_a_loop(method):
    attention = filled(
        SampledAttention(8, 2, 2, num_points=[1, 3], method=method, with_projection=False, add_identity=False)
    )
    inputs = given()
    found = attention(**inputs)
    query = inputs['query'] + inputs['query_pos']
    offsets = attention.sampling_offsets(query).view(2, 5, 2, 4, 2)
    weights = attention.attention_weights(query).view(2, 5, 2, 4).softmax(-1)
    levels = inputs['value'].view(2, CELLS, 2, 4).split([24, 6], 1)
    for image, q, head in torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(2)).tolist():
        total = 0
        for point, (level, count) in enumerate([(0, 1), (1, 3), (1, 3), (1, 3)]):
            box = inputs['reference_points'][image, q, level]
            x, y = box[:2] + offsets[image, q, head, point] / count * box[2:] * 0.5
            height, width = SHAPES[level]
            cells = levels[level][image, :, head].view(height, width, 4)
            if method == 'discrete':
                row, column = int((y * height + 0.5).clamp(0, height - 1)), int((x * width + 0.5).clamp(0, width - 1))
                sample = cells[row, column]
            else:
                grid = torch.stack([x, y])[None, None, None] * 2 - 1
                maps = cells.permute(2, 0, 1)[None]
                sample = torch.nn.functional.grid_sample(maps, grid, align_corners=False)[0, :, 0, 0]
            total = total + weights[image, q, head, point] * sample
        torch.testing.assert_close(found[image, q].view(2, 4)[head], total, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(num_points=[1, 2, 3]), 'one number for each of 2 levels'),
        (dict(embed_dims=9), 'not divisible'),
        (dict(method='nearest'), "default, discrete, got 'nearest'"),
    ],
)
def test_what_does_not_fit_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SampledAttention(**{**dict(embed_dims=8, num_heads=2, num_levels=2), **kwargs})


def test_points_alone_are_refused():
    inputs = given()
    inputs['reference_points'] = inputs['reference_points'][..., :2]
    with pytest.raises(ValueError, match='4 coordinates'):
        SampledAttention(8, 2, 2)(**inputs)
