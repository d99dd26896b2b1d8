from __future__ import annotations

import importlib
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import build_conv_layer, build_upsample_layer
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet import ops
from mmdet.ops.compiled import compiled_mmcv
from mmdet.registry import MODELS

gradcheck = torch.autograd.gradcheck


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


ROIS = torch.tensor([[0, 1.3, 2.1, 9.7, 8.2], [1, 0.0, 0.0, 12.0, 12.0], [1, 3.2, 4.4, 5.0, 6.1]], dtype=torch.float64)


def deform_arguments(batch=2, height=4, width=5):
    x = randn(batch, 4, height, width)
    offset = randn(batch, 2 * 2 * 9, height, width, seed=1) * 0.4
    mask = randn(batch, 2 * 9, height, width, seed=2).sigmoid()
    return x, offset, mask, randn(6, 2, 3, 3, seed=3), randn(6, seed=4)


def attention_arguments(queries=3):
    shapes = [(4, 5), (2, 3)]
    locations = torch.rand(2, queries, 2, 2, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = randn(2, queries, 2, 6, seed=2).softmax(-1).reshape(2, queries, 2, 2, 3)
    return randn(2, 26, 2, 4), shapes, locations, weights


def leaf(x):
    return x.clone().requires_grad_()


def differentiable():
    x, offset, mask, weight, bias = deform_arguments()
    value, shapes, locations, attention = attention_arguments()
    feature = randn(2, 4, 6, 7)
    roi_offset = randn(3, 2, 2, 2, seed=5)
    labels = torch.tensor([0, 2, 4])
    cases = {
        'deform_conv2d': (lambda *a: ops.deform_conv2d(*a, padding=1, groups=2, deform_groups=2), x, offset, weight),
        'modulated_deform_conv2d': (
            lambda *a: ops.modulated_deform_conv2d(*a, padding=1, groups=2, deform_groups=2),
            x,
            offset,
            mask,
            weight,
            bias,
        ),
        'roi_align': (lambda f: ops.roi_align(f, ROIS, 2, 0.5, 2), feature),
        'roi_align_adaptive': (lambda f: ops.roi_align(f, ROIS, (2, 3), 0.5, 0, aligned=False), feature),
        'roi_align_bags': (lambda f: ops.roi_align(f, ROIS, (2, 3), 0.5, 0), randn(2, 8, 6, 7)),
        'roi_align_max': (lambda f: ops.roi_align(f, ROIS, 2, 0.5, 2, 'max'), feature),
        'roi_pool': (lambda f: ops.roi_pool(f, ROIS, 2, 0.5), feature),
        'deform_roi_pool': (lambda f, o: ops.deform_roi_pool(f, ROIS, o, 2, 0.5, 2), feature, roi_offset),
        'deform_roi_pool_adaptive': (lambda f, o: ops.deform_roi_pool(f, ROIS, o, 2, 0.5), feature, roi_offset),
        'simple_roi_align': (lambda f: ops.SimpleRoIAlign(2, 0.5)(f, ROIS), feature),
        'point_sample': (ops.point_sample, feature, torch.rand(2, 3, 2, dtype=torch.float64)),
        'masked_conv2d': (
            lambda f, w, b: ops.masked_conv2d(f, torch.arange(42).reshape(1, 6, 7) % 3, w, b, padding=1),
            feature[:1],
            randn(3, 4, 3, 3),
            randn(3),
        ),
        'corner_pool': (lambda f: ops.corner_pool(f, 'top') + ops.corner_pool(f, 'right'), feature),
        'carafe': (lambda f, m: ops.carafe(f, m, 3, 2, 2), feature[..., :3, :2], randn(2, 18, 6, 4)),
        'attention': (
            lambda v, s, w: ops.multi_scale_deformable_attn_pytorch(v, shapes, s, w),
            value,
            locations,
            attention,
        ),
        'sigmoid_focal_loss': (lambda f: ops.sigmoid_focal_loss(f, labels), randn(3, 4)),
        'softmax_focal_loss': (lambda f: ops.softmax_focal_loss(f, labels - 1, reduction='none'), randn(3, 4)),
    }
    return [pytest.param(function, inputs, id=name) for name, (function, *inputs) in cases.items()]


@pytest.mark.parametrize(('function', 'inputs'), differentiable())
def test_gradcheck(function, inputs):
    assert gradcheck(function, [leaf(x) for x in inputs], atol=1e-4, fast_mode=True)


@pytest.mark.parametrize(
    ('function', 'inputs'), [p for p in differentiable() if p.id not in ('deform_roi_pool_adaptive',)]
)
def test_no_step_depends_on_data(function, inputs):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        function(*(mode.from_tensor(x) for x in inputs))


def test_deform_conv_without_offsets_is_a_convolution():
    x, offset, mask, weight, bias = deform_arguments()
    zero = torch.zeros_like(offset)
    plain = F.conv2d(x, weight, padding=1, groups=2)
    torch.testing.assert_close(ops.deform_conv2d(x, zero, weight, padding=1, groups=2, deform_groups=2), plain)
    modulated = ops.modulated_deform_conv2d(x, zero, mask * 0 + 1, weight, bias, 1, 1, 1, 2, 2)
    torch.testing.assert_close(modulated, plain + bias[:, None, None])


def test_offsets_are_y_then_x():
    x = torch.arange(20.0).reshape(1, 1, 4, 5)
    for channel, step in ((0, 5.0), (1, 1.0)):
        offset = torch.zeros(1, 2, 4, 5)
        offset[:, channel] = 1
        out = ops.deform_conv2d(x, offset, torch.ones(1, 1, 1, 1))
        assert out[0, 0, 1, 1] == x[0, 0, 1, 1] + step


def test_modulation_and_its_channels():
    conv = MODELS.build({'type': 'DCNv2', 'in_channels': 2, 'out_channels': 3, 'kernel_size': 3, 'padding': 1})
    x = randn(1, 2, 5, 5, dtype=torch.float32)
    plain = F.conv2d(x, conv.weight, padding=1)
    torch.testing.assert_close(conv(x), plain * 0.5)  # all predictions are zero: half of everything
    conv.conv_offset.bias.data[18:] = 100.0
    torch.testing.assert_close(conv(x), plain)


def test_deform_layers():
    v1 = build_conv_layer({'type': 'mmdet.DCN', 'deform_groups': 2}, 4, 6, 3, stride=2, padding=1, bias=False)
    v2 = build_conv_layer({'type': 'mmdet.DCNv2', 'deformable_groups': 4}, 4, 6, 3, padding=1, bias=False)
    assert {name: tuple(p.shape) for name, p in v1.named_parameters()} == {
        'weight': (6, 4, 3, 3),
        'conv_offset.weight': (36, 4, 3, 3),
        'conv_offset.bias': (36,),
    }
    assert v2.conv_offset.weight.shape == (108, 4, 3, 3) and v2.bias is None
    x = randn(2, 4, 6, 7, dtype=torch.float32)
    torch.testing.assert_close(v1(x), F.conv2d(x, v1.weight, stride=2, padding=1))
    assert v1(x[:, :, :2, :2]).shape == (2, 6, 1, 1)  # smaller than the kernel
    assert v1(x[:0]).shape == (0, 6, 3, 4) and v2(x[:0]).shape == (0, 6, 6, 7)
    v1(x).sum().backward()
    assert v1.conv_offset.weight.grad.abs().sum() > 0
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert v2(x).dtype in (torch.bfloat16, torch.float32)
    assert v2.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    for kwargs, text in (({'bias': True}, 'bias'), ({'deform_groups': 3}, 'deform_groups=3')):
        with pytest.raises(ValueError, match=text):
            ops.DeformConv2dPack(4, 6, 3, **kwargs)
    with pytest.raises(ValueError, match='18'):
        ops.deform_conv2d(x, torch.zeros(2, 4, 6, 7), v1.weight)


def test_roi_align_by_hand():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    rois = torch.tensor([[0.0, 0, 0, 4, 4]])
    mean = F.avg_pool2d(x, 2)
    torch.testing.assert_close(ops.roi_align(x, rois, 2, sampling_ratio=2), mean)
    torch.testing.assert_close(ops.RoIAlign(2, use_torchvision=True)(x, rois), mean)
    torch.testing.assert_close(ops.RoIAlign(2, sampling_ratio=2, pool_mode='max')(x, rois), F.max_pool2d(x, 2))
    torch.testing.assert_close(ops.roi_align(x, rois * 8, 2, 1 / 8, 2), mean)
    half = ops.roi_align(x.bfloat16(), rois, 2)
    assert half.dtype == torch.bfloat16 and torch.equal(half.float(), mean)
    assert ops.RoIPool(2)(x, torch.tensor([[0.0, 0, 0, 3, 3]])).tolist() == [[[[5, 7], [13, 15]]]]
    # the centres of the two by two bins lie at 0.5 and 2.5 in cells
    torch.testing.assert_close(ops.SimpleRoIAlign(2)(x, rois), mean)
    with pytest.raises(ValueError, match='sampling_ratio'):
        ops.roi_align(x, rois, 2, pool_mode='max')
    with pytest.raises(ValueError, match='median'):
        ops.roi_align(x, rois, 2, pool_mode='median')


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 1, 2])
def test_roi_align_in_bags_is_that_of_torchvision(ratio, aligned, monkeypatch):
    from torchvision.ops import roi_align

    module = importlib.import_module('mmdet.ops.roi_align')
    monkeypatch.setattr(module, '_BAG_ENTRIES', 5000)
    channels = module._BAG_CHANNELS
    low, size = randn(60, 2, seed=1) * 60, randn(60, 2, seed=2).abs() * 60
    size[:3], size[3:6] = 0, -1
    rois = torch.cat([torch.arange(60)[:, None] % 2, low, low + size], 1)
    ours, theirs = leaf(randn(2, channels, 12, 15)), leaf(randn(2, channels, 12, 15))
    pooled = ops.roi_align(ours, rois, (5, 7), 0.125, ratio, aligned=aligned)
    expected = roi_align(theirs, rois, (5, 7), 0.125, ratio, aligned)
    torch.testing.assert_close(pooled, expected)
    pooled.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert ops.roi_align(ours, rois[:0], (5, 7), 0.125, ratio).shape == (0, channels, 5, 7)
    broken = rois[:2] * torch.tensor([1, 1, float('nan'), 1, 1])
    assert ops.roi_align(ours, broken, (5, 7), 0.125, ratio, aligned=aligned).isfinite().all()


