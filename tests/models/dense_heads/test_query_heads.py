"""Heads with queries: DETR's and those of its kin. Letters: L = 3 decoder layers, Q = 7 queries."""

import copy

import pytest
import torch
from fake_gpu import WaitingCopies, fake_weights
from head_table import NUM_CLASSES, samples, totals
from mmengine.config import ConfigDict
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet.models.core import set_matching, unpack_gt_instances
from mmdet.models.layers.transformer.ddq_detr_layers import DistinctQueries
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy

pytestmark = pytest.mark.usefixtures('default_scope')

LAYERS, QUERIES, CELLS, DIMS = 3, 7, 12, 8
FOCAL = dict(type='FocalLoss', use_sigmoid=True, loss_weight=2.0)
COSTS = [dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'), dict(type='IoUCost', iou_mode='giou', weight=2.0)]


def head(type, first='FocalLossCost', **changes):
    costs = [dict(type=first, weight=2.0), *COSTS]
    train_cfg = dict(assigner=dict(type='HungarianAssigner', match_costs=costs))
    given = dict(num_classes=NUM_CLASSES, embed_dims=DIMS, loss_cls=FOCAL, train_cfg=train_cfg)
    return {**given, 'type': type, 'test_cfg': dict(max_per_img=10), **changes}


def softmax(**changes):
    cfg = head('DETRHead', 'ClassificationCost', **changes)
    return {key: value for key, value in cfg.items() if key != 'loss_cls'}


BRANCHES = dict(num_pred_layer=LAYERS)
HEADS = {
    'DETRHead': softmax(sync_cls_avg_factor=True),
    'DETRHead by sigmoid': head('DETRHead'),
    'DETRHead by quality': head('DETRHead', loss_cls=dict(type='QualityFocalLoss')),
    'ConditionalDETRHead': head('ConditionalDETRHead'),
    'DABDETRHead': head('DABDETRHead'),
    'DeformableDETRHead': head('DeformableDETRHead', share_pred_layer=True, **BRANCHES),
    'DeformableDETRHead refined': head('DeformableDETRHead', **BRANCHES),
    'DeformableDETRHead of two stages': head('DeformableDETRHead', num_pred_layer=LAYERS + 1, as_two_stage=True),
    'DINOHead': head('DINOHead', num_pred_layer=LAYERS + 1, as_two_stage=True, sync_cls_avg_factor=True),
    'DDQDETRHead': head('DDQDETRHead', num_pred_layer=LAYERS + 1, as_two_stage=True, aux_num_pos=2),
}
ENCODER = {'DeformableDETRHead of two stages': CELLS, 'DINOHead': QUERIES, 'DDQDETRHead': QUERIES}
"""Heads that get outputs of the encoder, and how many."""
DENOISING = ['DINOHead', 'DDQDETRHead']
GROUPS = 2
DENSE = 9
"""Dense queries of DDQ-DETR."""


def build(name, **changes):
    torch.manual_seed(0)
    built = MODELS.build(ConfigDict(copy.deepcopy({**HEADS[name], **changes})))
    for key, value in built.named_parameters():  # queries differ more than at the start of training
        if 'bias' not in key:
            torch.nn.init.normal_(value, std=0.5)
    if name == 'DDQDETRHead':
        built.register_forward_pre_hook(as_after_the_decoder)
    return built


def usable_queries(batch):
    """``(L, B, Q)`` bool: before the second layer every image has lost one, and the first image has lost another."""
    usable = torch.ones(LAYERS, batch, QUERIES, dtype=torch.bool)
    usable[1:, :, 2] = usable[2:, 0, 5] = False
    return usable


def as_after_the_decoder(built, args):
    state = args[0]
    built.distinct = DistinctQueries({}, count=QUERIES, num_dense=DENSE if state.shape[2] > QUERIES else 0)
    built.distinct.usable = list(usable_queries(state.shape[1]).to(state.device, non_blocking=True))[1:]


def denoising_queries(most):
    return {'num_denoising_queries': 2 * GROUPS * most, 'num_denoising_groups': GROUPS}


def inputs(name, batch, training=True, most=4):
    """What the detector hands to the head; ``most`` are the objects of the image that has most."""
    generator = torch.Generator().manual_seed(3)
    random = lambda *shape: torch.rand(shape, generator=generator)
    queries = QUERIES
    if name in DENOISING and training:
        queries += denoising_queries(most)['num_denoising_queries'] + (DENSE if name == 'DDQDETRHead' else 0)
    given = dict(hidden_states=random(LAYERS, batch, queries, DIMS) * 4 - 2)
    if name.startswith('Conditional'):
        given['references'] = random(batch, QUERIES, 2)
    elif name.startswith('DAB'):
        given['references'] = random(LAYERS, batch, QUERIES, 4)
    elif name.startswith(('Deformable', 'DINO', 'DDQ')):
        first = 2 if name.startswith('Deformable') else 4
        given['references'] = [random(batch, queries, first if n == 0 else 4) for n in range(LAYERS + 1)]
        if training:
            given.update(enc_outputs_class=None, enc_outputs_coord=None)
            if name in ENCODER:
                given['enc_outputs_class'] = random(batch, ENCODER[name], NUM_CLASSES) * 2 - 1
                given['enc_outputs_coord'] = random(batch, ENCODER[name], 4)
            if name in DENOISING:
                given['dn_meta'] = denoising_queries(most)
            if name == 'DDQDETRHead':
                given['dn_meta']['num_dense_queries'] = DENSE
                given['aux_enc_outputs_class'] = random(batch, DENSE, NUM_CLASSES) * 2 - 1
                given['aux_enc_outputs_coord'] = random(batch, DENSE, 4)
    return given


@pytest.mark.parametrize('name', HEADS)
def test_one_graph(name, one_graph):
    head = build(name).eval()
    head._forward_pre_hooks.clear()
    given = inputs(name, 2, training=False).values()
    torch.testing.assert_close(one_graph(head, *given), head(*given))


def loss_of(built, name, *kinds):
    data_samples = samples(*kinds)
    most = max(len(sample.gt_instances) for sample in data_samples)
    return totals(built.loss(**inputs(name, len(kinds), most=most), batch_data_samples=data_samples))


@pytest.mark.parametrize('kinds', [('many', 'one'), ('many', 'empty'), ('empty', 'empty')], ids='-'.join)
@pytest.mark.parametrize('name', HEADS)
def test_losses_are_finite_and_reach_every_parameter(name, kinds):
    built = build(name)
    losses = loss_of(built, name, *kinds)
    layers = ['', *(f'd{n}.' for n in range(LAYERS - 1))]
    denoising = [f'{layer}dn_' for layer in layers] if name in DENOISING else []
    layers += [*(['enc_'] if name in ENCODER else []), *denoising]
    names = [f'{layer}{loss}' for layer in layers for loss in ('loss_cls', 'loss_bbox', 'loss_iou')]
    if name == 'DDQDETRHead':
        dense = [*(f'{layer}_aux' for layer in range(LAYERS)), 'aux_enc']
        names += [f'{layer}_aux_{loss}' for layer in dense for loss in ('loss_cls', 'loss_bbox')]
    assert list(losses) == names
    assert all(value.isfinite() and value.dim() == 0 for value in losses.values())
    sum(losses.values()).backward()
    encoder = 'cls_branches.3', 'reg_branches.3', 'cls_branches.4', 'reg_branches.4'  # which the detector calls
    for key, value in built.named_parameters():
        if not key.startswith(encoder):
            assert value.grad is not None and value.grad.isfinite().all(), key
    positive = any(kind != 'empty' for kind in kinds)
    assert all((value > 0) == positive for key, value in losses.items() if not key.endswith('cls'))


PREFIXES = [*(f'd{n}.' for n in range(LAYERS - 1)), '']


def by_loop(built, scores, boxes, gt_instances, metas):
    """The losses of one layer, image by image, as the papers write them."""
    rows = [[] for _ in range(7)]
    for score, box, gt, meta in zip(scores, boxes, gt_instances, metas):
        size = torch.tensor([meta['img_shape'][1], meta['img_shape'][0]] * 2).float()
        pred = type(gt)(scores=score.detach(), bboxes=bbox_cxcywh_to_xyxy(box.detach()) * size)
        inds = built.assigner.assign(pred, gt, meta).gt_inds
        pos = inds > 0
        truth = gt.bboxes[inds[pos] - 1]
        labels = torch.full_like(inds, NUM_CLASSES)
        labels[pos] = gt.labels[inds[pos] - 1]
        center = torch.cat([(truth[:, :2] + truth[:, 2:]) / 2, truth[:, 2:] - truth[:, :2]], 1) / size
        values = score, labels, box[pos], center, bbox_cxcywh_to_xyxy(box[pos]) * size, truth, pos
        for column, value in zip(rows, values):
            column.append(value)
    scores, labels, boxes, center, corners, truth, pos = map(torch.cat, rows)
    count = pos.sum().float()
    factor = (count + (len(pos) - count) * built.bg_cls_weight).clamp(min=1)
    count = count.clamp(min=1)
    return (
        built.loss_cls(scores, labels, avg_factor=factor),
        built.loss_bbox(boxes, center, avg_factor=count),
        built.loss_iou(corners, truth, avg_factor=count),
    )


@pytest.mark.parametrize('name', [name for name in HEADS if 'quality' not in name])
def test_losses_are_those_of_a_loop_over_layers_and_images(name):
    built = build(name)
    given, data_samples = inputs(name, 3), samples('many', 'empty', 'one')
    losses = built.loss(**given, batch_data_samples=data_samples)
    gt_instances, _, metas = unpack_gt_instances(data_samples)
    scores, boxes = built(given['hidden_states'], *([given['references']] if 'references' in given else []))
    first = given.get('dn_meta', {}).get('num_denoising_queries', 0)
    scores, boxes = (value[:, :, first : first + QUERIES] for value in (scores, boxes))
    if name == 'DDQDETRHead':
        usable = usable_queries(3)
        scores, boxes = ([[v[k] for v, k in zip(*one)] for one in zip(value, usable)] for value in (scores, boxes))
    layers = list(zip(PREFIXES, scores, boxes, [gt_instances] * LAYERS))
    if name in ENCODER:
        objects = gt_instances
        if 'two stages' in name:
            objects = [type(gt)(bboxes=gt.bboxes, labels=torch.zeros_like(gt.labels)) for gt in gt_instances]
        layers.append(('enc_', given['enc_outputs_class'], given['enc_outputs_coord'], objects))
    for prefix, score, box, truth in layers:
        for loss, value in zip(('loss_cls', 'loss_bbox', 'loss_iou'), by_loop(built, score, box, truth, metas)):
            torch.testing.assert_close(losses[prefix + loss], value, rtol=1e-4, atol=1e-5)


def test_boxes_that_the_decoder_moved_are_not_moved_again():
    built = build('DINOHead')
    given, data_samples = inputs('DINOHead', 2), samples('many', 'one')
    expected = built.loss(**given, batch_data_samples=data_samples)
    deltas = torch.stack([branch(state) for branch, state in zip(built.reg_branches, given['hidden_states'])])
    built.reg_branches = None
    found = built.loss(**given, batch_data_samples=data_samples, deltas=deltas)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(list(found.values()), list(expected.values()))
    losses, detections = built.loss_and_predict(**given, batch_data_samples=data_samples, deltas=deltas)
    torch.testing.assert_close(list(losses.values()), list(expected.values()))
    assert len(detections) == 2


@pytest.mark.parametrize('name', DENOISING)
def test_losses_of_denoising_are_those_of_a_loop_over_layers_and_images(name):
    built = build(name)
    given, data_samples = inputs(name, 3), samples('many', 'empty', 'one')
    losses = built.loss(**given, batch_data_samples=data_samples)
    scores, boxes = (value.detach() for value in built(given['hidden_states'], given['references']))
    for prefix, score, box in zip(PREFIXES, scores, boxes):
        classes, distance, overlap, count = 0.0, 0.0, 0.0, 0
        for image, sample in enumerate(data_samples):
            height, width = sample.metainfo['img_shape']
            size = torch.tensor([width, height, width, height])
            labels = torch.full((4 * 2 * GROUPS,), NUM_CLASSES)
            for group in range(GROUPS):
                for number, (truth, label) in enumerate(zip(sample.gt_instances.bboxes, sample.gt_instances.labels)):
                    place = group * 2 * 4 + number  # positives of a group stand before its negatives
                    labels[place] = label
                    center = torch.cat([(truth[:2] + truth[2:]) / 2, truth[2:] - truth[:2]]) / size
                    distance += built.loss_bbox(box[image, place][None], center[None], avg_factor=1)
                    corners = bbox_cxcywh_to_xyxy(box[image, place][None]) * size
                    overlap += built.loss_iou(corners, truth[None], avg_factor=1)
                    count += 1
            classes += built.loss_cls(score[image, : len(labels)], labels, avg_factor=1)
        for loss, value in zip(('loss_cls', 'loss_bbox', 'loss_iou'), (classes, distance, overlap)):
            torch.testing.assert_close(losses[f'{prefix}dn_{loss}'], value / count, rtol=1e-4, atol=1e-5)


def test_quality_is_the_overlap():
    built = build('DETRHead by quality')
    seen = []
    built.loss_cls.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    loss_of(built, 'DETRHead', 'many')
    labels, quality = seen[0]
    assert ((quality > 0) <= (labels < NUM_CLASSES)).all() and (quality > 0).any() and (quality <= 1).all()


def solved_without_looking(monkeypatch):
    """The one step that happens on the host, replaced by one that knows the shapes alone."""
    empty = lambda host, shapes, counts, copies: torch.zeros(sum(n * q for n, q, _ in shapes), dtype=torch.int32)
    monkeypatch.setattr(set_matching, 'solve_on_host', empty)


@pytest.mark.parametrize('name', HEADS)
def test_the_loss_looks_at_the_data_in_the_matching_alone(name, monkeypatch):
    solved_without_looking(monkeypatch)
    built = build(name)
    with FakeTensorMode() as mode:
        losses = loss_of(fake_weights(mode, built), name, 'many', 'empty')
        sum(losses.values()).backward()
    assert losses


@pytest.mark.usefixtures('_fake_gpu')
@pytest.mark.parametrize('name', HEADS)
def test_the_host_waits_once_for_a_gpu(name, monkeypatch):
    solved_without_looking(monkeypatch)
    move = lambda value: (
        value.to('cuda') if isinstance(value, torch.Tensor) else value and [x.to('cuda') for x in value]
    )
    built = build(name)
    with FakeTensorMode() as mode:
        fake_weights(mode, built, 'cuda')
        given = {key: value if key == 'dn_meta' else move(value) for key, value in inputs(name, 2).items()}
        data_samples = [sample.to('cuda') for sample in samples('many', 'empty')]
        with WaitingCopies() as copies:
            losses = built.loss(**given, batch_data_samples=data_samples)
    assert losses['loss_iou'].device.type == 'cuda'
    assert len(copies.found) == (2 if name == 'DDQDETRHead' else 1), copies.found  # dense queries by themselves


JOINTS = {
    'forward': 1,
    'loss_by_feat': 1,
    'loss_by_feat_single': LAYERS,
    'get_targets': LAYERS,
    '_get_targets_single': 2 * LAYERS,
}


def research(built, calls, joint):
    base = type(built)

    def method(self, *args, **kwargs):
        calls.append(joint)
        return getattr(super(kind, self), joint)(*args, **kwargs)

    kind = type('Own' + base.__name__, (base,), {joint: method})
    built.__class__ = kind
    return built


@pytest.mark.parametrize('joint', JOINTS)
@pytest.mark.parametrize('name', HEADS)
def test_methods_that_call_super_change_nothing(name, joint):
    built, calls = build(name), []
    expected = loss_of(built, name, 'many', 'one')
    found = loss_of(research(built, calls, joint), name, 'many', 'one')
    encoder = {'loss_by_feat_single': 1, 'get_targets': 1, '_get_targets_single': 2} if name in ENCODER else {}
    own = name == 'DDQDETRHead' and joint == 'loss_by_feat_single'  # which has another one for its layers
    assert len(calls) == (0 if own else JOINTS[joint]) + encoder.get(joint, 0)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)


