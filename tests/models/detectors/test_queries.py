"""Detectors whose queries become detections, small enough for a test."""

import copy

import pytest
import torch
from fake_gpu import WaitingCopies, fake_weights
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmdet.engine.compilation import compile_networks, networks
from mmdet.engine.deployment import deploy
from mmdet.models.core import set_matching
from mmdet.models.dense_heads import detr_head
from mmdet.models.detectors.base_detr import padding_masks
from mmdet.models.layers.rep_layer import RepVGGBlock
from mmdet.models.layers.transformer import (
    CdnQueryGenerator,
    ConditionalAttention,
    DeformableDetrTransformerDecoder,
    DeformableDetrTransformerEncoder,
    DetrTransformerEncoder,
)
from mmdet.models.layers.transformer.attention import MultiheadAttention
from mmdet.ops import focal_loss
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

pytestmark = pytest.mark.usefixtures('default_scope')

DIMS, CLASSES, QUERIES = 16, 3, 6
PADDED = (64, 96)
FFN = dict(embed_dims=DIMS, feedforward_channels=8, num_fcs=2, ffn_drop=0.0)
ATTENTION = dict(embed_dims=DIMS, num_heads=2, dropout=0.0, batch_first=True)
FOCAL = dict(type='FocalLoss', use_sigmoid=True)
GROUPS = dict(group_cfg=dict(dynamic=True, num_dn_queries=5))


def detector(kind, head, levels, self_attn, cross_attn, encoder=ATTENTION, decoder=None, **changes):
    first = 'ClassificationCost' if head == 'DETRHead' else 'FocalLossCost'
    costs = [dict(type=first), dict(type='BBoxL1Cost', box_format='xywh'), dict(type='IoUCost')]
    own_loss = {} if head == 'DETRHead' else dict(loss_cls=FOCAL)
    layer = dict(self_attn_cfg=self_attn, cross_attn_cfg=cross_attn, ffn_cfg=FFN)
    return dict(
        type=kind,
        num_queries=QUERIES,
        backbone=dict(type='ResNet', depth=18, base_channels=4, out_indices=levels, norm_eval=True),
        neck=dict(
            type='ChannelMapper',
            in_channels=[4 * 2**level for level in levels],
            kernel_size=1,
            out_channels=DIMS,
            act_cfg=None,
            norm_cfg=None,
            num_outs=len(levels) + (len(levels) > 1),
        ),
        encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=encoder, ffn_cfg=FFN)),
        decoder=dict(num_layers=2, layer_cfg=layer, **(decoder or {})),
        positional_encoding=dict(num_feats=DIMS // 2, normalize=True),
        bbox_head=dict(type=head, num_classes=CLASSES, embed_dims=DIMS, **own_loss),
        train_cfg=dict(assigner=dict(type='HungarianAssigner', match_costs=costs)),
        test_cfg=dict(max_per_img=5),
        **changes,
    )


def conditional(kind, **changes):
    attention = dict(embed_dims=DIMS, num_heads=2)
    return detector(kind, f'{kind}Head', (3,), attention, dict(attention, cross_attn=True), **changes)


def deformable(kind='DeformableDETR', **changes):
    points = dict(embed_dims=DIMS, num_heads=2, num_levels=3, num_points=2, dropout=0.0)
    own = dict(post_norm_cfg=None)
    return detector(kind, f'{kind}Head', (2, 3), ATTENTION, points, points, own, num_feature_levels=3, **changes)


def dino(kind, **changes):
    return deformable(kind, with_box_refine=True, as_two_stage=True, dn_cfg=GROUPS, **changes)


def dfine():
    model = rtdetr(num_points=[1, 2])
    model['neck'] = dict(model['neck'], type='DFINEHybridEncoder')
    model['bbox_head'] = dict(model['bbox_head'], type='DFINEHead', reg_max=8)
    return dict(model, type='DFINE')


