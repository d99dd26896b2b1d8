import re

import pytest
import torch
from torch import nn

from mmdet.models import backbones
from mmdet.models.backbones import (
    SSDVGG,
    ConvNeXt,
    CSPDarknet,
    CSPNeXt,
    Darknet,
    DetectoRS_ResNet,
    DetectoRS_ResNeXt,
    DINOv2,
    DINOv3,
    DINOv3STA,
    EfficientNet,
    HGNetV2,
    HourglassNet,
    HRNet,
    MobileNetV2,
    PResNet,
    PyramidVisionTransformer,
    PyramidVisionTransformerV2,
    RegNet,
    Res2Net,
    ResNeSt,
    ResNet,
    ResNetV1d,
    ResNeXt,
    SwinTransformer,
    TridentResNet,
    ViT,
    WindowedViT,
)
from mmdet.registry import MODELS
from mmdet.utils.key_maps import translate_state_dict

STAGES = dict(
    stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(8,)),
    stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(1, 1), num_channels=(4, 8)),
    stage3=dict(num_modules=2, num_branches=3, block='BASIC', num_blocks=(1, 1, 1), num_channels=(4, 8, 16)),
    stage4=dict(num_modules=1, num_branches=4, block='BASIC', num_blocks=(1, 1, 1, 1), num_channels=(4, 8, 16, 32)),
)
PVT = dict(embed_dims=8, num_layers=[1, 1, 1, 2], pretrain_img_size=64)
SAC = dict(type='SAC', use_deform=True)
CONVNEXT = dict(arch=dict(depths=(1, 1, 2, 1), channels=(8, 16, 24, 32)), gap_before_final_norm=False)
VIT = dict(embed_dims=12, depth=3, num_heads=2, patch_size=8, pretrain_size=32, window_blocks=(0,), num_windows=2)
VITDET = dict(img_size=64, patch_size=8, embed_dim=12, depth=2, num_heads=2, pretrain_img_size=32, use_rel_pos=True)
SWIN = dict(embed_dims=8, depths=(2, 2, 1, 1), num_heads=(1, 2, 2, 4), window_size=4)

