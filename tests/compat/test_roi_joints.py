"""Methods of region heads, their assigners and samplers that research code overrides: called, and no number changes."""

import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.structures import InstanceData

sys.path.insert(0, str(Path(__file__).parents[1] / 'models' / 'roi_heads'))
from two_stage_table import MATCHING, TABLE, build, images, predicted, sample, total

from mmdet.models.core import RoISamples, unpack_gt_instances
from mmdet.models.roi_heads.joints import knows_lists
from mmdet.models.task_modules.samplers import SamplingResult

pytestmark = pytest.mark.usefixtures('default_scope')

# Where a joint is -> names. Those of a prediction are reached by predict, all others by a loss.
TRAINING = {
    'roi_head': (
        *('bbox_loss', 'mask_loss', '_bbox_forward', '_mask_forward'),
        *('_random_jitter', '_mask_point_loss', '_get_fine_grained_point_feats'),
    ),
    'bbox_head': (
        *('loss_and_target', 'get_targets', '_get_targets_single', 'loss', 'refine_bboxes'),
        *('bucket_target', '_bucket_target_single'),
    ),
    'mask_head': ('loss_and_target', 'get_targets'),
    'grid_head': ('loss', 'get_targets'),
    'mask_iou_head': ('loss_and_target', 'get_targets', '_get_area_ratio'),
    'point_head': ('loss_and_target', 'get_targets', '_get_targets_single', 'get_roi_rel_points_train'),
    'bbox_assigner': ('assign',),
    'bbox_sampler': ('sample', '_sample_pos', '_sample_neg'),
}
PREDICTION = {
    'roi_head': ('predict_bbox', 'predict_mask', '_bbox_forward', '_mask_forward', '_mask_point_forward_test'),
    'bbox_head': ('predict_by_feat', '_predict_by_feat_single', 'regress_by_class'),
    'mask_head': ('predict_by_feat', '_predict_by_feat_single'),
    'grid_head': ('predict_by_feat', '_predict_by_feat_single'),
    'mask_iou_head': ('predict_by_feat',),
    'point_head': ('get_roi_rel_points_test',),
}

NOT_OF_QUERIES = {
    ('bbox_head', 'loss'),
    ('bbox_head', 'predict_by_feat'),
    ('bbox_head', '_predict_by_feat_single'),
    ('bbox_sampler', '_sample_pos'),
    ('bbox_sampler', '_sample_neg'),
}


AT_RANDOM = ('loss_grid', 'loss_point')
"""Losses at places that are drawn, as many as there are slots."""


def owners(model, place):
    """The objects at a place: one, one for each stage, or none."""
    if place == 'roi_head':
        return [model.roi_head]
    found = getattr(model.roi_head, place, None)
    return list(found) if isinstance(found, list | torch.nn.ModuleList) else [found] if found is not None else []


def parts_of(owner, name):
    """The samplers that a sampler is made of, where they do the drawing of single images."""
    return (
        [owner.pos_sampler if name == '_sample_pos' else owner.neg_sampler] if name.startswith('_sample') else [owner]
    )


def reached(name, place, joint):
    """Whether a detector of the table has the joint and gets to it."""
    cascade = any(word in name for word in ('Cascade', 'HTC', 'SCNet'))
    with_mask = any(word in name for word in ('Mask', 'HTC', 'SCNet', 'QueryInst'))
    if name in MATCHING and (place, joint) in NOT_OF_QUERIES:
        return False
    if name.startswith('PISA') and (place, joint) == ('bbox_head', 'loss_and_target'):
        return False  # targets are weighed between the two
    for part, owner in (('grid', 'Grid'), ('jitter', 'Grid'), ('iou', 'Mask score'), ('point', 'Mask points')):
        if part in place or part in joint:
            return name == owner
    if 'bucket' in joint:
        return 'SABL' in name
    if 'SABL' in name and joint == '_get_targets_single':
        return False  # which is called _bucket_target_single there
    if joint in ('refine_bboxes', 'regress_by_class'):
        return cascade
    if 'Crowd' in name and joint == '_get_targets_single':  # sets have get_targets alone
        return False
    return with_mask or not ('mask' in joint or place == 'mask_head')


