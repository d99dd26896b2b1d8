"""Arguments of layers, backbones, necks and losses that cannot work are refused, those that can are taken.

Each refusal is an AssertionError beside its own kind, for callers that catch what MMDetection 3.x raises.
"""

import pytest
import torch

from mmdet.models import backbones, layers, losses, necks
from mmdet.models.backbones.trident_resnet import TridentBottleneck
from mmdet.models.layers.patch import PatchMerging
from mmdet.models.layers.res_layer import SimplifiedBasicBlock

RELU = dict(type='ReLU')
CHANNELS = [8, 16, 32, 64]
TRIDENT = dict(trident_dilations=(1, 2, 3), test_branch_idx=1, concat_output=True, inplanes=64, planes=16)
SAC = dict(depth=50, stage_with_sac=(False, True, True, True), sac=dict(type='SAC', use_deform=True))


@pytest.mark.parametrize(
    'build, kwargs',
    [
        (backbones.HourglassNet, dict(num_stacks=0)),
        (backbones.SwinTransformer, dict(pretrain_img_size=(224, 224, 224))),
        (backbones.PyramidVisionTransformer, dict(pretrain_img_size=(224, 224, 224))),
        (backbones.DetectoRS_ResNet, dict(SAC, init_cfg=['Pretrained'])),
        (backbones.DetectoRS_ResNet, dict(SAC, init_cfg=dict(checkpoint='x'))),
        (backbones.DetectoRS_ResNet, dict(SAC, init_cfg=dict(type='Normal'))),
        (TridentBottleneck, dict(TRIDENT, style='tensorflow')),
        (SimplifiedBasicBlock, dict(inplanes=8, planes=8, with_cp=True)),
        (layers.SELayer, dict(channels=32, act_cfg=[RELU, RELU])),
        (layers.DyReLU, dict(channels=32, act_cfg=[RELU, RELU])),
        (layers.InvertedResidual, dict(in_channels=8, out_channels=8, mid_channels=8, se_cfg=[])),
        (layers.DropBlock, dict(drop_prob=0.5, block_size=-1)),
        (
            necks.DilatedEncoder,
            dict(in_channels=8, out_channels=8, block_mid_channels=8, num_residual_blocks=3, block_dilations=[2]),
        ),
        (necks.NASFPN, dict(in_channels=8, out_channels=8, num_outs=5, stack_times=1)),
        (necks.NASFCOS_FPN, dict(in_channels=8, out_channels=8, num_outs=5)),
        (necks.HRFPN, dict(in_channels=8, out_channels=8)),
        (losses.Accuracy, dict(topk='best')),
    ],
)
def test_constructors_refuse(build, kwargs):
    with pytest.raises(AssertionError):
        build(**kwargs)


def test_first_sizes_may_be_one_number():
    for size in (32, (32,), (32, 32)):
        net = backbones.PyramidVisionTransformer(pretrain_img_size=size, num_layers=[1, 1, 1, 1], embed_dims=8)
        assert net.layers[0][1][0].pos_embed.shape[1] == 64


def test_more_dilations_than_blocks():
    encoder = necks.DilatedEncoder(8, 16, 4, 2, [2, 4, 6, 8])
    assert len(encoder.dilated_encoder_blocks) == 2
    assert encoder([torch.rand(1, 8, 9, 9)])[0].shape == (1, 16, 9, 9)


@pytest.mark.parametrize('neck', [necks.NASFPN, necks.NASFCOS_FPN])
def test_searched_necks_complain_of_their_inputs_when_they_run(neck):
    feats = [torch.rand(1, channels, size, size) for channels, size in zip(CHANNELS, (32, 16, 8, 4), strict=True)]
    more = dict(stack_times=1) if neck is necks.NASFPN else {}
    right = neck(in_channels=CHANNELS, out_channels=8, start_level=1, num_outs=5, **more)
    with pytest.raises(AssertionError, match='4 feature maps'):
        right(feats[:3])
    other = neck(in_channels=CHANNELS, out_channels=8, start_level=1, end_level=2, num_outs=2, **more)
    with pytest.raises(ValueError, match='NAS'):
        other(feats)


