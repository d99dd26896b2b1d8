"""Weights of `transformers`' real-time detectors in ours: the same names, outputs and losses."""

import importlib

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from test_hub_weights import batch, close, loaded, randomise, saved
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet.structures.bbox import bbox_cxcywh_to_xyxy

transformers = pytest.importorskip('transformers', reason='transformers, with whose models ours are compared')

CLASSES, QUERIES, LAYERS, DIMS, GROUPS = 5, 12, 2, 32, 3
MATCHING = [
    dict(type='FocalLossCost', weight=2.0, eps=1e-8),
    dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
    dict(type='IoUCost', iou_mode='giou', weight=2.0),
]
FFN = dict(embed_dims=DIMS, feedforward_channels=48, ffn_drop=0.0)


def model(kind, head, backbone, neck, levels, loss_cls, heads=2, **changes):
    points = dict(embed_dims=DIMS, num_heads=heads, num_levels=levels, **changes.pop('points', {}))
    layer = dict(self_attn_cfg=dict(embed_dims=DIMS, num_heads=2, dropout=0.0), cross_attn_cfg=points, ffn_cfg=FFN)
    return dict(
        type=kind,
        num_queries=QUERIES,
        num_feature_levels=levels,
        backbone=backbone,
        neck=neck,
        decoder=dict(num_layers=LAYERS, layer_cfg=layer, post_norm_cfg=None),
        bbox_head=dict(
            type=head,
            num_classes=CLASSES,
            embed_dims=DIMS,
            loss_cls=loss_cls,
            loss_bbox=dict(type='L1Loss', loss_weight=5.0),
            loss_iou=dict(type='GIoULoss', loss_weight=2.0),
        ),
        train_cfg=dict(assigner=dict(type='HungarianAssigner', match_costs=MATCHING)),
        test_cfg=dict(max_per_img=QUERIES),
        **changes,
    )


def hybrid(kind, widths, **changes):
    cells = dict(
        self_attn_cfg=dict(embed_dims=DIMS, num_heads=2, dropout=0.0), ffn_cfg=dict(FFN, act_cfg=dict(type='GELU'))
    )
    encoder = dict(num_layers=1, layer_cfg=cells)
    return dict(type=kind, in_channels=widths, out_channels=DIMS, encoder=encoder, expand_ratio=0.5, **changes)


VARIFOCAL = dict(type='VarifocalLoss', detach_scale=True)
COMMON = dict(num_labels=CLASSES, num_queries=QUERIES, d_model=DIMS, decoder_layers=LAYERS, decoder_ffn_dim=48)
ENCODED = dict(
    **COMMON,
    encoder_hidden_dim=DIMS,
    encoder_ffn_dim=48,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    decoder_in_channels=[DIMS] * 3,
    hidden_expansion=0.5,
    num_denoising=0,
)


def rtdetr(depth, discrete=False):
    basic = depth < 50
    widths = [8 * 2**i * (1 if basic else 4) for i in range(4)]
    method = dict(method='discrete' if discrete else 'default')
    ours = model(
        'RTDETR',
        'DINOHead',
        dict(type='PResNet', depth=depth, base_channels=8, stem_channels=8, out_indices=(1, 2, 3)),
        hybrid('HybridEncoder', widths[1:], decoder_channels=DIMS),
        3,
        VARIFOCAL,
        points=method,
    )
    backbone = transformers.RTDetrResNetConfig(
        layer_type='basic' if basic else 'bottleneck',
        depths=[2, 2, 2, 2] if basic else [3, 4, 6, 3],
        hidden_sizes=widths,
        embedding_size=8,
        out_features=['stage2', 'stage3', 'stage4'],
    )
    options = dict(ENCODED, backbone_config=backbone, encoder_in_channels=widths[1:])
    if discrete:
        config = transformers.RTDetrV2Config(**options, decoder_method='discrete')
        return ours, transformers.RTDetrV2ForObjectDetection(config)
    return ours, transformers.RTDetrForObjectDetection(transformers.RTDetrConfig(**options))