def cases(joints):
    pairs = [(place, joint) for place, names in joints.items() for joint in names]
    return [(name, place, joint) for name in TABLE for place, joint in pairs if reached(name, place, joint)]


def override(owner, joint, calls):
    """Make ``owner`` an instance of a subclass as research code writes it, which counts, then calls super."""

    def method(self, *args, **kwargs):
        calls.append(joint)
        return getattr(super(kind, self), joint)(*args, **kwargs)

    kind = type('Research' + type(owner).__name__, (type(owner),), {joint: method})
    owner.__class__ = kind


def prepared(name, place=None, joint=None, calls=None):
    """A detector whose samplers keep all candidates, so that chance has no part, with a joint overridden."""
    model = build(name)
    for sampler in owners(model, 'bbox_sampler'):
        sampler.num, sampler.pos_fraction, sampler.neg_pos_ub = 200, 0.5, -1
    for owner in owners(model, place) if place else ():
        for part in parts_of(owner, joint):
            override(part, joint, calls)
    return model


def losses_of(model):
    torch.manual_seed(0)
    return total(model.train().loss(images(3), [sample(3, 0), sample(2, 1), sample(0, 2)]))[0]


def predictions_of(model):
    with torch.no_grad():
        results = model.eval().predict(images(), [sample(1), sample(0)], rescale=True)
    return [dict(predicted(result).items()) for result in results]


@cache
def expected_losses(name):
    return losses_of(prepared(name))


@cache
def expected_predictions(name):
    return predictions_of(prepared(name))


def without_chance(losses):
    return {key: value for key, value in losses.items() if key not in AT_RANDOM}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6, msg=lambda text, k=key: f'{k}: {text}')


@pytest.mark.parametrize(('name', 'place', 'joint'), cases(TRAINING))
def test_losses(name, place, joint):
    calls = []
    found, expected = losses_of(prepared(name, place, joint, calls)), expected_losses(name)
    if place == 'bbox_sampler':  # which then draws other numbers
        found, expected = without_chance(found), without_chance(expected)
    assert_same(found, expected)
    assert calls


@pytest.mark.parametrize(('name', 'place', 'joint'), cases(PREDICTION))
def test_predictions(name, place, joint):
    calls = []
    model = prepared(name, place, joint, calls)
    for found, expected in zip(predictions_of(model), expected_predictions(name)):
        assert_same(found, expected)
    assert calls


@pytest.mark.parametrize('name', TABLE)
def test_empty_slots_change_no_loss(name):
    """As on a GPU, where nobody counts the used slots, but for batch norms; of queries no slot is empty."""
    model = prepared(name)
    assert (name in ('Double', 'QueryInst')) == model.train().roi_head.packs_slots([torch.empty(0, device='meta')])
    model.roi_head.leave_out_empty_slots = False
    found, expected = losses_of(model), expected_losses(name)
    if name == 'Double':
        found, expected = ({key: value[key] for key in ('loss_cls', 'acc')} for value in (found, expected))
    assert_same(without_chance(found), without_chance(expected))


def test_slots_are_packed_where_research_code_sees_samples():
    assert not any(knows_lists(build(name).roi_head) for name in TABLE)
    for place, joint in (
        ('roi_head', 'bbox_loss'),
        ('roi_head', 'mask_loss'),
        ('bbox_head', 'get_targets'),
        ('bbox_head', '_get_targets_single'),
        ('bbox_head', 'refine_bboxes'),
        ('mask_head', 'get_targets'),
        ('mask_head', 'loss_and_target'),
    ):
        assert knows_lists(prepared('Cascade Mask', place, joint, []).roi_head), (place, joint)