def test_attributes_by_their_names():
    ssd = dict(in_channels=[4], out_channels=[4, 8], level_strides=[2], level_paddings=[1])
    assert necks.SSDNeck(**ssd).l2_norm.weight.tolist() == [20.0] * 4
    assert not hasattr(necks.SSDNeck(**ssd, l2_norm_scale=None), 'l2_norm')
    assert backbones.pvt.SpatialReductionAttention(64, 8).num_heads == 8
    assert TridentBottleneck(**TRIDENT).num_branch == 3


def test_branches_of_a_block_come_as_a_batch_or_as_a_tuple():
    together = TridentBottleneck(**TRIDENT).eval()
    apart = TridentBottleneck(**dict(TRIDENT, concat_output=False)).eval()
    apart.load_state_dict(together.state_dict())
    for block in (together, apart):
        block.test_branch_idx = block.conv2.test_branch_idx = -1
    x = torch.rand(2, 64, 6, 6)
    maps = apart(x)
    assert [tuple(part.shape) for part in maps] == [(2, 64, 6, 6)] * 3
    assert torch.equal(torch.cat(maps), together(x)) and together(x).shape == (6, 64, 6, 6)
    assert torch.equal(together(maps), together(tuple(part.clone() for part in maps)))


def test_inputs_of_layers():
    with pytest.raises(TypeError, match='list or tuple'):
        necks.CTResNetNeck(8, (8,), (4,), use_dcn=False)(torch.rand(1, 8, 4, 4))
    with pytest.raises(TypeError, match='input_size'):
        PatchMerging(3, 6, 2)(torch.rand(1, 12, 3), None)


SIMILAR = dict(neg_pos_ub=2, neg_margin=0.1, hard_mining=True)


@pytest.mark.parametrize(
    'loss, kwargs, inputs, options',
    [
        ('MarginL2Loss', SIMILAR, ((4, 5), (4, 5)), dict(avg_factor=10, reduction_override='sum')),
        ('L2Loss', SIMILAR, ((4, 5), (4, 5)), dict(avg_factor=10, reduction_override='sum')),
        ('VarifocalLoss', {}, ((4, 5), (4, 3)), {}),
        ('KnowledgeDistillationKLDivLoss', {}, ((4, 5), (4, 3)), {}),
        ('MultiPosCrossEntropyLoss', {}, ((4, 5), (4, 3)), {}),
        ('DiceLoss', {}, ((4, 5), (4, 5), (3,)), {}),
        ('IoULoss', {}, ((4, 4), (4, 4), (3,)), {}),
        ('Accuracy', {}, ((4, 5), (3,)), {}),
        ('Accuracy', {}, ((4, 5, 2), (4,)), {}),
    ],
)
def test_losses_refuse(loss, kwargs, inputs, options):
    with pytest.raises(ValueError) as caught:
        getattr(losses, loss)(**kwargs)(*(torch.rand(shape) for shape in inputs), **options)
    assert isinstance(caught.value, AssertionError)


def test_dice_is_defined_with_a_sigmoid():
    with pytest.raises(NotImplementedError, match='sigmoid'):
        losses.DiceLoss(use_sigmoid=False, activate=True)


@pytest.mark.parametrize('count', [5, 0])
@pytest.mark.parametrize('name', ['BoundedIoULoss', 'IoULoss', 'GIoULoss', 'DIoULoss', 'CIoULoss', 'EIoULoss'])
def test_box_losses_take_a_weight_for_each_box(name, count):
    pred, target = torch.rand(count, 4).cumsum(1), torch.rand(count, 4).cumsum(1)
    loss, weight = getattr(losses, name)(), torch.rand(count)
    once, fourfold = (loss(pred, target, w, reduction_override='sum') for w in (weight, weight[:, None].expand(-1, 4)))
    assert torch.allclose(once, fourfold)
    assert loss(pred, target, weight, avg_factor=3).shape == ()