def dfine(arch, stem, channels, blocks, layers, use_lab):
    mids = {'B0': [16, 32, 64, 128], 'B2': [32, 64, 128, 256]}[arch]
    ours = model(
        'DFINE',
        'DFINEHead',
        dict(type='HGNetV2', arch=arch, use_lab=use_lab, out_indices=(1, 2, 3)),
        hybrid('DFINEHybridEncoder', channels[1:], num_blocks=1),
        3,
        VARIFOCAL,
        points=dict(num_points=[3, 6, 3]),
    )
    backbone = transformers.HGNetV2Config(
        hidden_sizes=channels,
        stem_channels=[3, *stem],
        stage_in_channels=[stem[1], *channels[:-1]],
        stage_mid_channels=mids,
        stage_out_channels=channels,
        stage_num_blocks=blocks,
        stage_numb_of_layers=[layers] * 4,
        use_learnable_affine_block=use_lab,
        out_features=['stage2', 'stage3', 'stage4'],
    )
    config = transformers.DFineConfig(
        **ENCODED,
        backbone_config=backbone,
        encoder_in_channels=channels[1:],
        depth_mult=0.34,
        decoder_n_points=[3, 6, 3],
    )
    return ours, transformers.DFineForObjectDetection(config)


DEIM = dict(ENCODED, depth_mult=0.34, focal_loss_gamma=1.5)
MATCHABILITY = dict(type='MatchabilityAwareLoss', gamma=1.5)


def deimv2_head(model, **head):
    layer = model['decoder']['layer_cfg']
    layer['ffn_cfg'] = dict(embed_dims=DIMS, feedforward_channels=48)
    model['bbox_head'].update(head)
    return model


def deimv2_small():
    ours = model(
        'DEIMv2',
        'DFINEHead',
        dict(type='HGNetV2', arch='Pico', use_lab=True, out_indices=(2,)),
        dict(type='LiteEncoder', in_channels=[512], out_channels=DIMS, num_blocks=1, expand_ratio=0.5),
        2,
        MATCHABILITY,
        points=dict(num_points=[4, 2]),
    )
    ours['decoder']['layer_cfg']['gateway'] = False
    backbone = transformers.HGNetV2Config(
        hidden_sizes=[64, 256, 512],
        depths=[1, 1, 2],
        stem_channels=[3, 16, 16],
        stage_in_channels=[16, 64, 256],
        stage_mid_channels=[16, 32, 64],
        stage_out_channels=[64, 256, 512],
        stage_num_blocks=[1, 1, 2],
        stage_numb_of_layers=[3] * 3,
        stage_downsample=[False, True, True],
        stage_light_block=[False, False, True],
        stage_kernel_size=[3, 3, 5],
        use_learnable_affine_block=True,
        out_features=['stage3'],
    )
    config = transformers.Deimv2Config(
        **DEIM
        | dict(
            backbone_config=backbone,
            encoder_in_channels=[512],
            decoder_in_channels=[DIMS] * 2,
            num_feature_levels=2,
            feat_strides=[16, 32],
            decoder_n_points=[4, 2],
            encoder_type='lite',
            use_gateway=False,
            share_bbox_head=True,
        )
    )
    return deimv2_head(ours, share_box_branch=True), transformers.Deimv2ForObjectDetection(config)


def deimv2_plain():
    channels = [256, 512, 1024]
    ours = model(
        'DEIMv2',
        'DFINEHead',
        dict(type='HGNetV2', arch='B0', use_lab=True, out_indices=(1, 2, 3)),
        hybrid('DEIMv2HybridEncoder', channels, num_blocks=1, trailing_conv=True),
        3,
        MATCHABILITY,
        points=dict(num_points=[3, 6, 3]),
    )
    backbone = transformers.HGNetV2Config(
        hidden_sizes=[64, *channels],
        stem_channels=[3, 16, 16],
        stage_in_channels=[16, 64, 256, 512],
        stage_mid_channels=[16, 32, 64, 128],
        stage_out_channels=[64, *channels],
        stage_num_blocks=[1, 1, 2, 1],
        stage_numb_of_layers=[3] * 4,
        use_learnable_affine_block=True,
        out_features=['stage2', 'stage3', 'stage4'],
    )
    options = dict(DEIM, backbone_config=backbone, encoder_in_channels=channels, decoder_n_points=[3, 6, 3])
    return deimv2_head(ours), transformers.Deimv2ForObjectDetection(transformers.Deimv2Config(**options))


def deimv2(gated, registers, key_bias):
    vit = dict(embed_dims=48, num_heads=3, gated=gated, num_registers=registers, key_bias=key_bias)
    ours = model(
        'DEIMv2',
        'DFINEHead',
        dict(type='DINOv3STA', vit=dict(vit, rescale=None, out_indices=(0, 1, 3)), detail_channels=8),
        hybrid('DEIMv2HybridEncoder', [48 + 16, 48 + 32, 48 + 32], num_blocks=1),
        3,
        MATCHABILITY,
        points=dict(num_points=[3, 6, 3]),
    )
    backbone = transformers.DINOv3ViTConfig(
        hidden_size=48,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=3,
        key_bias=key_bias,
        use_gated_mlp=gated,
        hidden_act='silu' if gated else 'gelu',
        num_register_tokens=registers,
        pos_embed_rescale=None,
        out_features=['stage1', 'stage2', 'stage4'],
    )
    config = transformers.Deimv2Config(
        **DEIM,
        backbone_config=backbone,
        spatial_tuning_adapter_inplanes=8,
        decoder_n_points=[3, 6, 3],
        encoder_has_trailing_conv=False,
    )
    return deimv2_head(ours), transformers.Deimv2ForObjectDetection(config)


