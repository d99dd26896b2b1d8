"""Cascade RPN: its stages share anchors, so they are tested together."""

import copy

import pytest
import torch
from head_table import IMAGE, MAX_IOU, STRIDES, TEST_CFG, features, samples, totals
from mmengine.config import ConfigDict
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet.models.dense_heads import AdaptiveConv
from mmdet.models.task_modules.assigners import RegionAssigner
from mmdet.registry import MODELS

pytestmark = pytest.mark.usefixtures('default_scope')

ANCHORS = dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=STRIDES)
STAGE = dict(
    type='StageCascadeRPNHead',
    in_channels=8,
    feat_channels=8,
    anchor_generator=ANCHORS,
    reg_decoded_bbox=True,
    loss_bbox=dict(type='IoULoss', linear=True),
)
STAGES = [
    dict(STAGE, adapt_cfg=dict(type='dilation', dilation=3), bridged_feature=True, with_cls=False, sampling=False),
    dict(STAGE, adapt_cfg=dict(type='offset')),
]
SAMPLER = dict(type='RandomSampler', num=10**6, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False)
TRAIN_CFG = [
    dict(assigner=dict(type='RegionAssigner'), allowed_border=-1, pos_weight=-1),
    dict(assigner=MAX_IOU, sampler=SAMPLER, allowed_border=-1, pos_weight=-1),
]


def build(**changes):
    torch.manual_seed(0)
    cfg = dict(
        type='CascadeRPNHead', num_classes=1, num_stages=2, stages=STAGES, train_cfg=TRAIN_CFG, test_cfg=TEST_CFG
    )
    return MODELS.build(ConfigDict(copy.deepcopy({**cfg, **changes})))


def objects(*kinds):
    found = samples(*kinds)
    for sample in found:
        sample.gt_instances.labels *= 0
    return found


@pytest.mark.parametrize('kinds', [('many', 'one'), ('many', 'empty'), ('empty', 'empty')], ids='-'.join)
def test_losses_are_finite_and_reach_every_parameter(kinds):
    head = build()
    losses = totals(head.loss(features(2), objects(*kinds)))
    assert set(losses) == {'s0.loss_rpn_reg', 's1.loss_rpn_cls', 's1.loss_rpn_reg'}
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    assert not [name for name, value in head.named_parameters() if value.grad is None]
    if kinds[0] == 'many':
        assert all(value > 0 for value in losses.values())
        assert all(stage.rpn_reg.weight.grad.abs().sum() > 0 for stage in head.stages)
    else:
        assert losses['s0.loss_rpn_reg'] == losses['s1.loss_rpn_reg'] == 0


def test_order_of_images_does_not_matter():
    head, feats = build(), features(2)
    first = totals(head.loss(feats, objects('many', 'one')))
    second = totals(head.loss(tuple(f.flip(0) for f in feats), objects('one', 'many')))
    torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-5)


def test_the_loss_never_looks_at_the_data():
    with FakeTensorMode():
        losses = totals(build().loss(features(2), objects('many', 'empty')))
        sum(losses.values()).backward()
    assert len(losses) == 3


def test_proposals():
    head = build().eval()
    with torch.no_grad():
        batch = head.predict(features(2), objects('many', 'one'), rescale=True)
        alone = head.predict(tuple(f[1:] for f in features(2)), objects('one'), rescale=True)[0]
    for result, width in zip(batch, (64, 48)):
        assert 0 < len(result) <= 10 and result.labels.tolist() == [0] * len(result)
        assert (result.scores.diff() <= 0).all()
        assert result.bboxes.min() >= 0 and result.bboxes[:, 2].max() <= width
    torch.testing.assert_close(batch[1].bboxes, alone.bboxes)
    losses, proposals = head.loss_and_predict(features(2), objects('many', 'one'))
    assert set(losses) == set(head.loss(features(2), objects('many', 'one')))
    for result, want in zip(proposals, batch):
        torch.testing.assert_close(result.bboxes, want.bboxes)


def test_one_graph(one_graph):
    head = build().eval()
    found, want = one_graph(head, features(2)), head(features(2))
    torch.testing.assert_close(found, want)


def test_offsets_spread_a_kernel_over_the_anchor():
    stage = build().stages[1]
    grid = stage.prior_generator.grid_priors([(2, 3), (1, 1)], device='cpu')
    anchors = [level.clone() for level in grid]
    anchors[0][4] = torch.tensor([8.0, 0, 40, 8])  # at cell (1, 1): centre (3, 0.5), 4 by 1 cells
    offsets = stage.anchor_offset([anchors], STRIDES, [(2, 3), (1, 1)])
    assert [level.shape for level in offsets] == [(1, 6, 18), (1, 1, 18)]
    kernel = offsets[0][0, 4].view(3, 3, 2) + torch.tensor([[[y, x] for x in (-1, 0, 1)] for y in (-1, 0, 1)])
    cells = kernel + torch.tensor([1.0, 1.0])
    assert cells[:, 0, 0].tolist() == [0, 0.5, 1]  # from the top of the anchor to its bottom
    assert cells[0, :, 1].tolist() == [1, 3, 5]  # from its left to its right
    torch.testing.assert_close(offsets[1][0, 0].view(9, 2)[0], torch.tensor([-1.0, -1.0]))  # 4 by 4 around the cell


