"""Sets of objects: what they are assigned, drawn, compared and suppressed by."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.core import PaddedGT, Priors
from mmdet.models.roi_heads.bbox_heads import MultiInstanceBBoxHead
from mmdet.models.task_modules.assigners import MultiInstanceAssigner
from mmdet.models.task_modules.samplers import MultiInsRandomSampler
from mmdet.structures.bbox import bbox_overlaps

pytestmark = pytest.mark.usefixtures('default_scope')


def assigner(**kwargs):
    return MultiInstanceAssigner(**{'pos_iou_thr': 0.5, 'neg_iou_thr': 0.5, 'min_pos_iou': 0.3, **kwargs})


def boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 30
    return torch.cat([corner, corner + 10 + torch.rand(count, 2, generator=generator) * 20], 1)


def instances(rows):
    rows = torch.as_tensor(rows, dtype=torch.float32).reshape(-1, 4)
    return InstanceData(bboxes=rows, labels=torch.zeros(len(rows), dtype=torch.long))


def by_hand(candidates, own, ignored, pos=0.5, neg=0.5):
    """Labels and 0-based ground truths of two instances of each candidate, one number at a time."""
    labels, inds = [], []
    iou, iof = bbox_overlaps(candidates, own), bbox_overlaps(candidates, ignored, mode='iof')
    for i in range(len(candidates)):
        best = sorted(range(len(own)), key=lambda g, i=i: -iou[i, g])[:2]
        covered = sorted((float(x) for x in iof[i]), reverse=True)
        row = []
        for m in range(2):
            overlap = float(iou[i, best[m]]) if m < len(best) else 0.0
            region = covered[m] if m < len(covered) else 0.0
            if overlap >= pos:
                row.append((1, best[m]))
            elif region > overlap:
                row.append((0 if region < neg else -1, 0))
            else:
                row.append((0 if overlap < neg else -1, 0))
        labels.append([label for label, _ in row])
        inds.append([index for _, index in row])
    return torch.tensor(labels), torch.tensor(inds)


@pytest.mark.parametrize('counts', [(4, 2), (1, 3), (3, 0), (0, 2), (0, 0)])
def test_each_candidate_gets_its_two_best(counts):
    own, ignored = instances(boxes(counts[0], 1)), instances(boxes(counts[1], 2))
    own.bboxes[1::2] = own.bboxes[: counts[0] // 2] + 2  # crowds
    priors = torch.cat([boxes(30, 3), own.bboxes + 1, ignored.bboxes + 1])
    result = assigner().assign(InstanceData(priors=priors), own, ignored)
    candidates = torch.cat([priors, own.bboxes, ignored.bboxes])
    labels, inds = by_hand(candidates, own.bboxes, ignored.bboxes)
    torch.testing.assert_close(result.labels, labels)
    torch.testing.assert_close(result.gt_inds, inds)
    assert result.num_gts == sum(counts)
    if counts == (4, 2):
        assert {tuple(row) for row in labels.tolist()} >= {(1, 1), (1, 0), (0, 0), (-1, 0)}


def test_a_batch_is_assigned_as_its_images():
    own, ignored = [instances(boxes(n, n)) for n in (3, 0, 1)], [instances(boxes(n, 5 + n)) for n in (0, 2, 1)]
    priors = torch.stack([boxes(20, 10 + i) for i in range(3)])
    gt = PaddedGT.from_instances(own, ignored)
    valid = torch.ones(3, 20, dtype=torch.bool)
    valid[1, 15:] = False
    found = assigner().assign_batch(Priors(priors, valid, [20]), gt)
    inds = found.extras['instance_inds'].transpose(1, 2)
    for i in range(3):
        alone = assigner().assign(InstanceData(priors=priors[i][valid[i]]), own[i], ignored[i])
        used = torch.cat([valid[i], gt.mask[i], gt.ignored_mask[i]])
        torch.testing.assert_close(inds[i][used].clamp(max=1), alone.labels)
        assert (inds[i][~used] == -1).all()
    torch.testing.assert_close(found.gt_inds, inds[..., 0])


def test_a_sampler_draws_by_the_first_instance():
    own, ignored = instances([[0, 0, 10, 10], [1, 0, 11, 10]]), instances([[40, 40, 60, 60]])
    priors = torch.tensor([[0.0, 0, 10, 11], [42, 42, 50, 50], [20, 20, 30, 30], [22, 20, 30, 30]])
    result = assigner().assign(InstanceData(priors=priors), own, ignored)
    assert result.labels.tolist() == [[1, 1], [-1, 0], [0, 0], [0, 0], [1, 1], [1, 1], [-1, 0]]
    sampler = MultiInsRandomSampler(num=4, pos_fraction=0.5)
    for _ in range(5):
        drawn = sampler.sample(result, InstanceData(priors=priors), own, batch_gt_instances_ignore=ignored)
        assert set(drawn.pos_inds.tolist()) < {0, 4, 5} and len(drawn.pos_inds) == 2
        assert drawn.neg_inds.tolist() == [2, 3]
        assert drawn.pos_gt_labels.tolist() == [[1, 1]] * 2 and drawn.neg_gt_labels.tolist() == [[0, 0]] * 2
        assert {tuple(row) for row in drawn.pos_gt_bboxes.flatten(0, 1).tolist()} == {(0, 0, 10, 10), (1, 0, 11, 10)}
        assert drawn.pos_is_gt.tolist() == [int(i > 3) for i in drawn.pos_inds.tolist()]
    sampler = MultiInsRandomSampler(num=4, pos_fraction=0.25, neg_pos_ub=1)
    drawn = sampler.sample(result, InstanceData(priors=priors), own, batch_gt_instances_ignore=None)
    assert len(drawn.pos_inds) == len(drawn.neg_inds) == 1


def test_the_better_order_of_a_set_counts():
    head = MultiInstanceBBoxHead(
        num_classes=1,
        in_channels=1,
        fc_out_channels=2,
        roi_feat_size=1,
        loss_cls=dict(type='CrossEntropyLoss', reduction='none'),
        loss_bbox=dict(type='L1Loss', reduction='none'),
    )
    scores = torch.zeros(2, 4)  # log 2 for each class
    pred = torch.tensor([[1.0, 0, 0, 0, 5, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0]])
    targets = torch.tensor([[5.0, 0, 0, 0, 2, 0, 0, 0], [0, 0, 3, 0, 9, 9, 9, 9]])
    labels = torch.tensor([[1, 1], [1, 0]])
    one = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    # |1 - 5| + |5 - 2| or |1 - 2| + |5 - 5|; |2 - 0| + |0 - 3| or |0 - 3|: the target of background has no box
    expected = 2 * torch.log(torch.tensor(2.0)) + torch.tensor([1.0, 3.0])
    loss = head.loss(scores, pred, None, labels, one, targets, None)['loss_rcnn_emd']
    torch.testing.assert_close(loss, expected.mean())
    one[1] = 0
    loss = head.loss(scores, pred, None, labels, one, targets, None)['loss_rcnn_emd']
    torch.testing.assert_close(loss, expected[0])


def set_nms_loop(rows, scores, threshold, iou_threshold):
    kept = []
    for i in sorted((i for i in range(len(rows)) if scores[i] > threshold), key=lambda i: -float(scores[i])):
        beaten = any(
            rows[j, 4] != rows[i, 4] and bbox_overlaps(rows[j : j + 1, :4], rows[i : i + 1, :4]).item() > iou_threshold
            for j in kept
        )
        kept += [] if beaten else [i]
    return kept


def test_suppression_spares_boxes_of_the_same_region():
    rows = torch.tensor(
        [[0.0, 0, 10, 10, 0], [0, 0, 10, 10, 0], [0, 0, 10, 9, 1], [30, 0, 40, 10, 1], [0, 0, 9, 10, 2]]
    )
    scores = torch.tensor([0.5, 0.9, 0.8, 0.7, 0.05])
    found, kept = MultiInstanceBBoxHead.set_nms(rows, scores, 0.1, 0.5)
    assert found.tolist() == rows[[1, 3, 0]].tolist() and kept.tolist() == scores[[1, 3, 0]].tolist()
    assert len(MultiInstanceBBoxHead.set_nms(rows, scores, 0.1, 0.5, max_num=2)[0]) == 2
    assert len(MultiInstanceBBoxHead.set_nms(rows, scores, 1.0, 0.5)[0]) == 0
    many = torch.cat([boxes(200, 0), torch.arange(200)[:, None] // 2], 1)
    scores = torch.rand(200, generator=torch.Generator().manual_seed(0))
    found, _ = MultiInstanceBBoxHead.set_nms(many, scores, 0.2, 0.4)
    torch.testing.assert_close(found, many[set_nms_loop(many, scores, 0.2, 0.4)])


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(num_instance=3), 'must be 2'),
        (dict(with_refine=True, num_shared_fcs=0), 'at least 1'),
        (dict(reg_decoded_bbox=True), 'not reg_decoded_bbox'),
    ],
)
def test_what_a_head_of_sets_refuses(given, message):
    with pytest.raises(ValueError, match=message):
        MultiInstanceBBoxHead(num_classes=1, in_channels=1, fc_out_channels=2, roi_feat_size=1, **given)