# class, arguments, channels and strides of the outputs
BACKBONES = [
    (ResNet, dict(depth=18, base_channels=4), (4, 8, 16, 32), (4, 8, 16, 32)),
    (ResNet, dict(depth=50, base_channels=4, style='caffe', deep_stem=True), (16, 32, 64, 128), (4, 8, 16, 32)),
    (
        ResNet,
        dict(depth=50, base_channels=4, num_stages=3, strides=(1, 2, 1), dilations=(1, 1, 2), out_indices=(2,)),
        (64,),
        (8,),
    ),
    (ResNetV1d, dict(depth=50, base_channels=4, avg_down=None), (16, 32, 64, 128), (4, 8, 16, 32)),
    (PResNet, dict(depth=18, base_channels=4), (4, 8, 16, 32), (4, 8, 16, 32)),
    (HGNetV2, dict(arch='B0', out_indices=(0, 1, 2, 3), use_lab=True), (64, 256, 512, 1024), (4, 8, 16, 32)),
    (HGNetV2, dict(arch='Atto', out_indices=(0, 1, 2), use_lab=True), (64, 256, 256), (4, 8, 16)),
    (DINOv3, dict(embed_dims=16, num_heads=2, gated=True, out_indices=(0, 2)), (16, 16), (16, 16)),
    (
        DINOv3STA,
        dict(vit=dict(embed_dims=16, num_heads=2, out_indices=(0, 1, 2)), detail_channels=4),
        (24, 32, 32),
        (8, 16, 32),
    ),
    (WindowedViT, dict(VIT, out_indices=(0, 2)), (12, 12), (8, 8)),
    (DINOv2, dict(VIT, out_indices=(1, 2), drop_path_rate=0.1), (12, 12), (8, 8)),
    (ViT, dict(VITDET, window_size=3, window_block_indexes=(0,), drop_path_rate=0.1), (12,), (8,)),
    (ResNeXt, dict(depth=50, groups=2, base_width=8, base_channels=16), (64, 128, 256, 512), (4, 8, 16, 32)),
    (Res2Net, dict(depth=50, base_channels=16, base_width=8), (64, 128, 256, 512), (4, 8, 16, 32)),
    (
        RegNet,
        dict(
            arch=dict(w0=8, wa=8, wm=2.5, group_w=8, depth=6, bot_mul=1.0),
            strides=(2, 2),
            dilations=(1, 1),
            out_indices=(0, 1),
        ),
        None,
        (4, 8),
    ),
    (HRNet, dict(extra=STAGES), (4, 8, 16, 32), (4, 8, 16, 32)),
    (MobileNetV2, dict(widen_factor=0.25, out_indices=(1, 2, 4, 7)), (8, 8, 24, 1280), (4, 8, 16, 32)),
    (SSDVGG, dict(depth=11, out_feature_indices=(14, 24)), (512, 1024), (8, 16)),
    (SwinTransformer, dict(SWIN), (8, 16, 32, 64), (4, 8, 16, 32)),
    (ConvNeXt, dict(CONVNEXT, out_indices=(1, -1), drop_path_rate=0.1), (16, 32), (8, 32)),
    (ConvNeXt, dict(CONVNEXT, use_grn=True, layer_scale_init_value=0, linear_pw_conv=False), (32,), (32,)),
    (
        ResNeSt,
        dict(depth=50, base_channels=16, groups=2, base_width=8, stem_channels=16),
        (64, 128, 256, 512),
        (4, 8, 16, 32),
    ),
    (ResNeSt, dict(depth=50, base_channels=16, radix=1, avg_down_stride=False), (64, 128, 256, 512), (4, 8, 16, 32)),
    (PyramidVisionTransformer, PVT, (8, 16, 40, 64), (4, 8, 16, 32)),
    (PyramidVisionTransformerV2, PVT, (8, 16, 40, 64), (4, 8, 16, 32)),
    (EfficientNet, dict(arch='b0', out_indices=(1, 3, 5, 6)), (16, 40, 320, 1280), (2, 8, 32, 32)),
    (Darknet, dict(depth=53, out_indices=(3, 4, 5)), (256, 512, 1024), (8, 16, 32)),
    (CSPDarknet, dict(deepen_factor=0.33, widen_factor=0.125), (32, 64, 128), (8, 16, 32)),
    (
        CSPDarknet,
        dict(
            arch_ovewrite=[[64, 128, 1, True, False], [128, 256, 1, False, True]],
            widen_factor=0.125,
            use_depthwise=True,
            out_indices=(0, 2),
        ),
        (8, 32),
        (2, 8),
    ),
    (CSPNeXt, dict(deepen_factor=0.17, widen_factor=0.125), (32, 64, 128), (8, 16, 32)),
    (
        HourglassNet,
        dict(downsample_times=2, stage_channels=(8, 8, 16), stage_blocks=(1, 1, 2), feat_channel=12),
        (12, 12),
        (4, 4),
    ),
    (
        DetectoRS_ResNet,
        dict(depth=50, base_channels=4, sac=SAC, stage_with_sac=(False, True, True, False)),
        (16, 32, 64, 128),
        (4, 8, 16, 32),
    ),
    (
        DetectoRS_ResNeXt,
        dict(depth=50, base_channels=16, groups=2, base_width=8, conv_cfg=dict(type='ConvAWS')),
        (64, 128, 256, 512),
        (4, 8, 16, 32),
    ),
    (SwinTransformer, dict(SWIN, use_abs_pos_embed=True, pretrain_img_size=32), (8, 16, 32, 64), (4, 8, 16, 32)),
]