@pytest.mark.parametrize('name', ['Faster', 'Faster OHEM', 'Libra', 'Double', 'Mask', 'Mask shared'])
def test_an_own_loss_with_lists(name):
    """A second stage that assigns and draws image by image and hands lists on, as 3.x code does."""
    model = prepared(name)
    base = type(model.roi_head)

    class Own(base):
        def loss(self, x, rpn_results_list, batch_data_samples):
            gt_instances, ignored, _ = unpack_gt_instances(batch_data_samples)
            drawn = []
            for i, proposals in enumerate(rpn_results_list):
                proposals.priors = proposals.pop('bboxes')
                assigned = self.bbox_assigner.assign(proposals, gt_instances[i], ignored[i])
                feats = [level[i][None] for level in x]
                drawn.append(self.bbox_sampler.sample(assigned, proposals, gt_instances[i], feats=feats))
            assert all(isinstance(result, SamplingResult) for result in drawn)
            results = self.bbox_loss(x, drawn)
            losses = dict(results['loss_bbox'])
            if self.with_mask:
                losses.update(self.mask_loss(x, drawn, results['bbox_feats'], gt_instances)['loss_mask'])
            return losses

    model.roi_head.__class__ = Own
    assert_same(losses_of(model), expected_losses(name))


def test_targets_of_an_own_head_by_lists():
    """A head that knows nothing of slots gets what it iterates over, in the order of its rows."""
    model = prepared('Mask')
    head, mask_head = model.roi_head.bbox_head, model.roi_head.mask_head
    seen = {}

    class OwnHead(type(head)):
        def get_targets(self, sampling_results, rcnn_train_cfg, concat=True):
            singles = [
                self._get_targets_single(r.pos_priors, r.neg_priors, r.pos_gt_bboxes, r.pos_gt_labels, rcnn_train_cfg)
                for r in sampling_results
            ]
            seen['images'] = len(singles)
            return tuple(torch.cat(column) for column in zip(*singles))

    class OwnMaskHead(type(mask_head)):
        def get_targets(self, sampling_results, batch_gt_instances, rcnn_train_cfg):
            from mmdet.structures.mask import mask_target

            boxes = [r.pos_priors for r in sampling_results]
            inds = [r.pos_assigned_gt_inds for r in sampling_results]
            return mask_target(boxes, inds, [gt.masks for gt in batch_gt_instances], rcnn_train_cfg)

    head.__class__, mask_head.__class__ = OwnHead, OwnMaskHead
    assert_same(losses_of(model), expected_losses('Mask'))
    assert seen['images'] == 3


@pytest.mark.parametrize('name', ['PISA', 'PISA Mask'])
def test_an_own_loss_with_weights_of_negatives(name):
    """A sampler that weighs negatives gives pairs, and the box loss takes the weights of each image."""
    model, seen = prepared(name), []
    base = type(model.roi_head)

    class Own(base):
        def loss(self, x, rpn_results_list, batch_data_samples):
            gt_instances, _, _ = unpack_gt_instances(batch_data_samples)
            drawn, weights = [], []
            for i, proposals in enumerate(rpn_results_list):
                proposals.priors = proposals.pop('bboxes')
                assigned = self.bbox_assigner.assign(proposals, gt_instances[i], None)
                feats = [level[i][None] for level in x]
                result, weight = self.bbox_sampler.sample(assigned, proposals, gt_instances[i], feats=feats)
                drawn.append(result)
                weights.append(weight)
                seen.append(len(weight) == len(result.neg_inds) and weight.std() > 0)
            losses = dict(self.bbox_loss(x, drawn, neg_label_weights=weights)['loss_bbox'])
            if self.with_mask:
                losses.update(self.mask_loss(x, drawn, None, gt_instances)['loss_mask'])
            return losses

    model.roi_head.__class__ = Own
    assert_same(losses_of(model), expected_losses(name))
    assert seen == [True] * 3


