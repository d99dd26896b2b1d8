import pytest
import torch
from torch import nn

from mmdet.models import necks
from mmdet.models.necks import (
    BFP,
    FPG,
    FPN,
    FPN_CARAFE,
    HRFPN,
    NASFCOS_FPN,
    NASFPN,
    PAFPN,
    RFP,
    SSH,
    YOLOXPAFPN,
    C2fProjector,
    ChannelMapper,
    CSPNeXtPAFPN,
    CTResNetNeck,
    DEIMv2HybridEncoder,
    DFINEHybridEncoder,
    DilatedEncoder,
    DyHead,
    FPN_DropBlock,
    HybridEncoder,
    LiteEncoder,
    SimpleFPN,
    SSDNeck,
    YOLOV3Neck,
)
from mmdet.models.necks.ssd_neck import L2Norm

CHANNELS = [8, 16, 32, 64]
SIZES = [(16, 24), (8, 12), (4, 6), (2, 3)]


def features(channels=CHANNELS, sizes=SIZES, value=None):
    torch.manual_seed(1)
    make = torch.randn if value is None else lambda *shape: torch.full(shape, value)
    return tuple(make(2, c, *size) for c, size in zip(channels, sizes, strict=True))


# class, arguments, channels of the inputs, sizes of the outputs
FPN_ARGS = dict(in_channels=CHANNELS, out_channels=8, num_outs=5)
ENCODER_LAYER = dict(self_attn_cfg=dict(embed_dims=8, num_heads=2), ffn_cfg=dict(embed_dims=8, feedforward_channels=16))
ENCODER = dict(num_layers=1, layer_cfg=ENCODER_LAYER)
UP = dict(type='interpolation_conv', mode='nearest', kernel_size=3)
NECKS = [
    (FPN, FPN_ARGS, [*SIZES, (1, 2)]),
    (FPN, dict(FPN_ARGS, start_level=1, add_extra_convs='on_input'), [*SIZES[1:], (1, 2), (1, 1)]),
    (FPN, dict(FPN_ARGS, start_level=1, add_extra_convs='on_lateral'), [*SIZES[1:], (1, 2), (1, 1)]),
    (FPN, dict(FPN_ARGS, start_level=1, add_extra_convs='on_output'), [*SIZES[1:], (1, 2), (1, 1)]),
    (FPN, dict(FPN_ARGS, num_outs=2, start_level=1, end_level=2), SIZES[1:3]),
    (FPN, dict(FPN_ARGS, upsample_cfg=dict(mode='bilinear'), norm_cfg=dict(type='BN')), [*SIZES, (1, 2)]),
    (FPN, dict(FPN_ARGS, upsample_cfg=dict(scale_factor=2), act_cfg=dict(type='ReLU')), [*SIZES, (1, 2)]),
    (FPN_DropBlock, FPN_ARGS, [*SIZES, (1, 2)]),
    (PAFPN, FPN_ARGS, [*SIZES, (1, 2)]),
    (PAFPN, dict(FPN_ARGS, start_level=1, add_extra_convs='on_output'), [*SIZES[1:], (1, 2), (1, 1)]),
    (HRFPN, dict(in_channels=CHANNELS, out_channels=8, num_outs=4), SIZES),
    (HRFPN, dict(in_channels=CHANNELS, out_channels=8, num_outs=3, stride=2, pooling_type='MAX'), SIZES[1:]),
    (
        HybridEncoder,
        dict(in_channels=CHANNELS, out_channels=8, encode_levels=(3,), encoder=ENCODER, num_blocks=1),
        SIZES,
    ),
    (
        DFINEHybridEncoder,
        dict(in_channels=CHANNELS, out_channels=8, encode_levels=(3,), encoder=ENCODER, decoder_channels=4),
        SIZES,
    ),
    (
        DEIMv2HybridEncoder,
        dict(in_channels=CHANNELS, out_channels=8, encode_levels=(3,), encoder=ENCODER, trailing_conv=True),
        SIZES,
    ),
    (ChannelMapper, dict(in_channels=CHANNELS, out_channels=8, num_outs=6), [*SIZES, (1, 2), (1, 1)]),
    (
        SSDNeck,
        dict(in_channels=CHANNELS, out_channels=[*CHANNELS, 16, 8], level_strides=(2, 1), level_paddings=(1, 1)),
        [*SIZES, (1, 2), (1, 2)],
    ),
    (SSH, dict(num_scales=4, in_channels=CHANNELS, out_channels=[8, 8, 16, 4]), SIZES),
    (FPN_CARAFE, FPN_ARGS, [*SIZES, (1, 2)]),
    (FPN_CARAFE, dict(FPN_ARGS, num_outs=6, upsample_cfg=dict(type='bilinear')), [*SIZES, (1, 2), (1, 1)]),
    (FPN_CARAFE, dict(FPN_ARGS, num_outs=4, upsample_cfg=dict(type='deconv')), SIZES),
    (FPN_CARAFE, dict(FPN_ARGS, num_outs=4, upsample_cfg=dict(type='pixel_shuffle')), SIZES),
    (NASFPN, dict(FPN_ARGS, stack_times=2, norm_cfg=dict(type='BN')), [*SIZES, (1, 1)]),
    (
        FPG,
        dict(
            FPN_ARGS,
            stack_times=2,
            paths=['td', 'td'],
            same_up_trans=None,
            same_down_trans=UP,
            across_down_trans=UP,
            num_outs=4,
        ),
        SIZES,
    ),
    (
        NASFCOS_FPN,
        dict(FPN_ARGS, norm_cfg=dict(type='BN'), conv_cfg=dict(type='DCNv2', deform_groups=2)),
        [*SIZES[1:], (1, 2), (1, 1)],
    ),
    (YOLOXPAFPN, dict(in_channels=CHANNELS, out_channels=8, num_csp_blocks=1), SIZES),
    (CSPNeXtPAFPN, dict(in_channels=CHANNELS, out_channels=8, num_csp_blocks=1, use_depthwise=True), SIZES),
    (YOLOV3Neck, dict(num_scales=4, in_channels=CHANNELS[::-1], out_channels=[32, 16, 8, 4]), SIZES[::-1]),
    (CTResNetNeck, dict(in_channels=64, num_deconv_filters=(16, 8), num_deconv_kernels=(4, 4)), [(8, 12)]),
    (
        DilatedEncoder,
        dict(in_channels=64, out_channels=8, block_mid_channels=4, num_residual_blocks=2, block_dilations=[2, 4]),
        SIZES[3:],
    ),
]