GROUPED = dict(
    **COMMON, group_detr=GROUPS, decoder_self_attention_heads=2, decoder_cross_attention_heads=4, dropout=0.0
)


def plain(backbone, scales, norm):
    neck = dict(type='C2fProjector', in_channels=[48, 48], out_channels=DIMS, scales=scales, norm_cfg=norm)
    points = dict(num_points=4, dropout=0.0)
    loss = dict(type='IoUAwareBCELoss')
    return model('LWDETR', 'LWDETRHead', backbone, neck, len(scales), loss, 4, points=points, num_groups=GROUPS)


def lwdetr(scales):
    vit = dict(type='WindowedViT', embed_dims=48, depth=4, num_heads=3, pretrain_size=64, out_indices=(1, 3))
    ours = plain(dict(vit, window_blocks=(0, 2), num_windows=2), scales, dict(type='BN'))
    backbone = dict(
        model_type='lw_detr_vit',
        image_size=128,
        hidden_size=48,
        num_hidden_layers=4,
        num_attention_heads=3,
        window_block_indices=[0, 2],
        out_indices=[2, 4],
        num_windows=4,
        pretrain_image_size=64,
    )
    config = transformers.LwDetrConfig(**GROUPED, projector_scale_factors=list(scales), backbone_config=backbone)
    return ours, transformers.LwDetrForObjectDetection(config)


def rfdetr(windows, patch):
    vit = dict(
        type='DINOv2', embed_dims=48, depth=4, num_heads=3, pretrain_size=112, patch_size=patch, num_windows=windows
    )
    ours = plain(dict(vit, out_indices=(1, 2), window_blocks=(0, 1)), (1.0,), dict(type='LN2d', eps=1e-5))
    backbone = dict(
        model_type='rf_detr_dinov2',
        hidden_size=48,
        num_hidden_layers=4,
        num_attention_heads=3,
        image_size=112,
        patch_size=patch,
        out_features=['stage2', 'stage3'],
        num_windows=windows,
    )
    return ours, transformers.RfDetrForObjectDetection(transformers.RfDetrConfig(**GROUPED, backbone_config=backbone))


def rfdetr_masks(windows, patch):
    """Matched by classes and boxes alone: theirs draws another number of points for its costs."""
    ours, theirs = rfdetr(windows, patch)
    theirs.config.update(dict(mask_class_loss_coefficient=0, mask_dice_loss_coefficient=0, intermediate_size=4 * DIMS))
    return seg_model(ours), transformers.RfDetrForInstanceSegmentation(theirs.config)


def seg_model(model):
    return dict(model, type='RFDETRSeg', bbox_head=dict(model['bbox_head'], type='RFDETRSegHead'))


PAIRS = {
    'RT-DETR of 18': lambda: rtdetr(18),
    'RT-DETR of 50': lambda: rtdetr(50),
    'RT-DETRv2 with nearest cells': lambda: rtdetr(18, discrete=True),
    'D-FINE of B0': lambda: dfine('B0', (16, 16), [64, 256, 512, 1024], [1, 1, 2, 1], 3, True),
    'D-FINE of B2': lambda: dfine('B2', (24, 32), [96, 384, 768, 1536], [1, 1, 3, 1], 4, False),
    'DEIMv2 of Pico': deimv2_small,
    'DEIMv2 of B0': deimv2_plain,
    'DEIMv2 of DINOv3': lambda: deimv2(False, 2, False),
    'DEIMv2 of a gated DINOv3': lambda: deimv2(True, 0, True),
    'LW-DETR of one level': lambda: lwdetr((1.0,)),
    'LW-DETR of two levels': lambda: lwdetr((2.0, 0.5)),
    'RF-DETR': lambda: rfdetr(2, 14),
    'RF-DETR of another patch': lambda: rfdetr(1, 16),
    'RF-DETR with masks': lambda: rfdetr_masks(2, 14),
    'RF-DETR with masks of another patch': lambda: rfdetr_masks(1, 16),
}
SIZES = {name: ((112, 112), (224, 224)) if name.startswith('RF') else ((128, 64), (96, 160)) for name in PAIRS}


