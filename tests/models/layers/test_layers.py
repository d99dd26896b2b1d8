import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from torch import nn

from mmdet.models.layers import (
    FFN,
    MLP,
    AdaptivePadding,
    ChannelAttention,
    ConvUpsample,
    CSPLayer,
    DropBlock,
    DynamicConv,
    DyReLU,
    InvertedResidual,
    NormedConv2d,
    NormedLinear,
    PatchEmbed,
    PatchMerging,
    ResLayer,
    SELayer,
    SimplifiedBasicBlock,
    build_conv_layer,
    build_linear_layer,
    nchw_to_nlc,
    nlc_to_nchw,
    resolve_layer,
    run_checkpointed,
)
from mmdet.models.layers.mlp import each_through
from mmdet.registry import MODELS


def test_names_of_ours_are_found_without_a_default_scope():
    assert resolve_layer(None) is None
    known = dict(type='ConvWS')
    assert resolve_layer(known) is known
    ours = dict(type='DCNv2', deform_groups=1)
    assert resolve_layer(ours) == dict(type=MODELS.get('DCNv2'), deform_groups=1)
    assert ours['type'] == 'DCNv2'
    assert type(build_conv_layer(ours, 4, 4, 3)) is MODELS.get('DCNv2')
    with pytest.raises(KeyError, match='DCNv2'):
        resolve_layer(dict(type='DCNv22'))


def test_checkpointing_needs_no_gradient_of_the_input():
    layer = nn.Linear(2, 2)
    assert run_checkpointed(layer, torch.ones(1, 2), True).grad_fn is not None
    x = torch.ones(1, 2, requires_grad=True)
    run_checkpointed(layer, x, True).sum().backward()
    assert torch.equal(x.grad, layer.weight.detach().sum(0, keepdim=True))


@pytest.mark.parametrize(
    ('kwargs', 'size', 'missing'),
    [
        (dict(kernel_size=4, stride=4), (8, 12), (0, 0)),
        (dict(kernel_size=4, stride=4), (7, 13), (1, 3)),
        (dict(kernel_size=3, stride=2), (8, 7), (1, 2)),
        (dict(kernel_size=3, stride=1, dilation=2), (5, 5), (4, 4)),
        (dict(kernel_size=2, stride=3), (5, 6), (0, 0)),
    ],
)
def test_adaptive_padding(kwargs, size, missing):
    x = torch.ones(1, 1, *size)
    for padding in ('corner', 'same'):
        pad = AdaptivePadding(**kwargs, padding=padding)
        assert pad.get_pad_shape(size) == missing
        assert pad(x).shape[2:] == (size[0] + missing[0], size[1] + missing[1])
    if missing == (4, 4):
        assert pad(x)[0, 0, 2:7, 2:7].all()


def test_sequences_and_maps():
    x = torch.arange(24.0).view(1, 2, 3, 4)
    assert torch.equal(nlc_to_nchw(nchw_to_nlc(x), (3, 4)), x)
    with pytest.raises(ValueError, match=r'3 \* 5'):
        nlc_to_nchw(nchw_to_nlc(x), (3, 5))


def test_patch_embedding():
    embed = PatchEmbed(3, 8, kernel_size=4, stride=4, norm_cfg=dict(type='LN'), input_size=(30, 33))
    x, size = embed(torch.randn(2, 3, 30, 33))
    assert x.shape == (2, 72, 8)
    assert size == embed.init_out_size == (8, 9)
    overlapping = PatchEmbed(3, 8, kernel_size=7, stride=4, padding=3, input_size=32)
    assert overlapping(torch.randn(1, 3, 32, 32))[1] == overlapping.init_out_size == (8, 8)


def test_patch_merging_pads_odd_sizes():
    out, size = PatchMerging(4, 8)(torch.randn(1, 15, 4), (3, 5))
    assert size == (2, 3)
    assert out.shape == (1, 6, 8)


@pytest.mark.parametrize('downsample_first', [True, False])
def test_res_layer_strides_once(downsample_first):
    layer = ResLayer(SimplifiedBasicBlock, 4, 8, 3, stride=2, avg_down=True, downsample_first=downsample_first)
    assert [block.stride for block in layer] == ([2, 1, 1] if downsample_first else [1, 1, 2])
    assert layer(torch.randn(1, 4, 9, 9)).shape == (1, 8, 5, 5)