def test_simple_roi_align_is_a_grid_sample_of_each_image():
    x = randn(2, 3, 6, 7)
    for aligned in (True, False):
        sampled = ops.SimpleRoIAlign((2, 3), 0.5, aligned=aligned)(x, ROIS)
        ys, xs = torch.meshgrid(
            (torch.arange(2).double() + 0.5) / 2, (torch.arange(3).double() + 0.5) / 3, indexing='ij'
        )
        grid = torch.stack([xs, ys], -1).reshape(1, 6, 2)
        for roi, result in zip(ROIS, sampled, strict=True):
            points = ops.rel_roi_point_to_rel_img_point(roi[None], grid, x, 0.5)
            expected = ops.point_sample(x[int(roi[0])][None], points, align_corners=not aligned)
            torch.testing.assert_close(result.flatten(1), expected[0])


def test_deform_roi_pool_without_offsets_is_roi_align():
    x = randn(2, 3, 20, 20)
    rois = torch.cat([ROIS, torch.tensor([[0, 2.0, -3.0, 60.0, 33.0]], dtype=torch.float64)])
    zero = torch.zeros(4, 2, 2, 3, dtype=torch.float64)
    for ratio in (0, 2):
        expected = ops.roi_align(x, rois, (2, 3), 0.5, ratio)
        torch.testing.assert_close(ops.deform_roi_pool(x, rois, zero, (2, 3), 0.5, ratio), expected)
    # an offset of one moves a bin by a tenth of the RoI
    one = zero.clone()
    one[:, 0] = 1.0
    moved = rois[1:2] + torch.tensor([[0, 1.2, 0, 1.2, 0]])
    torch.testing.assert_close(
        ops.deform_roi_pool(x, rois[1:2], one[1:2], (2, 3), 0.5), ops.roi_align(x, moved, (2, 3), 0.5)
    )