@pytest.mark.parametrize(('cls', 'kwargs', 'sizes'), NECKS)
def test_outputs_and_gradients(cls, kwargs, sizes):
    torch.manual_seed(0)
    neck = cls(**kwargs)
    neck.init_weights()
    inputs = features()
    outs = neck(inputs)
    assert isinstance(outs, tuple)
    assert [tuple(x.shape[2:]) for x in outs] == list(sizes)
    sum(x.square().mean() for x in outs).backward()
    unused = [name for name, p in neck.named_parameters() if p.grad is None]
    assert not unused
    for given, fresh in zip(inputs, features(), strict=True):
        assert torch.equal(given, fresh)  # the inputs are not written to


def test_simple_pyramid_of_one_map():
    torch.manual_seed(0)
    x = torch.randn(2, 32, 4, 6)
    neck = SimpleFPN(32, [8, 16, 32, 32], 8, 5, norm_cfg=dict(type='LN2d'))
    outs = neck((x,))
    assert [tuple(out.shape[1:]) for out in outs] == [(8, 16, 24), (8, 8, 12), (8, 4, 6), (8, 2, 3), (8, 1, 2)]
    sum(out.square().mean() for out in outs).backward()
    assert all(p.grad is not None for p in neck.parameters())
    alone = neck(x)  # without a sequence around it
    assert all(torch.equal(a, b) for a, b in zip(outs, alone, strict=True))
    pooled = torch.nn.functional.max_pool2d(x, 2)
    torch.testing.assert_close(outs[3], neck.fpn_convs[3](neck.lateral_convs[3](pooled)))
    torch.testing.assert_close(outs[4], outs[3][:, :, ::2, ::2])
    assert all(conv.conv.bias is None for conv in (*neck.lateral_convs, *neck.fpn_convs))
    with pytest.raises(ValueError, match=r'backbone_channel=32, in_channels says \[8, 8, 8, 8\]'):
        SimpleFPN(32, [8, 8, 8, 8], 8, 5)
    with pytest.raises(ValueError, match='at least 4, got 3'):
        SimpleFPN(32, [8, 16, 32, 32], 8, 3)
    with pytest.raises(ValueError, match=r'one map of 32 channels, the backbone gives maps of \[32, 32\]'):
        neck((x, x))


@pytest.mark.parametrize('refine_type', [None, 'conv', 'non_local'])
def test_bfp_of_equal_levels(refine_type):
    torch.manual_seed(0)
    neck = BFP(8, 4, refine_level=1, refine_type=refine_type)
    neck.init_weights()
    outs = neck(features([8] * 4, value=1.5))
    assert [tuple(x.shape[2:]) for x in outs] == SIZES
    if refine_type is None:
        for out in outs:
            assert (out == 3.0).all()  # the mean of all levels plus the level itself


def identity(neck):
    """Every convolution passes its input on."""
    for module in neck.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.bias)
            nn.init.zeros_(module.weight)
            centre = module.kernel_size[0] // 2
            module.weight.data[:, :, centre, centre] = torch.eye(module.out_channels, module.in_channels)
    return neck