def test_simplified_block_ends_without_relu():
    torch.manual_seed(0)
    block = SimplifiedBasicBlock(4, 4, norm_cfg=None)
    assert block.norm1 is None and block.conv1.bias is not None
    assert (block(torch.randn(1, 4, 8, 8)) < 0).any()


@pytest.mark.parametrize(
    ('layer', 'gate'),
    [(SELayer(4, ratio=2), 0.5), (ChannelAttention(4), 0.5), (DyReLU(4), None)],
)
def test_gates_with_zero_weights(layer, gate):
    for p in layer.parameters():
        nn.init.zeros_(p)
    x = torch.tensor([-2.0, 4.0]).view(1, 1, 1, 2).expand(1, 4, 1, 2)
    expected = torch.relu(x) if gate is None else gate * x  # dynamic ReLU starts as the ordinary one
    torch.testing.assert_close(layer(x), expected)


def test_inverted_residual_adds_only_where_shapes_agree():
    for kwargs, shortcut in ((dict(stride=1), True), (dict(stride=2), False), (dict(out_channels=16), False)):
        block = InvertedResidual(**{**dict(in_channels=8, out_channels=8, mid_channels=16), **kwargs})
        assert block.with_res_shortcut is shortcut
        assert block(torch.randn(1, 8, 8, 8)).shape[2] == 8 // kwargs.get('stride', 1)
    gated = InvertedResidual(8, 8, 8, se_cfg=dict(channels=8, ratio=4), with_expand_conv=False, drop_path_rate=0.5)
    assert gated(torch.randn(1, 8, 8, 8)).shape == (1, 8, 8, 8)
    with pytest.raises(ValueError, match='mid_channels'):
        InvertedResidual(8, 8, 16, with_expand_conv=False)


def test_mlp_and_ffn():
    mlp = MLP(4, 8, 2, 3)
    assert [tuple(layer.weight.shape) for layer in mlp.layers] == [(8, 4), (8, 8), (2, 8)]
    x = torch.randn(3, 5, 4)
    expected = mlp.layers[2](mlp.layers[1](mlp.layers[0](x).relu()).relu())
    torch.testing.assert_close(mlp(x), expected)
    ffn = FFN(4, 8)
    assert list(ffn.state_dict()) == ['layers.0.0.weight', 'layers.0.0.bias', 'layers.1.weight', 'layers.1.bias']
    torch.testing.assert_close(ffn(x), x + ffn.layers(x))
    assert torch.equal(ffn(x, identity=torch.zeros_like(x)), ffn.layers(x))


def test_root_registry_stays_free_of_our_names():
    assert 'ResNet' in MODELS
    assert ROOT_MODELS.get('mmdet.ResNet') is MODELS.get('ResNet')


def test_normed_predictors_see_directions_only():
    linear = NormedLinear(2, 1, bias=False, tempearture=10)
    nn.init.constant_(linear.weight, 3.0)
    x = torch.tensor([[5.0, 5.0], [5.0, -5.0], [0.1, 0.0]])
    torch.testing.assert_close(linear(x).flatten(), torch.tensor([10.0, 0.0, 10 / 2**0.5]), rtol=1e-4, atol=1e-4)
    conv = NormedConv2d(2, 1, 1, bias=False, tempearture=10)
    conv.weight.data = linear.weight.data[..., None, None]
    torch.testing.assert_close(conv(x.T[None, :, None]).flatten(), linear(x).flatten())
    whole = NormedConv2d(2, 1, 3, norm_over_kernel=True)
    assert whole(torch.randn(1, 2, 5, 5)).abs().max() < 20 * 3 + 1


@pytest.mark.parametrize(
    ('cfg', 'cls'), [(None, nn.Linear), (dict(type='Linear'), nn.Linear), (dict(type='NormedLinear'), NormedLinear)]
)
def test_linear_layers_from_configs(cfg, cls):
    layer = build_linear_layer(cfg, in_features=3, out_features=5)
    assert type(layer) is cls
    assert layer.weight.shape == (5, 3)