@pytest.mark.parametrize('name', ['DeformRoIPoolPack', 'ModulatedDeformRoIPoolPack'])
def test_deform_roi_pool_layers(name):
    layer = MODELS.build({'type': name, 'output_size': 2, 'output_channels': 3, 'deform_fc_channels': 5})
    state = {key: tuple(value.shape) for key, value in layer.state_dict().items()}
    assert state['offset_fc.4.weight'] == (8, 5) and ('mask_fc.2.weight' in state) == name.startswith('Mod')
    x, rois = randn(2, 3, 13, 13, dtype=torch.float32), ROIS.float()
    pooled = ops.roi_align(x, rois, 2)
    torch.testing.assert_close(layer(x, rois), pooled * (0.5 if name.startswith('Mod') else 1))
    layer(x, rois).square().sum().backward()
    assert layer.offset_fc[-1].bias.grad.abs().sum() > 0
    assert layer(x, rois[:0]).shape == (0, 3, 2, 2)


def test_point_sample():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    points = torch.tensor([[[0.125, 0.5 / 3], [0.5, 0.5]]])
    torch.testing.assert_close(ops.point_sample(x, points), torch.tensor([[[0.0, 5.5]]]))
    assert ops.point_sample(x, points[:, None]).shape == (1, 1, 1, 2)
    assert ops.point_sample(x[:0], points[:0]).shape == (0, 1, 2)
    assert ops.point_sample(x, points[:, :0]).shape == (1, 1, 0)
    moved = ops.rel_roi_point_to_rel_img_point(torch.tensor([[0, 2.0, 4, 6, 8]]), torch.tensor([[[0.5, 1.0]]]), (16, 8))
    torch.testing.assert_close(moved, torch.tensor([[[0.5, 0.5]]]))