CONSTANTS = ('decoder.up', 'decoder.reg_scale', 'points_scale')


def strong(theirs):
    """Random weights that tell the cells apart, so that no two of them tie."""
    constants = {name: value.clone() for name, value in theirs.state_dict().items() if name.endswith(CONSTANTS)}
    randomise(theirs)
    theirs.load_state_dict(constants, strict=False)
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if name.endswith(('position_embeddings', 'lambda1')) or '.gamma_' in name:
                torch.nn.init.normal_(value, std=0.5)
    return theirs


def scenes(size):
    """Two images whose parts differ, for ours and theirs."""
    inputs, samples = batch([size] * 2)
    noise = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(2)) * 2
    return torch.nn.functional.interpolate(noise, size, mode='bilinear') + inputs['pixel_values'] * 0.2, samples


def evaluated(model):
    """Training, but for norms."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return model


@pytest.fixture(scope='module', params=PAIRS)
def pair(request, tmp_path_factory):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    cfg, theirs = PAIRS[request.param]()
    folder = saved(strong(theirs), tmp_path_factory.mktemp('weights'))
    ours, report = loaded(ConfigDict(cfg), folder)
    return request.param, cfg, theirs.eval(), ours, report


def test_every_weight_is_used(pair):
    _, cfg, theirs, ours, report = pair
    labels = [key for key in report.missing if 'label_embedding' in key]  # those of denoising, which theirs has not
    assert (report.missing, report.unexpected, report.wrong_shape) == (labels, [], [])
    again, report = loaded_from_state(cfg, theirs)
    assert (report.missing, report.unexpected, report.wrong_shape) == (labels, [], [])
    for key, value in ours.state_dict().items():
        assert key in labels or torch.equal(value, again.state_dict()[key]), key


def loaded_from_state(cfg, theirs):
    from mmdet.engine.weights import load_weights
    from mmdet.registry import MODELS

    again = MODELS.build(ConfigDict(cfg)).eval()
    return again, load_weights(again, theirs.state_dict())


def labelled(samples):
    """Ground truths for our samples, and as their models take them."""
    found = []
    generator = torch.Generator().manual_seed(1)
    for sample, count in zip(samples, (3, 1)):
        height, width = sample.img_shape
        boxes = torch.rand(count, 4, generator=generator) * 0.3 + 0.25
        classes = torch.randint(CLASSES, (count,), generator=generator)
        corners = bbox_cxcywh_to_xyxy(boxes) * torch.tensor([width, height] * 2)
        sample.gt_instances = InstanceData(bboxes=corners, labels=classes)
        x, y = torch.arange(width) + 0.5, torch.arange(height)[:, None] + 0.5
        inside = ((x - corners[:, None, None, 0]) * (corners[:, None, None, 2] - x) > 0) & (
            (y - corners[:, None, None, 1]) * (corners[:, None, None, 3] - y) > 0
        )
        sample.gt_instances.masks = inside.to(torch.uint8)
        found.append(dict(class_labels=classes, boxes=boxes, masks=inside.float()))
    return found


@pytest.mark.parametrize('index', [0, 1])
def test_same_outputs(pair, index):
    name, _, theirs, ours, _ = pair
    images, samples = scenes(SIZES[name][index])
    with torch.no_grad():
        want = theirs(images)
        scores, boxes = ours(images, samples, mode='tensor')[:2]
        found = ours.predict(images, samples)
    mine, other = torch.cat([scores[-1], boxes[-1]], -1), torch.cat([want.logits, want.pred_boxes], -1)
    nearest = (mine[:, :, None] - other[:, None]).abs().amax(-1).min(2)  # cells of equal scores may change places
    assert nearest.values.max() < 1e-4
    assert all(len(index.unique()) == QUERIES for index in nearest.indices)
    if 'masks' in name:
        with torch.no_grad():
            mine = ours(images, samples, mode='tensor')[2]
        for one, other, place in zip(mine, want.pred_masks, nearest.indices):
            torch.testing.assert_close(one, other[place], rtol=1e-4, atol=1e-3)
        assert found[0].pred_instances.masks.shape == (QUERIES, *SIZES[name][index])
    best = want.logits.sigmoid().flatten(1).topk(QUERIES).values
    for sample, values in zip(found, best):
        close(sample.pred_instances.scores, values)


def without_denoising(model, monkeypatch):
    if hasattr(model, '_with_denoising'):
        alone = lambda query, boxes, samples: (dict(query=query, reference_points=boxes.sigmoid(), dn_mask=None), None)
        monkeypatch.setattr(model, '_with_denoising', alone)


def test_same_losses(pair, monkeypatch):
    """All losses that both define.

    Theirs of D-FINE leave the decoder layer before the last out, which counts in the votes of ours: its losses are
    those of matching alone.
    """
    name, _, theirs, ours, _ = pair
    images, samples = scenes(SIZES[name][0])
    labels = labelled(samples)
    without_denoising(ours, monkeypatch)
    if 'masks' in name:  # points without chance, the same for every mask
        rand = torch.rand
        alike = lambda *shape, **rest: rand(shape[-2:], generator=torch.Generator().manual_seed(0)).expand(shape)
        monkeypatch.setattr(torch, 'rand', alike)
    with torch.no_grad():
        want = evaluated(theirs)(images, labels=labels).loss_dict
        found = evaluated(ours).loss(images, samples)
    theirs.eval(), ours.eval()
    if name.startswith(('LW', 'RF')):
        pairs = {'loss_cls': ('loss_ce', 1), 'loss_bbox': ('loss_bbox', 5), 'loss_iou': ('loss_giou', 2)}
        suffixes = {'': '', 'd0.': '_0', 'enc_': '_enc'}
        if 'masks' in name:
            pairs |= {'loss_mask': ('loss_mask_ce', 5), 'loss_dice': ('loss_mask_dice', 5)}
    else:
        pairs = {'loss_cls': ('loss_vfl', 1), 'loss_bbox': ('loss_bbox', 1), 'loss_iou': ('loss_giou', 1)}
        suffixes = {'': '', 'd0.': '_aux_0', 'enc_': '_aux_1'}
    if name.startswith(('D-FINE', 'DEIMv2')):
        pairs, suffixes = (
            {'loss_cls': ('loss_mal' if name.startswith('DEIM') else 'loss_vfl', 1)},
            {'': '', 'pre_': '_aux_0', 'enc_': '_aux_1'},
        )
    for kind, suffix in suffixes.items():
        for key, (their_key, weight) in pairs.items():
            close(
                found[f'{kind}{key}'],
                want[f'{their_key}{suffix}'] * weight,
                2e-4 * max(1.0, float(found[f'{kind}{key}'])),
            )


VOTED = [name for name in PAIRS if name.startswith('DEIMv2')]


@pytest.mark.parametrize('pair', VOTED, indirect=True)
def test_same_losses_of_voted_pairs(pair, monkeypatch):
    """What the two compute of the same outputs, where theirs is given all of the layers."""
    name, _, theirs, ours, _ = pair
    criterion = importlib.import_module('transformers.loss.loss_deimv2').Deimv2Loss(theirs.config)
    images, samples = scenes(SIZES[name][0])
    labels = labelled(samples)
    without_denoising(ours, monkeypatch)
    head, given = ours.bbox_head, []
    kept = head.loss_by_feat
    monkeypatch.setattr(head, 'loss_by_feat', lambda *args: given.append(args) or kept(*args))
    with torch.no_grad():
        found = evaluated(ours).loss(images, samples)
        ours.eval()
        scores, boxes, corners, first_scores, start, encoder_scores, encoder_boxes, *_ = given[0]
        layers = [
            dict(
                logits=scores[i],
                pred_boxes=boxes[i].clamp(0, 1),
                pred_corners=corners[i],
                ref_points=start[0],
                teacher_corners=corners[-1],
                teacher_logits=scores[-1],
            )
            for i in range(LAYERS)
        ]
        first = dict(logits=first_scores[0], pred_boxes=start[0].clamp(0, 1))
        encoder = dict(logits=encoder_scores, pred_boxes=encoder_boxes.clamp(0, 1))
        want = criterion({**layers[-1], 'auxiliary_outputs': [first, *layers[:-1], encoder]}, labels)
    kinds = {'': '', 'pre_': '_aux_0', 'd0.': '_aux_1', 'enc_': '_aux_2'}
    terms = ('cls', 'mal'), ('bbox', 'bbox'), ('iou', 'giou'), ('fgl', 'fgl'), ('ddf', 'ddf')
    wanted = {
        f'{kind}loss_{term}': want[f'loss_{theirs}{suffix}']
        for kind, suffix in kinds.items()
        for term, theirs in terms
        if f'loss_{theirs}{suffix}' in want
    }
    assert set(found) == {key for key in wanted if key != 'loss_ddf'}  # nothing is above the last layer
    for key in found:
        close(found[key], wanted[key], 2e-4 * max(1.0, float(wanted[key])))