def test_conv_upsample_doubles_the_size_per_upsampled_layer():
    assert ConvUpsample(4, 8, 3, num_upsample=2)(torch.randn(1, 4, 3, 5)).shape == (1, 8, 12, 20)
    assert ConvUpsample(4, 8, 2)(torch.randn(1, 4, 3, 5)).shape == (1, 8, 12, 20)
    with pytest.raises(ValueError, match='num_upsample'):
        ConvUpsample(4, 8, 1, num_upsample=2)


@pytest.mark.parametrize(
    'kwargs',
    [dict(), dict(use_depthwise=True, add_identity=False), dict(use_cspnext_block=True, channel_attention=True)],
)
def test_csp_layer(kwargs):
    layer = CSPLayer(8, 16, num_blocks=2, **kwargs)
    layer(torch.randn(2, 8, 6, 6)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    assert all(block.add_identity is kwargs.get('add_identity', True) for block in layer.blocks)


def test_drop_block():
    torch.manual_seed(0)
    layer = DropBlock(drop_prob=0.2, block_size=3, warmup_iters=0)
    x = torch.ones(4, 8, 16, 16)
    out = layer(x)
    assert 0.1 < (out == 0).float().mean() < 0.3
    assert out.mean().item() == pytest.approx(1, rel=1e-4)  # what is kept is scaled up
    zeros = (out == 0).float()
    covered = nn.functional.max_pool2d(
        nn.functional.pad(nn.functional.avg_pool2d(zeros, 3, 1).gt(0.99).float(), [1] * 4), 3, 1, padding=1
    )
    assert torch.equal(covered, zeros)  # the zeros are squares of three
    assert layer.eval()(x) is x
    warm = DropBlock(drop_prob=0.2, block_size=3, warmup_iters=10**9)
    assert (warm(x) == 0).sum() == 0


@pytest.mark.parametrize('with_proj', [True, False])
def test_dynamic_convolution_of_each_region(with_proj):
    """Two 1x1 convolutions with the weights that the query of the region makes."""
    torch.manual_seed(0)
    conv = DynamicConv(4, feat_channels=2, out_channels=3, input_feat_shape=5, with_proj=with_proj)
    regions, queries = torch.randn(2, 4, 5, 5), torch.randn(2, 4)
    found = conv(queries, regions)
    for region, weights, result in zip(regions, conv.dynamic_layer(queries), found):
        first, second = weights[:8].view(4, 2), weights[8:].view(2, 3)
        x = nn.functional.conv2d(region[None], first.t()[..., None, None]).permute(0, 2, 3, 1)
        x = conv.norm_in(x).relu().permute(0, 3, 1, 2)
        x = nn.functional.conv2d(x, second.t()[..., None, None]).permute(0, 2, 3, 1)
        x = conv.norm_out(x).relu()
        expected = conv.fc_norm(conv.fc_layer(x.flatten())).relu() if with_proj else x[0].flatten(0, 1)
        torch.testing.assert_close(result, expected)


def linear_chains(count):
    return [nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)) for _ in range(count)]


@pytest.mark.parametrize(
    ('branches', 'products'),
    [
        ([nn.Linear(3, 2) for _ in range(3)], 1),
        (linear_chains(4), 2),  # the last one is for another
        ([MLP(3, 5, 2, 2) for _ in range(3)], 2),
        ([nn.Linear(3, 2, bias=False) for _ in range(3)], 0),
        ([*linear_chains(2), nn.Linear(3, 2)], 0),
        ([nn.Linear(3, 2)], 0),
    ],
)
def test_each_state_through_its_branch(branches, products):
    states = torch.randn(min(len(branches), 3), 2, 4, 3, requires_grad=True)
    expected = torch.stack([branch(state) for branch, state in zip(branches, states, strict=False)])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        found = each_through(branches, states)
    assert sum(event.name == 'aten::baddbmm' for event in profile.events()) == products
    torch.testing.assert_close(found, expected)
    weights = [weight for branch in branches[: len(states)] for weight in branch.parameters()]
    for one, other in zip(*(torch.autograd.grad(y.square().sum(), [states, *weights]) for y in (found, expected))):
        torch.testing.assert_close(one, other)


def test_branches_that_someone_watches_run_themselves():
    branches, seen = [nn.Linear(3, 2) for _ in range(2)], []
    branches[1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    found = each_through(branches, torch.randn(2, 4, 3))
    assert len(seen) == 1 and torch.equal(found[1], seen[0])