def test_masked_conv():
    conv = ops.MaskedConv2d(2, 3, 3, padding=1)
    x = randn(1, 2, 4, 4, dtype=torch.float32)
    mask = torch.zeros(1, 4, 4)
    mask[0, 1, 2] = 1
    out = conv(x, mask)
    torch.testing.assert_close(out[..., 1, 2], conv(x)[..., 1, 2])
    assert out.count_nonzero() == 3


def test_corner_pool():
    x = torch.tensor([[[[1.0, 3, 2], [4, 0, 5]]]])
    expected = {
        'top': [[4, 3, 5], [4, 0, 5]],
        'bottom': [[1, 3, 2], [4, 3, 5]],
        'left': [[3, 3, 2], [5, 5, 5]],
        'right': [[1, 3, 3], [4, 4, 5]],
    }
    for mode, values in expected.items():
        assert ops.CornerPool(mode)(x)[0, 0].tolist() == values
    with pytest.raises(ValueError, match='up'):
        ops.CornerPool('up')


def test_carafe():
    x = randn(2, 4, 3, 5)
    centre = torch.zeros(2, 9, 6, 10, dtype=torch.float64)
    centre[:, 4] = 1
    torch.testing.assert_close(ops.carafe(x, centre, 3, 1, 2), F.interpolate(x, scale_factor=2))
    masks = randn(2, 2 * 9, 6, 10)
    unfolded = F.unfold(x, 3, padding=1).reshape(2, 4 * 9, 3, 5)
    unfolded = F.interpolate(unfolded, scale_factor=2).reshape(2, 2, 2, 9, 6, 10)
    expected = (unfolded * masks.reshape(2, 2, 1, 9, 6, 10)).sum(3).flatten(1, 2)
    torch.testing.assert_close(ops.CARAFE(3, 2, 2)(x, masks), expected)
    assert ops.carafe(x[:0], masks[:0], 3, 2, 2).shape == (0, 4, 6, 10)
    with pytest.raises(ValueError, match='kernel_size=5'):
        ops.carafe(x, masks, 5, 2, 2)