def deimv2(lite=False):
    model = dfine()
    model['decoder']['layer_cfg']['ffn_cfg'] = dict(embed_dims=DIMS, feedforward_channels=8)
    neck = dict(model['neck'], type='DEIMv2HybridEncoder')
    if lite:
        model['decoder']['layer_cfg']['gateway'] = False
        model['bbox_head'] |= dict(share_box_branch=True, loss_fgl_weight=0.0, loss_ddf_weight=0.0)
        model['backbone'] = dict(
            model['backbone'], num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,)
        )
        neck = dict(type='LiteEncoder', in_channels=[16], out_channels=DIMS, num_blocks=1)
    return dict(model, type='DEIMv2', neck=neck)


def deimv2_of_dinov3():
    vit = dict(embed_dims=16, num_heads=2, out_indices=(0, 1, 2), num_registers=1)
    model = deimv2()
    model['neck'] = dict(model['neck'], in_channels=[24, 32, 32], encode_levels=(2,))
    model['decoder']['layer_cfg']['cross_attn_cfg'] |= dict(num_levels=3, num_points=[1, 2, 1])
    return dict(model, backbone=dict(type='DINOv3STA', vit=vit, detail_channels=4), num_feature_levels=3)


def lwdetr(backbone='WindowedViT', scales=(2.0, 0.5), norm='BN'):
    points = dict(embed_dims=DIMS, num_heads=2, num_levels=len(scales), num_points=2, dropout=0.0)
    loose = dict(ATTENTION)
    model = detector('LWDETR', 'LWDETRHead', (2, 3), ATTENTION, points, decoder=dict(post_norm_cfg=None), num_groups=2)
    model['decoder']['layer_cfg']['self_attn_cfg'] = loose
    vit = dict(type=backbone, embed_dims=12, depth=3, num_heads=2, patch_size=8, pretrain_size=32, num_windows=2)
    model['backbone'] = dict(vit, out_indices=(0, 2), window_blocks=(0,))
    model['neck'] = dict(type='C2fProjector', in_channels=[12, 12], out_channels=DIMS, scales=scales, num_blocks=1)
    model['neck']['norm_cfg'] = dict(type=norm)
    model['bbox_head']['loss_cls'] = dict(type='IoUAwareBCELoss')
    left = {key: value for key, value in model.items() if key not in ('encoder', 'positional_encoding')}
    return dict(left, num_feature_levels=len(scales))


def rfdetr_seg():
    model = lwdetr('DINOv2', (1.0,), 'LN2d')
    return dict(model, type='RFDETRSeg', bbox_head=dict(model['bbox_head'], type='RFDETRSegHead'))


def rtdetr(**attention):
    """The neck is the encoder; samples of the two levels are taken as ``attention`` says."""
    points = dict(embed_dims=DIMS, num_heads=2, num_levels=2, **attention)
    model = detector('RTDETR', 'DINOHead', (2, 3), ATTENTION, points, decoder=dict(post_norm_cfg=None), dn_cfg=GROUPS)
    layer = dict(self_attn_cfg=dict(ATTENTION), ffn_cfg=dict(FFN, act_cfg=dict(type='GELU')))
    encoder = dict(num_layers=1, layer_cfg=layer)
    mix = dict(type='HybridEncoder', in_channels=[16, 32], out_channels=DIMS, encode_levels=(1,), encoder=encoder)
    model['neck'] = dict(mix, num_blocks=1, decoder_channels=DIMS)
    model['bbox_head']['loss_cls'] = dict(type='VarifocalLoss', use_sigmoid=True)
    return {key: value for key, value in model.items() if key not in ('encoder', 'positional_encoding')}


