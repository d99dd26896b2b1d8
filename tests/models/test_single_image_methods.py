"""Methods of 3.x for one image or one level, which the batched heads do not call, say the same as the batch."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.core import PaddedGT, Priors
from mmdet.models.dense_heads import AutoAssignHead, FSAFHead, PAAHead, RepPointsHead
from mmdet.models.losses import EQLV2Loss, L2Loss
from mmdet.models.task_modules import AnchorGenerator, AssignResult, MaxIoUAssigner, SamplingResult
from mmdet.structures.bbox import bbox_overlaps

BOXES = torch.tensor([[4.0, 4, 30, 28], [20, 10, 60, 50], [21, 11, 61, 51]])
LABELS = torch.tensor([1, 0, 1])
TRAINING = dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.1, neg_iou_thr=0.1), allowed_border=-1)
ANCHORS = dict(type='AnchorGenerator', ratios=[1.0], octave_base_scale=4, scales_per_octave=1, strides=[8, 16])


@pytest.mark.parametrize('low_quality', [True, False])
def test_assignment_by_given_overlaps(default_scope, low_quality):
    torch.manual_seed(0)
    priors = torch.rand(50, 4) * 30
    priors[:, 2:] += 30
    assigner = MaxIoUAssigner(0.5, 0.4, min_pos_iou=0.3, match_low_quality=low_quality)
    gt = InstanceData(bboxes=BOXES, labels=LABELS)
    expected = assigner.assign(InstanceData(priors=priors), gt)
    found = assigner.assign_wrt_overlaps(bbox_overlaps(BOXES, priors), LABELS)
    assert found.gt_inds.tolist() == expected.gt_inds.tolist()
    assert found.labels.tolist() == expected.labels.tolist()
    torch.testing.assert_close(found.max_overlaps, expected.max_overlaps)
    assert assigner.assign_wrt_overlaps(torch.zeros(0, 5), LABELS[:0]).gt_inds.tolist() == [0] * 5


def test_random_results():
    for seed in range(20):
        result = AssignResult.random(rng=seed, p_use_label=1.0)
        assert len(result.gt_inds) == len(result.max_overlaps) == result.num_preds
        assert not len(result.gt_inds) or -1 <= int(result.gt_inds.min()) <= int(result.gt_inds.max()) <= result.num_gts
        assert ((result.labels >= 0) == (result.gt_inds > 0)).all()
        sampled = SamplingResult.random(rng=seed)
        assert len(sampled.bboxes) == len(sampled.pos_inds) + len(sampled.neg_inds)
        assert sampled.info['pos_bboxes'].shape == (len(sampled.pos_inds), 4)
    assert AssignResult.random(num_preds=7, num_gts=0, rng=0).gt_inds.max() <= 0


def test_anchors_of_given_base():
    generator = AnchorGenerator(strides=[8, 16], ratios=[0.5, 2.0], scales=[4.0])
    grid = generator.single_level_grid_anchors(generator.base_anchors[1], (3, 5), (16, 16), 'cpu')
    assert torch.equal(grid, generator.grid_priors([(6, 10), (3, 5)], device='cpu')[1])


def test_autoassign(default_scope):
    torch.manual_seed(0)
    head = AutoAssignHead(2, 8, stacked_convs=1, feat_channels=8, strides=(8, 16), norm_cfg=None)
    points = head.prior_generator.grid_priors([(8, 8), (4, 4)], device='cpu')
    images = [InstanceData(bboxes=BOXES[:n], labels=LABELS[:n]) for n in (3, 1, 0)]
    gt = PaddedGT.from_instances(images)
    inside, _ = head.get_targets(points, images)
    weight, counted = head.center_prior.weigh(points, gt, inside)
    confidence, loss, overlap = torch.rand(3, 80, 2), torch.rand(weight.shape), torch.rand(3, 80)
    pos = neg = 0
    for b, image in enumerate(images):
        own, one = slice(0, len(image)), torch.ones(80, 1)
        single, mask = head.center_prior(points, image, inside[b, own].T)
        torch.testing.assert_close(single, weight[b, own].T)
        pos = pos + head.get_pos_loss_single(confidence[b], one, loss[b, own].T, image, single)[0]
        neg = neg + head.get_neg_loss_single(confidence[b], one, image, overlap[b], mask)[0]
    torch.testing.assert_close(pos, head._pos_loss(confidence, loss, gt, weight))
    torch.testing.assert_close(neg, head._neg_loss(confidence, gt, overlap, counted))


def test_paa_reassigns_one_image_as_a_batch(default_scope):
    torch.manual_seed(0)
    head = PAAHead(2, 8, stacked_convs=1, feat_channels=8, norm_cfg=None, anchor_generator=ANCHORS, train_cfg=TRAINING)
    image, meta = InstanceData(bboxes=BOXES, labels=LABELS), dict(img_shape=(64, 64), pad_shape=(64, 64))
    maps = [torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)]
    _, targets = head._anchors_and_targets(maps, [image], [meta], None)
    losses = torch.rand(1, 80)
    kept = head._reassign(losses, targets, 3)[0]
    place = targets.pos[0].nonzero().flatten()
    levels = head.prior_generator.grid_priors([(8, 8), (4, 4)], device='cpu')
    label, _, weight, count = head.paa_reassign(
        losses[0, place],
        targets.labels[0],
        targets.label_weights[0],
        targets.bbox_weights[0],
        place,
        targets.gt_inds[0, place] - 1,
        levels,
    )
    assert count == int(kept.sum()) and 0 < count < len(place)
    assert torch.equal(label < 2, kept) and torch.equal(weight[:, 0] > 0, kept)
    inds, ignored = head.gmm_separation_scheme(np.array([0, 0, 1]), np.array([0.1, 0.9, 0.2]), torch.tensor([5, 7, 9]))
    assert inds.tolist() == [5, 7] and not len(ignored)


def test_fsaf_chooses_the_level_of_the_least_loss(default_scope):
    head = FSAFHead(2, 8, stacked_convs=1, feat_channels=8, anchor_generator=ANCHORS)
    cls_loss, reg_loss = torch.tensor([[1.0, 2], [3, 4], [5, 6]]), torch.tensor([[1.0] * 4, [0.0] * 4, [0.0] * 4])
    inds = torch.tensor([0, 0, -1])
    (mean,) = head.collect_loss_level_single(cls_loss, reg_loss, inds, torch.tensor([0, 1]))
    assert mean.tolist() == [7.0, 1e6]
    labels = torch.tensor([1, 0, 2])
    kept = head.reweight_loss_single(cls_loss, reg_loss, inds, labels, 0, torch.tensor([0]))
    left = head.reweight_loss_single(cls_loss, reg_loss, inds, labels, 1, torch.tensor([0]))
    assert (kept[0], kept[1], kept[2].tolist()) == (21, 4, [True, True, False])
    assert (left[0], left[1], left[2].tolist()) == (21 - 2 - 3, 0, [False] * 3)


def test_points_of_reppoints(default_scope):
    torch.manual_seed(0)
    head = RepPointsHead(2, 8, 8, stacked_convs=1, feat_channels=8, point_strides=[8, 16], norm_cfg=None)
    centers = head.prior_generator.grid_priors([(4, 4), (2, 2)], device='cpu', with_stride=True)
    preds = [torch.randn(2, 18, 4, 4), torch.randn(2, 18, 2, 2)]
    stride = torch.cat([level[:, 2:3] for level in centers])
    priors = Priors(torch.cat(centers)[None], torch.ones(1, 20, dtype=torch.bool), [16, 4])
    points = head.offset_to_pts([centers, centers], preds)
    torch.testing.assert_close(torch.cat(points, 1), head._to_pixels(preds, priors, stride))
    boxes = head.centers_to_bboxes([centers])[0]
    assert boxes[1][3].tolist() == [16 - 32, 16 - 32, 16 + 32, 16 + 32]
    decoded = head._bbox_decode(centers[0][:1], torch.tensor([[-1.0, -1, 1, 9]]), 8, (32, 40))
    assert decoded.tolist() == [[0, 0, 8, 32]]


def test_helpers_of_losses():
    assert sorted(L2Loss.random_choice(torch.arange(4), 4).tolist()) == [0, 1, 2, 3]
    assert len(L2Loss.random_choice([1, 2, 3], 2)) == 2
    with pytest.raises(ValueError, match='5 elements'):
        L2Loss.random_choice([1, 2, 3], 5)
    loss = EQLV2Loss(num_classes=2)
    positive, negative = loss.get_weight(torch.zeros(5, 3))
    assert positive.shape == negative.shape == (5, 3) and positive[0, 2] == negative[0, 2] == 1
    loss.collect_grad(torch.zeros(1, 3), torch.tensor([[1.0, 0, 1]]), torch.ones(1, 3))
    assert loss.pos_grad.tolist() == [0.5, 0] and loss.neg_grad.tolist() == [0, 0.5]