def test_carafe_layer():
    layer = build_upsample_layer({'type': 'mmdet.carafe', 'channels': 4, 'scale_factor': 2, 'compressed_channels': 3})
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        'channel_compressor.weight': (3, 4, 1, 1),
        'channel_compressor.bias': (3,),
        'content_encoder.weight': (100, 3, 3, 3),
        'content_encoder.bias': (100,),
    }
    constant = layer(torch.ones(1, 4, 6, 6))  # kernels sum to one
    torch.testing.assert_close(constant[..., 4:8, 4:8], torch.ones(1, 4, 4, 4))


def attend_by_hand(value, shapes, locations, weights):
    batch, queries, heads, _, points = weights.shape
    out = torch.zeros(batch, queries, heads, value.size(-1), dtype=value.dtype)
    start = 0
    for level, (height, width) in enumerate(shapes):
        for b in range(batch):
            for q in range(queries):
                for h in range(heads):
                    for k in range(points):
                        x, y = (locations[b, q, h, level, k] * torch.tensor([width, height]) - 0.5).tolist()
                        for row in range(height):
                            for column in range(width):
                                near = max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
                                cell = value[b, start + row * width + column, h]
                                out[b, q, h] += weights[b, q, h, level, k] * near * cell
        start += height * width
    return out.flatten(2)


def test_deformable_attention_by_hand():
    value, shapes, locations, weights = attention_arguments()
    expected = attend_by_hand(value, shapes, locations, weights)
    for given in (shapes, torch.tensor(shapes)):
        result = ops.multi_scale_deformable_attn(value, given, torch.tensor([0, 20]), locations, weights)
        torch.testing.assert_close(result, expected)
    empty = ops.multi_scale_deformable_attn_pytorch(value, shapes, locations[:, :0], weights[:, :0])
    assert empty.shape == (2, 0, 8)


@pytest.mark.parametrize('coordinates', [2, 4])
def test_deformable_attention_layer(coordinates):
    config = {'type': 'MultiScaleDeformableAttention', 'embed_dims': 8, 'num_heads': 2, 'num_levels': 2, 'dropout': 0.0}
    layer = MODELS.build(config)
    assert list(layer.state_dict()) == [
        f'{name}.{part}'
        for name in ('sampling_offsets', 'attention_weights', 'value_proj', 'output_proj')
        for part in ('weight', 'bias')
    ]
    query, value = randn(3, 2, 8, dtype=torch.float32), randn(26, 2, 8, dtype=torch.float32)
    inputs = {
        'query_pos': randn(3, 2, 8, seed=1, dtype=torch.float32),
        'reference_points': torch.full((2, 3, 2, coordinates), 0.4),
        'key_padding_mask': torch.arange(26).expand(2, 26) % 5 == 0,
        'level_start_index': torch.tensor([0, 20]),
    }
    out = layer(query, value=value, spatial_shapes=torch.tensor([[4, 5], [2, 3]]), **inputs)
    assert out.shape == (3, 2, 8)
    torch.testing.assert_close(layer(query, value=value, spatial_shapes=[(4, 5), (2, 3)], **inputs), out)
    first = MODELS.build({**config, 'batch_first': True})
    first.load_state_dict(layer.state_dict())
    inputs['query_pos'] = inputs['query_pos'].transpose(0, 1)
    swapped = first(query.transpose(0, 1), value=value.transpose(0, 1), spatial_shapes=[(4, 5), (2, 3)], **inputs)
    torch.testing.assert_close(swapped.transpose(0, 1), out)
    with pytest.raises(ValueError, match='num_heads=3'):
        MODELS.build({**config, 'num_heads': 3})