DETECTORS = {
    'DETR': detector('DETR', 'DETRHead', (3,), ATTENTION, ATTENTION),
    'ConditionalDETR': conditional('ConditionalDETR'),
    'DABDETR': conditional('DABDETR'),
    'DABDETR of patterns': conditional(
        'DABDETR', num_patterns=2, decoder=dict(query_scale_type='fix_elewise', with_modulated_hw_attn=False)
    ),
    'DABDETR of points': conditional(
        'DABDETR', decoder=dict(query_dim=2, query_scale_type='cond_scalar', with_modulated_hw_attn=False)
    ),
    'DeformableDETR': deformable(),
    'DeformableDETR refined': deformable(with_box_refine=True),
    'DeformableDETR of two stages': deformable(with_box_refine=True, as_two_stage=True),
    'DINO': dino('DINO'),
    'DDQDETR': dino('DDQDETR'),
    'RTDETR': rtdetr(num_points=[1, 2]),
    'RTDETR whose first layer detects': rtdetr(num_points=1)
    | dict(decoder=dict(rtdetr(num_points=1)['decoder'], eval_idx=0)),
    'DFINE': dfine(),
    'DEIMv2': deimv2(),
    'DEIMv2 of one map': deimv2(lite=True),
    'DEIMv2 with DINOv3': deimv2_of_dinov3(),
    'LWDETR': lwdetr(),
    'LWDETR with DINOv2': lwdetr('DINOv2', (1.0,), 'LN2d'),
    'RFDETRSeg': rfdetr_seg(),
    'RTDETR with discrete samples': rtdetr(num_points=2, method='discrete'),
    'RTDETR with learned contents': rtdetr(with_projection=False) | dict(learn_initial_query=True),
}


def build(name, **changes):
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(copy.deepcopy({**DETECTORS[name], **changes})))
    model.init_weights()
    return model


def lively(model):
    """In evaluation mode, with batch norms that do something."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def batch(*shapes, count=2):
    generator = torch.Generator().manual_seed(1)
    found = []
    for number, shape in enumerate(shapes):
        sample = DetDataSample(
            metainfo=dict(
                img_shape=shape, batch_input_shape=PADDED, pad_shape=PADDED, ori_shape=shape, scale_factor=(1.0, 1.0)
            )
        )
        corner = torch.rand(count * (1 - number % 2), 2, generator=generator) * 20  # every other image is empty
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + 20], 1),
            labels=torch.arange(len(corner)) % CLASSES,
            masks=(torch.rand(len(corner), *shape, generator=generator) > 0.5).to(torch.uint8),
        )
        found.append(sample)
    return torch.randn(len(shapes), 3, *PADDED, generator=generator), found


def flat(losses):
    """Some losses of DDQ-DETR are lists."""
    return {name: sum(value) if isinstance(value, list) else value for name, value in losses.items()}


@pytest.mark.parametrize(
    'shapes, count',
    [((PADDED, PADDED), 2), ((PADDED, (40, 64)), 2), ((PADDED, (40, 64)), 0)],
    ids=['whole', 'padded', 'empty'],
)
@pytest.mark.parametrize('name', DETECTORS)
def test_losses_reach_every_parameter(name, shapes, count):
    model = build(name)
    losses = flat(model(*batch(*shapes, count=count), mode='loss'))
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    learned = {key: value.grad for key, value in model.named_parameters() if value.requires_grad}
    assert not [key for key, grad in learned.items() if grad is None or not grad.isfinite().all()]


@pytest.mark.parametrize('name', [name for name in DETECTORS if name != 'DDQDETR'])  # whose queries may be cells of it
def test_predictions_do_not_see_the_padding(name):
    model = build(name).eval()
    images, samples = batch((40, 64), (64, 96))
    with torch.no_grad():
        feats = model.extract_feat(images)
        outputs = model.forward_transformer(feats, samples)
        masks = padding_masks(feats, samples)
        other = tuple(feat.masked_fill(mask[:, None], 9.0) for feat, mask in zip(feats, masks))
        again = model.forward_transformer(other, samples)
        torch.testing.assert_close(outputs['hidden_states'], again['hidden_states'], rtol=1e-4, atol=1e-4)
        results = model(images, samples, mode='predict')
    for result, (height, width) in zip(results, [(40, 64), (64, 96)]):
        boxes = result.pred_instances.bboxes
        assert boxes.shape == (5, 4) and (boxes <= torch.tensor([width, height] * 2)).all() and (boxes >= 0).all()


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('name', DETECTORS)
def test_bare_outputs(name, training):
    model = build(name).train(training)
    images, samples = batch(PADDED)
    scores, boxes = model(images, samples, mode='tensor')[:2]
    queries = QUERIES * max(1, getattr(model, 'num_patterns', 0))
    queries *= getattr(model, 'num_groups', 1) if training else 1
    layers = 2 if training else getattr(model.decoder, 'eval_idx', 1) + 1
    assert scores.shape[:2] == boxes.shape[:2] == (layers, 1) and scores.shape[2] == boxes.shape[2] >= queries
    again = model(images, mode='tensor')[0]  # without samples nothing is padding, and nothing is denoised
    torch.testing.assert_close(again, scores[:, :, -again.shape[2] :])
    assert again.shape[2] == queries or (training and name == 'DDQDETR')  # then dense ones are there, too


QUICKLY_COMPILED = ('DETR',)


@pytest.mark.parametrize(
    'name', [name if name in QUICKLY_COMPILED else pytest.param(name, marks=pytest.mark.slow) for name in DETECTORS]
)
def test_compiled_networks_compute_the_same(name):
    """Through the compiler's front end alone, without a break of the graph; more queries are one more graph."""
    torch._dynamo.reset()
    model = build(name).train()
    torch.manual_seed(1)
    expected = [flat(model(*batch(PADDED, PADDED, count=count), mode='loss')) for count in (2, 3)]
    names = compile_networks(model, dict(backend='eager', fullgraph=True))
    assert {'backbone', 'neck', 'decoder.layers.1', 'bbox_head'} <= set(names)
    assert ('encoder.layers.1' in names) == isinstance(model.encoder, torch.nn.Module)
    torch.manual_seed(1)
    for count, losses in zip((2, 3), expected):
        for key, value in flat(model(*batch(PADDED, PADDED, count=count), mode='loss')).items():
            torch.testing.assert_close(value, losses[key])
    graphs = {name: module._compiled_call_impl.graphs for name, module in networks(model)}
    assert graphs['decoder.layers.1'] in (1, 2) and max(graphs.values()) <= 2
    torch._dynamo.reset()