def test_a_stage_alone_is_a_cascade_of_one():
    stage = build(num_stages=1, stages=STAGES[1:], train_cfg=TRAIN_CFG[1:]).stages[0]
    stage.adapt_cfg = dict(type='offset')
    found = totals(stage.loss(features(2), objects('many', 'one')))
    assert set(found) == {'s0.loss_rpn_cls', 's0.loss_rpn_reg'}


@pytest.mark.parametrize(
    'changes, text',
    [
        (dict(num_classes=3), 'num_classes must be 1, not 3'),
        (dict(num_stages=3), 'num_stages=3, but there are 2 stages'),
        (dict(train_cfg=TRAIN_CFG[:1]), '2 stages, but 1 train_cfg'),
        (dict(stages=STAGES[::-1]), 'the last of the stages of CascadeRPNHead must classify'),
        (dict(stages=[dict(STAGE, anchor_generator=dict(ANCHORS, ratios=[1.0, 2.0]))] * 2), 'one anchor at a location'),
    ],
)
def test_wrong_settings_are_told(changes, text):
    with pytest.raises(ValueError, match=text):
        build(**changes)


def test_an_adaptive_convolution_tells_what_it_cannot():
    assert set(AdaptiveConv(2, 3).state_dict()) == {'conv.weight', 'conv.bias'}
    assert set(AdaptiveConv(2, 3, adapt_type='offset').state_dict()) == {'conv.weight'}
    for options, text in (
        (dict(adapt_type='other'), "not 'other'"),
        (dict(kernel_size=5), 'kernel_size=5'),
        (dict(adapt_type='offset', stride=2), 'not 2, 1, 1'),
    ):
        with pytest.raises(ValueError, match=text):
            AdaptiveConv(2, 3, **options)
    with pytest.raises(ValueError, match='needs offsets'):
        AdaptiveConv(2, 3, adapt_type='offset')(torch.zeros(1, 2, 4, 4), None)


# --------------------------------------------------------------------------------------------------------- joints

# Method of research code, the stages that it changes, and how often each is called for three images and two levels.
JOINTS = {
    'forward': (0, 1),
    'loss_by_feat': (0, 1),
    'get_targets': (0, 1),
    'get_anchors': (0,),
    'anchor_offset': (1,),
    'refine_bboxes': (0,),
    'region_targets': (0,),
}
BY_IMAGE = {'_region_targets_single': (0,), '_get_targets_single': (1,)}
BY_LEVEL = {'forward_single': (0, 1), 'loss_by_feat_single': (0, 1)}
CALLS = {**dict.fromkeys(JOINTS, 1), **dict.fromkeys(BY_IMAGE, 3), **dict.fromkeys(BY_LEVEL, 2)}


def research(module, name, calls):
    """Make a module one of a subclass whose method counts, then calls super."""

    def method(self, *args, **kwargs):
        calls.append(name)
        return getattr(super(kind, self), name)(*args, **kwargs)

    kind = type('Research', (type(module),), {name: method})
    module.__class__ = kind


@pytest.mark.parametrize('name', [*JOINTS, *BY_IMAGE, *BY_LEVEL])
def test_a_joint_that_calls_super_changes_no_loss(name):
    kinds, calls = ('many', 'one', 'empty'), []
    head, stages = build(), {**JOINTS, **BY_IMAGE, **BY_LEVEL}[name]
    for stage in stages:
        research(head.stages[stage], name, calls)
    found = totals(head.loss(features(3), objects(*kinds)))
    assert calls == [name] * CALLS[name] * len(stages)
    torch.testing.assert_close(found, totals(build().loss(features(3), objects(*kinds))), rtol=1e-5, atol=1e-6)


def test_an_own_region_assigner():
    head, calls = build(), []
    assert isinstance(head.stages[0].assigner, RegionAssigner)
    research(head.stages[0].assigner, 'assign', calls)
    found = totals(head.loss(features(3), objects('many', 'one', 'empty')))
    assert calls == ['assign'] * 3
    torch.testing.assert_close(found, totals(build().loss(features(3), objects('many', 'one', 'empty'))))


@pytest.mark.parametrize('name', ['_predict_by_feat_single', '_bbox_post_process'])
def test_proposals_of_one_image(name):
    head, calls = build().eval(), []
    research(head.stages[1], name, calls)
    found = head.predict(features(2), objects('many', 'one'))
    assert calls == [name] * 2
    for result, want in zip(found, build().eval().predict(features(2), objects('many', 'one'))):
        torch.testing.assert_close(result.bboxes, want.bboxes)
        torch.testing.assert_close(result.scores, want.scores)


def test_targets_with_their_samples():
    stage, data = build().stages[0], objects('many', 'empty')
    metas, truth = [sample.metainfo for sample in data], [sample.gt_instances for sample in data]
    sizes = [(IMAGE[0] // s, IMAGE[1] // s) for s in STRIDES]
    lists = stage.get_anchors(sizes, metas, device='cpu')
    *values, results = stage.get_targets(*lists, sizes, truth, metas, return_sampling_results=True)
    weights = torch.cat(values[3], 1)[..., 0]
    assert [len(result.pos_inds) for result in results] == weights.sum(1).tolist()
    assert [result.avg_factor for result in results] == [max(1, len(result.pos_inds)) for result in results]