def test_focal_losses():
    logits, labels = randn(3, 2, dtype=torch.float32), torch.tensor([1, 2, 0])
    p = logits.sigmoid()
    positive, negative = -0.25 * (1 - p) ** 2 * p.log(), -0.75 * p**2 * (1 - p).log()
    expected = torch.where(F.one_hot(labels, 3)[:, :2] == 1, positive, negative)
    torch.testing.assert_close(ops.sigmoid_focal_loss(logits, labels, reduction='none'), expected)
    torch.testing.assert_close(ops.SigmoidFocalLoss(2.0, 0.25)(logits, labels), expected.sum() / 3)
    score = logits.softmax(1)[torch.arange(3), labels % 2]
    expected = -0.25 * (1 - score) ** 2 * score.log()
    torch.testing.assert_close(ops.softmax_focal_loss(logits, labels % 2, reduction='none'), expected)
    weight = torch.tensor([1.0, 3.0])
    weighted = ops.SoftmaxFocalLoss(2.0, 0.25, weight)(logits, labels % 2)
    torch.testing.assert_close(weighted, (expected * weight[labels % 2]).sum() / 3)
    for function in (ops.sigmoid_focal_loss, ops.softmax_focal_loss):
        assert function(logits[:0], labels[:0]) == 0


@pytest.mark.parametrize('layer', [ops.RoIAlign(2), ops.RoIPool(2), ops.SimpleRoIAlign(2), ops.DeformRoIPool(2)])
def test_no_rois(layer):
    x = randn(2, 3, 6, 6, dtype=torch.float32).requires_grad_()
    out = layer(x, torch.zeros(0, 5))
    out.sum().backward()
    assert out.shape == (0, 3, 2, 2) and x.grad.count_nonzero() == 0


def test_compiled_mmcv(monkeypatch):
    """mmcv-lite has the sources of ``mmcv.ops`` but no extension; a compiled one is asked for its kernel on a GPU."""
    compiled_mmcv.cache_clear()
    assert (compiled_mmcv() is not None) == any(m == 'mmcv._ext' for m in sys.modules)
    compiled_mmcv.cache_clear()
    fake = types.ModuleType('mmcv.ops')
    monkeypatch.setattr('mmdet.ops.compiled.find_spec', lambda name: object())
    monkeypatch.setitem(sys.modules, 'mmcv.ops', fake)
    assert compiled_mmcv() is fake
    compiled_mmcv.cache_clear()


def test_every_name_of_the_table_exists():
    for name in ops.__all__:
        assert getattr(ops, name, None) is not None, name
    assert callable(ops.nms) and callable(ops.carafe) and callable(ops.roi_align)


def test_synchronised_batch_norm_of_mmcv(default_scope):
    from mmcv.cnn import build_norm_layer
    from mmengine.model import revert_sync_batchnorm

    from mmdet.ops import SyncBatchNorm

    name, layer = build_norm_layer(dict(type='MMSyncBN', requires_grad=True), 3)
    assert name == 'bn' and isinstance(layer, SyncBatchNorm) and layer.weight.shape == (3,)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(revert_sync_batchnorm(layer)(x), torch.nn.BatchNorm2d(3)(x))
    with pytest.raises(ValueError, match="not 'mean'"):
        SyncBatchNorm(3, stats_mode='mean')