def test_weights_that_an_own_box_loss_sees():
    model, seen = prepared('PISA'), []

    class Own(type(model.roi_head)):
        def bbox_loss(self, x, sampling_results, neg_label_weights=None):
            pairs = zip(neg_label_weights, sampling_results)
            seen.extend(len(weights) == len(result.neg_inds) for weights, result in pairs)
            return super().bbox_loss(x, sampling_results, neg_label_weights)

    model.roi_head.__class__ = Own
    assert_same(losses_of(model), expected_losses('PISA'))
    assert seen == [True] * 3


def test_labels_that_an_own_sampler_sees():
    """Classes of the assigned ground truths, not their indices."""
    model, seen = prepared('Faster'), []
    sampler = model.roi_head.bbox_sampler

    class Own(type(sampler)):
        def _sample_pos(self, assign_result, num_expected, bboxes=None, feats=None, **kwargs):
            pos = assign_result.gt_inds > 0
            seen.append((assign_result.gt_inds[pos] - 1, assign_result.labels[pos], len(bboxes), feats[0].shape))
            assert (assign_result.labels[~pos] == -1).all()
            return super()._sample_pos(assign_result, num_expected, bboxes=bboxes, feats=feats, **kwargs)

    sampler.__class__ = Own
    losses_of(model)
    labels = [sample(count, seed).gt_instances.labels for seed, count in enumerate((3, 2, 0))]
    for b, (inds, found, count, shape) in enumerate(seen):
        assert found.tolist() == labels[b][inds].tolist()
        assert count > len(found) and shape[0] == 1
    assert sum(len(found) for _, found, *_ in seen) > 3


def test_refined_boxes_iterate_as_instances():
    model = prepared('Cascade')
    head, seen = model.roi_head.bbox_head[0], []

    class Own(type(head)):
        def refine_bboxes(self, sampling_results, bbox_results, batch_img_metas):
            assert isinstance(sampling_results, RoISamples)
            refined = super().refine_bboxes(list(sampling_results), bbox_results, batch_img_metas)
            seen.extend(refined)
            return [InstanceData(bboxes=instances.bboxes) for instances in refined]

    head.__class__ = Own
    assert_same(losses_of(model), expected_losses('Cascade'))
    assert len(seen) == 3 and all(len(instances) for instances in seen)


def test_a_sampler_that_only_draws_images():
    model = prepared('Faster')
    sampler = model.roi_head.bbox_sampler

    class Foreign:
        def sample(self, *args, **kwargs):
            return sampler.sample(*args, **kwargs)

    model.roi_head.bbox_sampler = Foreign()
    assert_same(losses_of(model), expected_losses('Faster'))


def test_targets_of_each_image():
    model = prepared('Faster')
    head, seen = model.roi_head.bbox_head, {}

    class Own(type(head)):
        def get_targets(self, sampling_results, rcnn_train_cfg, concat=True):
            seen['lists'] = super().get_targets(sampling_results, rcnn_train_cfg, concat=False)
            return super().get_targets(sampling_results, rcnn_train_cfg)

    head.__class__ = Own
    losses_of(model)
    assert [len(column) for column in seen['lists']] == [3] * 4


def test_an_own_jitter_of_each_image():
    """It moves the positives of the results that it gets, as 3.x code does."""
    model, seen = prepared('Grid'), []
    head, grid = model.roi_head, model.roi_head.grid_head

    class Own(type(head)):
        def _random_jitter(self, sampling_results, batch_img_metas, amplitude=0.15):
            for result, meta in zip(sampling_results, batch_img_metas):
                assert meta['img_shape']
                result.pos_priors = result.pos_priors + 1
            return sampling_results

    class OwnGrid(type(grid)):
        def get_targets(self, sampling_results, rcnn_train_cfg):
            seen.append(sampling_results.positives)
            return super().get_targets(sampling_results, rcnn_train_cfg)

    head.__class__, grid.__class__ = Own, OwnGrid
    losses_of(model)
    given = sample(3, 0).gt_instances.bboxes + 1  # the ground truths are positives of themselves
    assert all((box == given).all(1).any() for box in seen[0].boxes[0][seen[0].is_gt[0]])
    assert seen[0].is_gt.any()