def test_fpn_adds_from_coarse_to_fine():
    neck = identity(FPN([1, 1, 1], 1, 3))
    outs = neck(tuple(torch.full((1, 1, 4 >> i, 4 >> i), 10.0**i) for i in range(3)))
    assert [x.unique().tolist() for x in outs] == [[111.0], [110.0], [100.0]]


def test_a_level_that_is_not_used_may_have_any_channels():
    assert len(FPN([3, 16, 32, 64], 8, 3, start_level=1)(features())) == 3


def test_drop_block_stands_behind_each_sum():
    neck = identity(FPN_DropBlock([1, 1, 1], 1, 3, plugin=dict(type='mmdet.DropBlock', drop_prob=1.0, block_size=1)))
    neck.plugin.forward = lambda x: -x
    outs = neck(tuple(torch.full((1, 1, 4 >> i, 4 >> i), 10.0**i) for i in range(3)))
    assert [x.unique().tolist() for x in outs] == [[1.0 * -1 + 110], [-110.0], [100.0]]
    assert FPN_DropBlock([1, 1], 1, 2, plugin=None).plugin is None


def test_pafpn_adds_from_fine_to_coarse_afterwards():
    neck = identity(PAFPN([1, 1, 1], 1, 3))
    outs = neck(tuple(torch.full((1, 1, 4 >> i, 4 >> i), 10.0**i) for i in range(3)))
    assert [x.unique().tolist() for x in outs] == [[111.0], [221.0], [321.0]]


@pytest.mark.parametrize(
    ('source', 'relu', 'expected'),
    [('on_input', False, [-3.0, -3.0]), ('on_lateral', False, [-3.0, -3.0]), ('on_output', True, [-3.0, 0.0])],
)
def test_fpn_extra_levels(source, relu, expected):
    neck = identity(FPN([1, 1], 1, 4, add_extra_convs=source, relu_before_extra_convs=relu))
    outs = neck((torch.ones(1, 1, 8, 8), torch.full((1, 1, 4, 4), -3.0)))
    assert [x.unique().tolist() for x in outs[2:]] == [[value] for value in expected]


def test_l2_norm():
    out = L2Norm(2, scale=10)(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1))
    assert out.flatten().tolist() == pytest.approx([6.0, 8.0])
    assert L2Norm(2)(torch.full((1, 2, 1, 1), 3e4, dtype=torch.float16)).isfinite().all()


def test_ssd_neck_keeps_its_scale_when_initialised():
    neck = SSDNeck(CHANNELS, [*CHANNELS, 16], (2,), (1,), l2_norm_scale=20)
    neck.init_weights()
    assert (neck.l2_norm.weight == 20).all()


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: FPN(CHANNELS, 8, 3), 'num_outs=3'),
        (lambda: FPN(CHANNELS, 8, 3, end_level=1), 'num_outs must be 2'),
        (lambda: FPN(64, 8, 3), 'in_channels'),
        (lambda: FPN(CHANNELS, 8, 5, add_extra_convs='on_top'), "'on_top'"),
        (lambda: FPN(**FPN_ARGS)(features()[:2]), '4 feature maps, got 2'),
        (
            lambda: FPN([8, 16, 32, 8], 8, 4)(features()),
            r'\[8, 16, 32, 8\] channels.* gives \[8, 16, 32, 64\]: set in_c',
        ),
        (lambda: YOLOV3Neck(4, CHANNELS, [8] * 4)(features()), r'gives \[8, 16, 32, 64\]'),
        (lambda: BFP(8, 4, refine_type='attention'), "'attention'"),
        (lambda: SSDNeck([8], [16, 8], (2,), (1,)), 'begin with'),
        (lambda: SSH(2, [8], [8, 8]), '2 scales'),
        (lambda: DilatedEncoder(8, 8, 4, 2, [1]), '2 blocks'),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_dynamic_head_keeps_the_sizes():
    torch.manual_seed(0)
    neck = DyHead(16, 16, num_blocks=2, zero_init_offset=False)
    outs = neck(features([16] * 4))
    assert [tuple(x.shape[1:]) for x in outs] == [(16, *size) for size in SIZES]
    sum(x.square().mean() for x in outs).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_transposed_convolutions_start_bilinear():
    neck = CTResNetNeck(8, (4,), (4,), use_dcn=False)
    neck.init_weights()
    up = neck.deconv_layers[1].conv
    assert up.weight[2, 0, 1].tolist() == pytest.approx([0.1875, 0.5625, 0.5625, 0.1875])