def build(cls, kwargs, **more):
    kwargs = {key: value for key, value in {**kwargs, **more}.items() if value is not None}
    torch.manual_seed(0)
    return cls(**kwargs)


@pytest.mark.parametrize(('cls', 'kwargs'), [row[:2] for row in BACKBONES])
def test_weights_in_a_detector_of_3x_are_taken_for_no_other_librarys(cls, kwargs):
    own = build(cls, kwargs).state_dict()
    for prefix in ('', 'backbone.'):
        weights = {f'{prefix}{name}': value for name, value in own.items()}
        translated, library = translate_state_dict(weights, own)
        assert library is None and list(translated) == list(weights)


@pytest.mark.parametrize(('cls', 'kwargs', 'channels', 'strides'), BACKBONES)
def test_outputs_and_gradients(cls, kwargs, channels, strides):
    model = build(cls, kwargs)
    model.train()
    outs = model(torch.randn(2, 3, 64, 96))
    assert [tuple(x.shape[2:]) for x in outs] == [(64 // s, 96 // s) for s in strides]
    if channels is not None:
        assert tuple(x.shape[1] for x in outs) == channels
    sum(x.pow(2).mean() for x in outs).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unused


@pytest.mark.parametrize(
    ('cls', 'kwargs'),
    [
        (ResNet, dict(depth=18, base_channels=4, norm_eval=False)),
        (ResNeXt, dict(depth=50, groups=2, base_width=8, base_channels=8)),
        (Res2Net, dict(depth=50, base_channels=8, base_width=8)),
        (HRNet, dict(extra=STAGES)),
        (MobileNetV2, dict(widen_factor=0.25, norm_eval=True)),
        (SwinTransformer, dict(SWIN, drop_path_rate=0.0)),
        (ConvNeXt, dict(CONVNEXT, use_grn=True)),
    ],
)
def test_checkpointing_changes_no_number(cls, kwargs):
    gradients = []
    for with_cp in (False, True):
        model = build(cls, kwargs, with_cp=with_cp)
        model.train()
        x = torch.linspace(-1, 1, 6 * 32 * 32).view(2, 3, 32, 32).requires_grad_()
        sum(out.square().mean() for out in model(x)).backward()
        gradients.append([x.grad] + [p.grad for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


@pytest.mark.parametrize(
    ('cls', 'kwargs', 'frozen', 'trained'),
    [
        (ResNet, dict(depth=18, base_channels=4), ('conv1', 'bn1', 'layer1'), ('layer2', 'layer3', 'layer4')),
        (ResNet, dict(depth=18, base_channels=4, deep_stem=True), ('stem', 'layer1'), ('layer2',)),
        (RegNet, dict(arch='regnetx_400mf'), ('conv1', 'bn1', 'layer1'), ('layer2', 'layer4')),
        (MobileNetV2, dict(widen_factor=0.25), ('conv1', 'layer1'), ('layer2', 'conv2')),
        (SwinTransformer, dict(SWIN), ('patch_embed', 'stages.0', 'norm0'), ('stages.1', 'norm1')),
        (ConvNeXt, dict(CONVNEXT), ('downsample_layers.0', 'stages.0'), ('downsample_layers.1', 'stages.1', 'norm3')),
        (Darknet, dict(), ('conv1',), ('conv_res_block1',)),
        (CSPDarknet, dict(widen_factor=0.125), ('stem', 'stage1'), ('stage2',)),
    ],
)
def test_frozen_stages(cls, kwargs, frozen, trained):
    model = build(cls, kwargs, frozen_stages=1)
    model.train()
    for name in frozen:
        module = model.get_submodule(name)
        assert not any(p.requires_grad for p in module.parameters()), name
        assert not any(m.training for m in module.modules()), name
    for name in trained:
        assert all(p.requires_grad for p in model.get_submodule(name).parameters()), name
        assert model.get_submodule(name).training


@pytest.mark.parametrize('norm_eval', [True, False])
def test_norm_eval_keeps_the_running_statistics(norm_eval):
    model = ResNet(18, base_channels=4, norm_eval=norm_eval)
    model.train()
    before = model.layer4[0].bn1.running_mean.clone()
    model(torch.randn(2, 3, 32, 32))
    assert torch.equal(before, model.layer4[0].bn1.running_mean) is norm_eval
    model.eval()
    assert not model.layer4[0].bn1.training


@pytest.mark.parametrize('fallback', [True, False])
def test_deformable_stages_without_a_default_scope(fallback):
    dcn = dict(type='DCNv2', deform_groups=1, fallback_on_stride=fallback)
    model = ResNet(50, base_channels=4, dcn=dcn, stage_with_dcn=(False, True, False, True))
    kinds = {i: type(getattr(model, f'layer{i}')[0].conv2) for i in (1, 2, 3, 4)}
    assert kinds[1] is kinds[3] is nn.Conv2d
    assert (kinds[2] is nn.Conv2d) is fallback
    assert dcn == dict(type='DCNv2', deform_groups=1, fallback_on_stride=fallback)
    assert model.eval()(torch.randn(1, 3, 32, 32))[-1].shape == (1, 128, 1, 1)


def test_plugins_stand_at_their_positions():
    plugins = [
        dict(cfg=dict(type='ContextBlock', ratio=0.25), stages=(False, True, True, True), position='after_conv3'),
        dict(cfg=dict(type='ContextBlock', ratio=0.25, postfix='_inner'), position='after_conv1'),
    ]
    model = ResNeXt(depth=50, groups=4, base_width=4, base_channels=16, plugins=plugins)
    assert not hasattr(model.layer1[0], 'context_block')
    assert model.layer2[0].context_block.in_channels == 128
    assert model.layer2[0].context_block_inner.in_channels == model.layer2[0].conv1.out_channels
    assert model.eval()(torch.randn(1, 3, 32, 32))[-1].shape[1] == 512
    with pytest.raises(ValueError, match='after_conv9'):
        ResNet(50, plugins=[dict(cfg=dict(type='ContextBlock', ratio=0.25), position='after_conv9')])


def test_initial_weights():
    model = ResNet(50, base_channels=8)
    model.init_weights()
    for name, module in model.named_modules():
        if name.endswith('bn3'):
            assert module.weight.abs().sum() == 0
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
    conv = model.layer3[0].conv2  # He: variance 2 / fan_out
    assert conv.weight.std().item() == pytest.approx((2 / (conv.out_channels * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ('make', 'error', 'message'),
    [
        (lambda: ResNet(51), KeyError, 'no depth 51'),
        (lambda: ResNet(50, style='torch'), ValueError, "'torch'"),
        (lambda: ResNet(18, dcn=dict(type='DCN'), stage_with_dcn=(True,) * 4), ValueError, 'ResNet-18'),
        (lambda: ResNet(50, pretrained='a.pth', init_cfg=dict(type='Normal')), ValueError, "'a.pth'"),
        (lambda: ResNet(50, out_indices=(4,)), ValueError, 'out_indices'),
        (lambda: RegNet('regnetx_3gf'), KeyError, 'regnetx_3.2gf'),
        (lambda: HRNet(dict(stage1=STAGES['stage1'])), KeyError, 'stage2'),
        (lambda: SwinTransformer(patch_size=2), ValueError, 'patch_size'),
        (lambda: MobileNetV2(out_indices=(8,)), ValueError, '8'),
        (lambda: ViT(depth=2, window_block_indexes=(2,)), ValueError, 'among 0 to 1'),
        (lambda: ViT(depth=2, window_block_indexes=(1,)), ValueError, 'window_size must be at least 1'),
        (lambda: ViT(embed_dim=12, num_heads=2, depth=1)(torch.zeros(1, 3, 40, 32)), ValueError, 'pad_size_divisor'),
        (lambda: ConvNeXt('teeny'), KeyError, "'teeny', only atto"),
        (lambda: ConvNeXt(dict(depths=[1], channels=[8, 16])), ValueError, 'equally many stages'),
        (lambda: ConvNeXt(out_indices=(4,)), ValueError, 'stages 0 to 3'),
        (lambda: ConvNeXt(frozen_stages=5), ValueError, 'frozen_stages must be 0 to 4'),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ('arch', 'widths', 'blocks'),
    [  # Table 5 of arXiv:2003.13678
        ('regnetx_400mf', [32, 64, 160, 384], [1, 2, 7, 12]),
        ('regnetx_3.2gf', [96, 192, 432, 1008], [2, 6, 15, 2]),
        ('regnetx_12gf', [224, 448, 896, 2240], [2, 5, 11, 1]),
    ],
)
def test_regnet_follows_the_published_widths(arch, widths, blocks):
    with torch.device('meta'):
        model = RegNet(arch)
    assert model.stage_widths == widths
    assert list(model.stage_blocks) == blocks


def test_research_code_overrides_the_joints(default_scope):
    class Thin(ResNet):
        def make_res_layer(self, **kwargs):
            return super().make_res_layer(**{**kwargs, 'num_blocks': 1})

        def _make_stem_layer(self, in_channels, stem_channels):
            super()._make_stem_layer(in_channels, stem_channels)
            self.maxpool = nn.Identity()

    model = Thin(18, base_channels=4)
    assert [len(getattr(model, name)) for name in model.res_layers] == [1, 1, 1, 1]
    assert model(torch.randn(1, 3, 32, 32))[0].shape[-1] == 16
    assert type(MODELS.build(dict(type='mmdet.ResNet', depth=18))) is ResNet


@pytest.mark.parametrize('test_branch_idx', [1, -1])
def test_trident_branches_lie_along_the_batch(test_branch_idx):
    torch.manual_seed(0)
    args = dict(depth=50, base_channels=4, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    model = TridentResNet(num_branch=3, test_branch_idx=test_branch_idx, trident_dilations=(1, 2, 3), **args)
    plain = {dilation: ResNet(**{**args, 'dilations': (1, 1, dilation)}) for dilation in (1, 2, 3)}
    x = torch.randn(2, 3, 32, 32)
    model.train()
    branches = model(x)[0].chunk(3)
    for out, (_, reference) in zip(branches, plain.items(), strict=True):
        reference.load_state_dict(model.state_dict())
        torch.testing.assert_close(out, reference.train()(x)[0])
    model.eval()
    assert len(model(x)[0]) == (2 if test_branch_idx == 1 else 6)
    if test_branch_idx == 1:
        torch.testing.assert_close(model(x)[0], plain[2].eval()(x)[0])


def test_feedback_into_the_stages():
    torch.manual_seed(0)
    model = DetectoRS_ResNet(depth=50, base_channels=4, rfp_inplanes=8, output_img=True).eval()
    x = torch.randn(1, 3, 64, 64)
    image, *outs = model(x)
    assert image is x
    back = [torch.randn(1, 8, 64 // s, 64 // s) for s in (4, 8, 16, 32)]
    again = model.rfp_forward(x, back)
    assert torch.equal(again[0], outs[0])  # nothing is fed into the first stage
    assert not torch.allclose(again[1], outs[1])
    model.init_weights()
    for a, b in zip(model.rfp_forward(x, back), model(x)[1:], strict=True):
        torch.testing.assert_close(a, b)  # the feedback starts at zero


def test_efficientnet_b3_as_in_published_detectors():
    with torch.device('meta'):
        model = EfficientNet('b3', out_indices=(3, 4, 5), drop_path_rate=0.2)
        outs = model(torch.empty(1, 3, 64, 64))
    assert [x.shape[1] for x in outs] == [48, 136, 384]
    assert [len(stage) for stage in model.layers[1:]] == [2, 3, 3, 10, 8]
    assert model.layers[2][0].se.conv1.conv.out_channels == 24 // 4


TWO_STAGES = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1))
BRIEF = {  # less to trace
    **dict.fromkeys((ResNet, ResNetV1d, ResNeXt, Res2Net, ResNeSt), TWO_STAGES),
    DetectoRS_ResNet: dict(TWO_STAGES, rfp_inplanes=8, stage_with_sac=(False, True)),
    DetectoRS_ResNeXt: TWO_STAGES,
    SwinTransformer: dict(depths=(2, 1), num_heads=(1, 2), out_indices=(0, 1), strides=(4, 2)),
    TridentResNet: dict(
        depth=50,
        base_channels=4,
        num_branch=3,
        test_branch_idx=1,
        trident_dilations=(1, 2, 3),
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
    ),
}
FIRST = {cls: dict(kwargs) for cls, kwargs, *_ in BACKBONES[::-1]} | {TridentResNet: {}}


def test_every_backbone_is_compiled_by_the_next_test():
    assert {cls.__name__ for cls in FIRST} == set(backbones.__all__) - {'TIMMBackbone'}  # which is what timm makes


@pytest.mark.parametrize('cls', FIRST)
def test_one_graph(cls, one_graph):
    model = build(cls, FIRST[cls] | BRIEF.get(cls, {})).train()
    x, outs = torch.randn(2, 3, 64, 96), []
    for call in (lambda: one_graph(model, x), lambda: model(x)):
        torch.manual_seed(0)  # of dropped paths
        outs.append(call())
    torch.testing.assert_close(*outs)


def test_dinov3_takes_its_releases():
    """Names and the masked bias of the keys as in Meta's files; what a cell shows moves with it."""
    torch.manual_seed(0)
    model = DINOv3(embed_dims=16, num_heads=2, gated=True, out_indices=(1,), num_registers=2).eval()
    model.init_weights()
    state = {}
    for name, value in model.state_dict().items():
        block = re.sub(r'^(blocks\.\d+\.).*', r'\1', name)
        if name.endswith('gamma1') or name.endswith('gamma2'):
            state[f'{block}ls{name[-1]}.gamma'] = value
        elif name.endswith('q_bias'):
            zeros = torch.zeros_like(value)
            state[f'{block}attn.qkv.bias'] = torch.cat([value, zeros, model.state_dict()[name.replace('q_b', 'v_b')]])
            state[f'{block}attn.qkv.bias_mask'] = torch.ones(48)
        elif '.w12.' in name:
            for part, half in enumerate(value.chunk(2)):
                state[name.replace('w12', f'w{part + 1}')] = half
        elif not name.endswith('v_bias'):
            state[name.replace('patch_embed.', 'patch_embed.proj.').replace('registers', 'storage_tokens')] = value
    state |= {'mask_token': torch.zeros(1, 16), 'rope_embed.periods': torch.zeros(2)}
    again = DINOv3(embed_dims=16, num_heads=2, gated=True, out_indices=(1,), num_registers=2).eval()
    again.load_state_dict(again._own_names(state))
    image = torch.randn(1, 3, 32, 48)
    torch.testing.assert_close(again(image), model(image))


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: DINOv3(out_indices=()), 'out_indices'),
        (lambda: DINOv3(embed_dims=20, num_heads=2), 'embed_dims=20'),
        (lambda: DINOv3(rescale=0.5), 'rescale'),
        (lambda: DINOv3(embed_dims=16, num_heads=2, out_indices=(0,))(torch.randn(1, 3, 40, 32)), '40x32'),
        (lambda: DINOv3STA(vit=dict(embed_dims=16, num_heads=2, out_indices=(0, 1))), 'three out_indices'),
    ],
)
def test_what_dinov3_does_not_take(make, message):
    with pytest.raises(ValueError, match=message):
        make()