DISTINCT_JOINTS = {'loss_for_distinct_queries': 1, '_loss_for_distinct_queries_single': LAYERS}
DENSE_JOINTS = {
    'loss': LAYERS + 1,
    'loss_single': 2 * (LAYERS + 1),
    'get_targets': LAYERS + 1,
    '_get_target_single': 2 * (LAYERS + 1),
}


@pytest.mark.parametrize('joint', [*DISTINCT_JOINTS, *DENSE_JOINTS, 'assign'])
def test_methods_of_ddq_that_call_super_change_nothing(joint):
    built, calls = build('DDQDETRHead'), []
    expected = loss_of(built, 'DDQDETRHead', 'many', 'one')
    dense = built.aux_loss_for_dense
    own = dense.assigner if joint == 'assign' else dense if joint in DENSE_JOINTS else built
    research(own, calls, joint)
    found = loss_of(built, 'DDQDETRHead', 'many', 'one')
    assert len(calls) == {**DISTINCT_JOINTS, **DENSE_JOINTS, 'assign': 2 * (LAYERS + 1)}[joint]
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)


DENOISING_JOINTS = {
    'split_outputs': 1,
    'loss_dn': 1,
    '_loss_dn_single': LAYERS,
    'get_dn_targets': 1,
    '_get_dn_targets_single': 2,
}