def test_recursive_pyramid_starts_from_the_mean_of_both_rounds():
    torch.manual_seed(0)
    backbone = dict(type='DetectoRS_ResNet', depth=50, base_channels=4, rfp_inplanes=8)
    neck = RFP(2, backbone, 2, in_channels=[16, 32, 64, 128], out_channels=8, num_outs=5)
    neck.init_weights()
    neck.eval()
    image = torch.randn(1, 3, 64, 64)
    feats = neck.rfp_modules[0](image)
    outs = neck((image, *feats))
    # the feedback and the gate start at zero, so that both rounds give the same
    for out, once in zip(outs, FPN.forward(neck, feats), strict=True):
        torch.testing.assert_close(out, once)


def test_fpg_sums_its_connections():
    kwargs = dict(
        in_channels=[1, 1], out_channels=1, num_outs=2, stack_times=1, across_skip_trans=dict(type='identity')
    )
    up = dict(type='interpolation_conv', kernel_size=3, act_cfg=None)
    plain = dict(kernel_size=1, act_cfg=None)
    neck = FPG(
        paths=['bu'],
        same_up_trans=dict(type='conv', kernel_size=3, stride=2, padding=1, act_cfg=None),
        across_lateral_trans=dict(type='conv', **plain),
        across_down_trans=up,
        output_trans=dict(type='last_conv', **plain),
        **kwargs,
    )
    fine, coarse = identity(neck)((torch.full((1, 1, 4, 4), 1.0), torch.full((1, 1, 2, 2), 10.0)))
    assert fine.unique().tolist() == [1 + 1 + 10]  # lateral, skip and from the coarser level
    assert coarse.unique().tolist() == [10 + 10 + 12]  # lateral, skip and from the finer node


RECURSIVE = dict(type='DetectoRS_ResNet', depth=50, base_channels=4, rfp_inplanes=8, num_stages=2, strides=(1, 2))
RECURSIVE |= dict(dilations=(1, 1), out_indices=(0, 1))
FIRST = {cls: (kwargs, CHANNELS) for cls, kwargs, _ in NECKS[::-1]}
FIRST |= {
    C2fProjector: (dict(in_channels=[8, 8], out_channels=8, scales=(1.0,)), [8] * 2),
    LiteEncoder: (dict(in_channels=[8], out_channels=8, num_blocks=1), [8]),
    BFP: (dict(in_channels=8, num_levels=4, refine_level=1, refine_type='non_local'), [8] * 4),
    DyHead: (dict(in_channels=16, out_channels=16, num_blocks=1, zero_init_offset=False), [16] * 4),
    SimpleFPN: (dict(backbone_channel=16, in_channels=[4, 8, 16, 16], out_channels=8, num_outs=5), [16]),
    RFP: (
        dict(
            rfp_steps=2, rfp_backbone=RECURSIVE, aspp_out_channels=2, in_channels=[16, 32], out_channels=8, num_outs=2
        ),
        None,
    ),
}


@pytest.mark.parametrize('channels', [8, 520])  # many channels are narrowed first
def test_plain_maps_at_several_scales(channels):
    torch.manual_seed(0)
    neck = C2fProjector([channels] * 2, 8, scales=(2.0, 1.0, 0.5), num_blocks=1)
    outs = neck([torch.randn(1, channels, 4, 6) for _ in range(2)])
    assert [tuple(out.shape) for out in outs] == [(1, 8, 8, 12), (1, 8, 4, 6), (1, 8, 2, 3)]
    sum(out.square().sum() for out in outs).backward()
    assert all(value.grad is not None for value in neck.parameters())
    with pytest.raises(ValueError, match=r'scales must be some of 0\.5, 1\.0, 2\.0'):
        C2fProjector([8], scales=(4.0,))


def test_the_lite_encoder_halves_its_only_map():
    torch.manual_seed(0)
    neck = LiteEncoder([8], 4, num_blocks=1)
    outs = neck([torch.randn(2, 8, 5, 8)])
    assert [tuple(out.shape) for out in outs] == [(2, 4, 5, 8), (2, 4, 3, 4)]
    sum(out.square().sum() for out in outs).backward()
    assert all(value.grad is not None for value in neck.parameters())
    with pytest.raises(ValueError, match=r'one map.*\[8, 16\]'):
        LiteEncoder([8, 16])


def test_every_neck_is_compiled_by_the_next_test():
    assert {cls.__name__ for cls in FIRST} == set(necks.__all__)


@pytest.mark.parametrize('cls', FIRST)
def test_one_graph(cls, one_graph):
    kwargs, channels = FIRST[cls]
    torch.manual_seed(0)
    neck = cls(**kwargs).eval()
    if channels is None:  # the pyramid that looks at the picture again
        image = torch.randn(1, 3, 64, 64)
        inputs = image, *neck.rfp_modules[0](image)
    elif cls in (C2fProjector, LiteEncoder, SimpleFPN):  # of maps of one size
        inputs = features(channels, SIZES[:1] * len(channels))
    else:
        inputs = features(channels)
    torch.testing.assert_close(one_graph(neck, inputs), neck(inputs))