class LastLayer(torch.nn.Module):
    """Logits and boxes of the last layer alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        scores, boxes = self.model(images, mode='tensor')[:2]
        return scores[-1], boxes[-1]


REAL_TIME = [name for name in DETECTORS if name.startswith(('RTDETR', 'DFINE', 'DEIMv2', 'LWDETR', 'RFDETRSeg'))]


@pytest.mark.parametrize('name', REAL_TIME)
def test_export(name):
    network, images = LastLayer(build(name).eval()), torch.randn(2, 3, *PADDED)
    exported = torch.export.export(network, (images,), strict=False).module()
    other = torch.randn(2, 3, *PADDED)
    torch.testing.assert_close(exported(other), network(other))


def results(found):
    return torch.cat([torch.cat([one.pred_instances.bboxes, one.pred_instances.scores[:, None]], 1) for one in found])


@pytest.mark.parametrize('name', DETECTORS)
def test_deployed(name):
    """The same outputs and detections from a graph without what training needs."""
    model = lively(build(name))
    _, samples = batch(PADDED, PADDED)
    images, other = torch.randn(2, 3, *PADDED), torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        whole, want = model(images, mode='tensor'), results(model.predict(images, copy.deepcopy(samples)))
        of_another_size = model(other, mode='tensor')
    parameters = sum(value.numel() for value in model.parameters())
    deploy(model, PADDED)
    assert sum(value.numel() for value in model.parameters()) < parameters
    left = [module for module in model.modules() if isinstance(module, RepVGGBlock) and hasattr(module, 'conv1')]
    assert not left and not any(isinstance(module, _BatchNorm) for module in model.modules())
    with torch.no_grad():
        for pictures, outputs in ((images, whole), (other, of_another_size)):
            for before, now in zip(outputs[:2], model(pictures, mode='tensor')[:2]):
                torch.testing.assert_close(now[-1], before[-1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(results(model.predict(images, samples)), want, rtol=1e-5, atol=1e-4)
    with pytest.raises(RuntimeError, match='deployed'):
        model.loss(images, samples)
    if name in REAL_TIME:
        network = LastLayer(model)
        exported = torch.export.export(network, (images,), strict=False).module()
        torch.testing.assert_close(exported(images * 0.5), network(images * 0.5))


@pytest.mark.parametrize('name', DETECTORS)
def test_the_transformer_never_looks_at_the_data(name):
    model = build(name)
    prepare = model.pre_transformer

    def with_numbers(feats, samples):  # a tensor on the host would be a fake one, too
        shapes = [tuple(feat.shape[-2:]) for feat in feats]
        both = prepare(feats, samples)
        return tuple({**given, 'spatial_shapes': shapes} if 'spatial_shapes' in given else given for given in both)

    model.pre_transformer = with_numbers
    with FakeTensorMode() as mode:
        fake_weights(mode, model)
        images, samples = batch(PADDED, (40, 64))
        scores, boxes, *_ = model(images, samples, mode='tensor')  # and masks
    assert scores.shape[:2] == boxes.shape[:2] == (2, 2)


@pytest.mark.parametrize('name', DETECTORS)
def test_methods_are_called_in_turn(name):
    model, calls = build(name), []

    def counted(method):
        def call(self, *args, **kwargs):
            calls.append(method)
            return getattr(super(kind, self), method)(*args, **kwargs)

        return call

    turn = ['forward_transformer', 'pre_transformer', 'forward_encoder', 'pre_decoder', 'forward_decoder']
    kind = type('Own', (type(model),), {method: counted(method) for method in turn})
    losses = lambda: flat((torch.manual_seed(0), model(*batch(PADDED, PADDED), mode='loss'))[1])  # noise is drawn
    expected = losses()
    model.__class__ = kind
    found = losses()
    assert calls == turn
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_weights_of_ddq_that_have_two_names_load():
    state = build('DDQDETR').state_dict()
    again = {f'decoder.{key.partition(".")[2]}': value for key, value in state.items() if 'aux_reg' in key}
    assert again
    build('DDQDETR').load_state_dict({**state, **again})


def test_distinct_queries_need_greedy_suppression():
    with pytest.raises(ValueError, match='soft_nms'):
        build('DDQDETR', dqs_cfg=dict(type='soft_nms'))(*batch(PADDED), mode='loss')


def test_what_the_user_passed_stays_as_it_is():
    cfg = ConfigDict(copy.deepcopy(DETECTORS['DeformableDETR of two stages']))
    before = copy.deepcopy(cfg)
    MODELS.build(cfg)
    assert cfg == before


def test_masks_are_those_of_the_padded_picture():
    samples = batch((40, 50), PADDED)[1]
    maps = [torch.zeros(2, 1, 7, 11), torch.zeros(2, 1, 2, 3)]
    whole = torch.ones(2, 1, *PADDED)
    whole[0, :, :40, :50] = whole[1] = 0
    for found, level in zip(padding_masks(maps, samples), maps):
        expected = torch.nn.functional.interpolate(whole, size=level.shape[-2:])[:, 0].bool()
        assert torch.equal(found, expected)
    assert padding_masks(maps, samples[1:]) is None and padding_masks(maps, None) is None


def test_activations_are_computed_again_where_told():
    cfg = dict(self_attn_cfg=ATTENTION, ffn_cfg=FFN)
    plain, frugal = DetrTransformerEncoder(2, cfg), DetrTransformerEncoder(2, cfg, num_cp=1)
    frugal.load_state_dict(plain.state_dict())
    calls = []
    frugal.layers[0].register_forward_pre_hook(lambda *args: calls.append(0))
    frugal.layers[1].register_forward_pre_hook(lambda *args: calls.append(1))
    x = torch.randn(2, 5, DIMS)
    for encoder in (plain, frugal):
        encoder(x, x, None).square().sum().backward()
    assert calls == [0, 1, 0]
    for a, b in zip(plain.parameters(), frugal.parameters()):
        torch.testing.assert_close(a.grad, b.grad)
    with pytest.raises(ValueError, match='num_cp=3'):
        DetrTransformerEncoder(2, cfg, num_cp=3)


def test_anchors_drawn_at_random_are_not_learned():
    model = build('DABDETR', with_random_refpoints=True)
    weight = model.query_embedding.weight
    centers = weight[:, :2].sigmoid()
    assert not weight.requires_grad and (centers.max() - centers.min()) > 0.3


@pytest.mark.parametrize('padding', [False, True])
@pytest.mark.parametrize('mask', [None, 'bool', 'float'])
def test_conditional_attention_is_attention(mask, padding):
    """With projections of no position it is torch's own."""
    torch.manual_seed(0)
    own, torchs = ConditionalAttention(DIMS, 2), torch.nn.MultiheadAttention(DIMS, 2, batch_first=True)
    parts = [own.qcontent_proj, own.kcontent_proj, own.v_proj]
    torchs.in_proj_weight.data = torch.cat([part.weight for part in parts]).detach()
    torchs.in_proj_bias.data = torch.cat([part.bias for part in parts]).detach()
    torchs.out_proj.load_state_dict(own.out_proj.state_dict())
    query = torch.randn(2, 5, DIMS)
    attn_mask = None if mask is None else torch.eye(5).bool()
    padded = torch.tensor([[False] * 5, [False, False, True, True, False]]) if padding else None
    if mask == 'float':
        attn_mask = torch.randn(5, 5)
        padded = None if padded is None else torch.zeros(2, 5).masked_fill(padded, -torch.inf)
    expected = torchs(query, query, query, attn_mask=attn_mask, key_padding_mask=padded, need_weights=False)[0]
    found = own(query, query, attn_mask=attn_mask, key_padding_mask=None if padded is None else padded != 0)
    torch.testing.assert_close(found, query + expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('batch_first', [True, False])
def test_attention_adds_positions_and_identity(batch_first):
    torch.manual_seed(0)
    own = MultiheadAttention(DIMS, 2, dropout=0.3, batch_first=batch_first).eval()
    assert own.attn.dropout == 0.3 and own.dropout_layer.p == 0.3
    query, place = torch.randn(2, 5, DIMS), torch.randn(2, 5, DIMS)
    turn = (lambda x: x) if batch_first else (lambda x: x.transpose(0, 1))
    value = turn(query).transpose(0, 1) if batch_first else turn(query)
    moved = value + place.transpose(0, 1)
    expected = own.attn(moved, moved, value, need_weights=False)[0].transpose(0, 1) + query
    torch.testing.assert_close(turn(own(turn(query), query_pos=turn(place))), expected)


def test_cells_look_at_their_own_place():
    ratios = torch.tensor([[[1.0, 1.0], [0.5, 1.0]]])
    found = DeformableDetrTransformerEncoder.get_encoder_reference_points([(2, 4), (1, 2)], ratios, 'cpu')
    assert found.shape == (1, 10, 2, 2)
    torch.testing.assert_close(found[0, 5, 0], torch.tensor([1.5 / 4, 1.5 / 2]))
    torch.testing.assert_close(found[0, 5, 1], torch.tensor([1.5 / 4 * 0.5, 1.5 / 2]))  # on half a map
    torch.testing.assert_close(found[0, 8, 0], torch.tensor([0.5, 0.5]))  # 0.5 of 2 columns, half of which are padding


def test_proposals_leave_out_padding_and_borders():
    model = build('DeformableDETR of two stages')
    memory = torch.randn(1, 20, DIMS)
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    mask[:, :, 4] = True
    _, logits = model.gen_encoder_output_proposals(memory, mask.flatten(1), torch.tensor([[4, 5]]))
    boxes = logits.sigmoid().view(4, 5, 4)
    torch.testing.assert_close(boxes[1, 2], torch.tensor([2.5 / 4, 1.5 / 4, 0.05, 0.05]))
    assert logits.view(4, 5, 4)[:, 4].isinf().all() and logits.view(4, 5, 4)[:, :4].isfinite().all()
    _, whole = model.gen_encoder_output_proposals(memory, None, [(4, 5)])
    assert whole.isfinite().all()


@pytest.mark.parametrize(
    'make, word',
    [
        (lambda: build('DETR', positional_encoding=dict(num_feats=3)), 'num_feats=3'),
        (lambda: build('DABDETR', num_patterns=-1), 'num_patterns'),
        (lambda: DetrTransformerEncoder(1, dict(self_attn_cfg=dict(ATTENTION, batch_first=False))), 'batch_first'),
        (lambda: DeformableDetrTransformerDecoder(1, {}), 'post_norm_cfg'),
        (lambda: build('DINO', as_two_stage=False), 'as_two_stage'),
        (lambda: build('DINO', dn_cfg=dict(num_classes=3)), 'num_classes'),
        (lambda: CdnQueryGenerator(3, 8, 5, group_cfg=dict(dynamic=False)), 'num_groups'),
        (lambda: CdnQueryGenerator(3, 8, 5, group_cfg=dict(num_dn_queries=0.5)), 'num_dn_queries'),
        (lambda: CdnQueryGenerator(3, 8, 5).get_num_groups(), 'max_num_target'),
    ],
)
def test_wrong_settings_are_told(make, word):
    with pytest.raises(ValueError, match=word):
        make()


@pytest.mark.usefixtures('_fake_gpu')
@pytest.mark.parametrize('shapes', [(PADDED, PADDED), (PADDED, (50, 70))], ids=['whole', 'padded'])
@pytest.mark.parametrize(
    'name',
    [
        name
        for name, model in DETECTORS.items()
        if len(model['neck']['in_channels']) == 1 and model['neck']['type'] != 'LiteEncoder'  # which makes a second map
    ],
)
def test_a_loss_waits_once_for_a_gpu_and_a_prediction_never(name, shapes, monkeypatch):
    """But for the matching, which happens on the host."""
    empty = lambda host, shapes, *rest: torch.zeros(sum(n * q for n, q, _ in shapes), dtype=torch.int32)
    monkeypatch.setattr(set_matching, 'solve_on_host', empty)
    model = build(name)
    with FakeTensorMode() as mode:
        fake_weights(mode, model, 'cuda')
        images, samples = batch(*shapes)
        images, samples = images.to('cuda'), [sample.to('cuda') for sample in samples]
        with WaitingCopies() as training:
            losses = model.train().loss(images, samples)
        with WaitingCopies() as testing, torch.no_grad():
            model.eval().predict(images, samples, rescale=False)
    assert losses['loss_iou'].device.type == 'cuda'
    assert len(training.found) == 1 and testing.found == []


class LooksAtValues(TorchDispatchMode):
    """Records what a host would wait for: numbers that leave a tensor, and sizes that depend on values."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = [x for x in tree_leaves(args[1:]) if isinstance(x, torch.Tensor) and x.dtype == torch.bool]
        if name in ('_local_scalar_dense', 'nonzero', 'masked_select', 'equal') or (name == 'index' and masks):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('shapes', [(PADDED, PADDED), (PADDED, (50, 70))], ids=['whole', 'padded'])
@pytest.mark.parametrize('name', DETECTORS)
def test_a_step_looks_at_no_values(name, shapes, monkeypatch):
    """With shapes of levels on the host, which fake tensors of a GPU cannot have; without what is for a CPU alone."""
    monkeypatch.setattr(focal_loss, 'is_at_hand', lambda x: False)
    monkeypatch.setattr(detr_head, 'with_boxes', lambda *given: given)
    model, (images, samples) = build(name), batch(*shapes)
    with LooksAtValues() as training:
        model.parse_losses(model.train().loss(images, samples))[0].backward()
    with LooksAtValues() as testing, torch.no_grad():
        model.eval().predict(images, samples, rescale=False)
    assert training.found == [] and testing.found == []