@pytest.mark.parametrize('joint', DENOISING_JOINTS)
@pytest.mark.parametrize('name', DENOISING)
def test_methods_of_denoising_that_call_super_change_nothing(name, joint):
    built, calls = build(name), []
    expected = loss_of(built, name, 'many', 'one')
    found = loss_of(research(built, calls, joint), name, 'many', 'one')
    assert len(calls) == DENOISING_JOINTS[joint]
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)


def test_targets_as_plain_lists():
    built = build('DETRHead')
    expected = loss_of(built, 'DETRHead', 'many', 'one')
    own = type(built).get_targets

    class Own(type(built)):
        def get_targets(self, *args):
            targets = tuple(own(self, *args))
            assert len(targets) == 6 and len(targets[0]) == 2 and targets[4] + targets[5] == 2 * QUERIES
            return targets

    built.__class__ = Own
    found = loss_of(built, 'DETRHead', 'many', 'one')
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def predicted(built, name, data_samples, **options):
    return built.predict(**inputs(name, len(data_samples), training=False), batch_data_samples=data_samples, **options)


@pytest.mark.parametrize('name', HEADS)
def test_predictions(name):
    built, calls = build(name), []
    data_samples = samples('many', 'one')
    results = predicted(built, name, data_samples, rescale=False)
    for result, sample in zip(results, data_samples):
        assert len(result) == (10 if built.loss_cls.use_sigmoid else QUERIES)
        assert result.scores.dtype == torch.float32 and (result.scores.diff() <= 0).all()
        assert ((result.labels >= 0) & (result.labels < NUM_CLASSES)).all()
        height, width = sample.metainfo['img_shape']
        assert (result.bboxes >= 0).all() and (result.bboxes <= torch.tensor([width, height] * 2)).all()
    for sample in data_samples:
        sample.set_metainfo(dict(scale_factor=(2.0, 0.5)))
    for result, scaled in zip(results, predicted(built, name, data_samples)):
        torch.testing.assert_close(scaled.bboxes, result.bboxes / torch.tensor([2.0, 0.5, 2.0, 0.5]))
    own = predicted(research(built, calls, '_predict_by_feat_single'), name, data_samples, rescale=False)
    assert len(calls) == 2
    assert all(torch.equal(a.bboxes, b.bboxes) and torch.equal(a.labels, b.labels) for a, b in zip(own, results))


@pytest.mark.parametrize('name', HEADS)
def test_losses_and_predictions_of_one_pass(name):
    built = build(name)
    given, data_samples = inputs(name, 2), samples('many', 'one')
    losses, results = built.loss_and_predict(**given, batch_data_samples=data_samples)
    assert losses.keys() == loss_of(built, name, 'many', 'one').keys() and len(results) == 2


@pytest.mark.parametrize(
    'changes, word',
    [
        (dict(train_cfg=dict(sampler=1)), 'assigner'),
        (dict(train_cfg=dict(HEADS['DETRHead']['train_cfg'], sampler=1)), 'sampler'),
        (dict(loss_cls=dict(type='CrossEntropyLoss', class_weight=[1.0])), 'class_weight'),
    ],
)
def test_wrong_settings_are_told(changes, word):
    with pytest.raises((ValueError, RuntimeError), match=word):
        build('DETRHead', **changes)
