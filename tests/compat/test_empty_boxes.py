"""No boxes, in every shape that an empty tensor may have: (0, 4), or the (0,) of ``torch.tensor([])``."""

import itertools

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps

ASSIGNERS = {
    'all best': dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, ignore_iof_thr=0.5),
    'first best': dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=(0.1, 0.5), gt_max_assign_all=False),
    'approximations': dict(type='ApproxMaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, ignore_iof_thr=0.5),
    'statistics': dict(type='ATSSAssigner', topk=9, ignore_iof_thr=0.5),
    'predictions': dict(type='ATSSAssigner', topk=9, alpha=0.8),
    'top candidates': dict(type='TopkAssigner', topk=9),
    'ranges': dict(type='SpaceScaleAssigner', regress_ranges=((-1, 1e8),)),
    'centre region': dict(type='CenterRegionAssigner', pos_scale=0.3, neg_scale=1),
    'points': dict(type='PointAssigner'),
}


def some_boxes(count, size, flat):
    if count == 0:
        return torch.empty(0) if flat else torch.empty(0, size)
    corner = torch.rand(count, 2) * 50
    return torch.cat([corner, torch.full((count, 1), 8.0) if size == 3 else corner + 9], 1)


def assign(name, num_priors, num_gts, num_ignored, flat):
    cfg = ASSIGNERS[name]
    assigner, size = TASK_UTILS.build(cfg), 3 if name == 'points' else 4
    pred = InstanceData(priors=some_boxes(num_priors, size, flat))
    if name == 'approximations':
        pred.approxs = pred.priors.reshape(num_priors, -1, 4) if num_priors else pred.priors
    if name == 'predictions':
        pred.bboxes, pred.scores = some_boxes(num_priors, 4, False), torch.rand(num_priors, 2)
    labels = torch.empty(0) if flat and not num_gts else torch.zeros(num_gts, dtype=torch.long)
    gt = InstanceData(bboxes=some_boxes(num_gts, 4, flat), labels=labels)
    ignored = None if num_ignored is None else InstanceData(bboxes=some_boxes(num_ignored, 4, flat))
    levels = [[num_priors]] if cfg['type'] in ('ATSSAssigner', 'TopkAssigner', 'SpaceScaleAssigner') else []
    return assigner.assign(pred, *levels, gt, ignored)


@pytest.mark.parametrize('flat', [False, True])
@pytest.mark.parametrize('name', ASSIGNERS)
def test_every_assigner_takes_no_priors_and_no_ground_truths(name, flat):
    for num_priors, num_gts, num_ignored in itertools.product((0, 5), (0, 3), (None, 0, 2)):
        result = assign(name, num_priors, num_gts, num_ignored, flat)
        assert result.num_gts == num_gts
        assert result.gt_inds.shape == result.labels.shape == (num_priors,)
        assert result.gt_inds.dtype == result.labels.dtype == torch.long
        if not num_gts:
            assert (result.gt_inds <= 0).all() and (result.labels == -1).all()
        if name == 'centre region':
            assert result.get_extra_property('shadowed_labels').shape[1:] == (2,)


@pytest.mark.parametrize('aligned', [False, True])
def test_overlaps_of_no_boxes(aligned):
    flat, none, some = torch.tensor([]), torch.empty(0, 4), torch.rand(2, 4)
    calculator = TASK_UTILS.build(dict(type='BboxOverlaps2D'))
    for overlaps, mode in itertools.product((bbox_overlaps, calculator), ('iou', 'iof', 'giou')):
        for empty in (flat, none):
            expected = (0,) if aligned else (0, 0)
            assert overlaps(empty, empty, mode, aligned).shape == expected
            if not aligned:
                assert overlaps(empty, some, mode).shape == (0, 2)
                assert overlaps(some, empty, mode).shape == (2, 0)
        assert overlaps(torch.empty(3, 0, 4), torch.rand(3, 2, 4), mode).shape == (3, 0, 2)


def test_overlaps_refuse_what_are_no_boxes():
    calculator = TASK_UTILS.build(dict(type='BboxOverlaps2D'))
    for overlaps, shape in itertools.product((bbox_overlaps, calculator), ((2, 3), (4,), (2, 6))):
        with pytest.raises(ValueError, match='boxes'):
            overlaps(torch.rand(shape), torch.rand(2, 4))


SAMPLERS = {
    'random': dict(type='RandomSampler'),
    'negatives by overlap': dict(type='IoUBalancedNegSampler', floor_thr=0, floor_fraction=0.5),
    'positives by object': dict(type='InstanceBalancedPosSampler'),
}


@pytest.mark.parametrize('add_gt', [False, True])
@pytest.mark.parametrize('name', SAMPLERS)
def test_every_sampler_takes_no_priors_and_no_ground_truths(name, add_gt):
    assigner = TASK_UTILS.build(dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5))
    sampler = TASK_UTILS.build(dict(SAMPLERS[name], num=6, pos_fraction=0.5, add_gt_as_proposals=add_gt))
    for num_priors, num_gts in itertools.product((0, 5), (0, 3)):
        priors = InstanceData(priors=some_boxes(num_priors, 4, False))
        gt = InstanceData(bboxes=some_boxes(num_gts, 4, False), labels=torch.zeros(num_gts, dtype=torch.long))
        result = sampler.sample(assigner.assign(priors, gt), priors, gt)
        assert len(result.pos_inds) == len(result.pos_priors) == len(result.pos_gt_bboxes)
        assert len(result.neg_inds) == len(result.neg_priors)
        assert len(result.pos_inds) + len(result.neg_inds) == min(num_priors + add_gt * num_gts, 6) or num_gts


CODERS = [dict(type='DeltaXYWHBBoxCoder'), dict(type='TBLRBBoxCoder'), dict(type='DistancePointBBoxCoder')]


@pytest.mark.parametrize('cfg', CODERS, ids=lambda cfg: cfg['type'])
def test_coders_refuse_what_does_not_belong_together(cfg):
    coder, size = TASK_UTILS.build(cfg), 2 if 'Point' in cfg['type'] else 4
    assert coder.encode(torch.empty(0, size), torch.empty(0, 4)).shape == (0, 4)
    assert coder.decode(torch.empty(0, size), torch.empty(0, 4), max_shape=(9, 9)).shape == (0, 4)
    for call in (coder.encode, coder.decode):
        for wrong in (torch.rand(2, size), torch.rand(3, size + 1)):
            with pytest.raises(ValueError) as caught:
                call(wrong, torch.rand(3, 4))
            assert isinstance(caught.value, AssertionError)
    with pytest.raises(ValueError, match='max_shape'):
        coder.decode(torch.rand(2, 3, size), torch.rand(2, 3, 4), max_shape=[(9, 9)])
