"""Assigners that look at predictions, against loops over ground truths, classes and priors."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData

from mmdet.models.core import Assignment, PaddedGT, Priors, share_of_best
from mmdet.models.core import gt as gt_module
from mmdet.models.task_modules.assigners import center_of_mass
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps

pytestmark = pytest.mark.usefixtures('default_scope')

NUM_CLASSES = 5
POINTS = {'SimOTAAssigner', 'DynamicSoftLabelAssigner'}
KINDS = {
    'ota': dict(type='SimOTAAssigner', center_radius=1.5, candidate_topk=6),
    'soft': dict(type='DynamicSoftLabelAssigner', topk=6),
    'aligned': dict(type='TaskAlignedAssigner', topk=6),
}


def scene(cfg, counts=(6, 0, 1, 3), seed=0, size=64):
    """Priors, ground truths and predictions of a batch: boxes around the priors, some of them good."""
    draw = torch.Generator().manual_seed(seed)
    levels = []
    for stride in (8, 16):
        y, x = torch.meshgrid(*[(torch.arange(size // stride) + 0.5) * stride] * 2, indexing='ij')
        grid = torch.stack([x, y, torch.full_like(x, stride), torch.full_like(x, stride)], -1).reshape(-1, 4)
        levels.append(grid)
    grid = torch.cat(levels)
    priors = grid if cfg['type'] in POINTS else torch.cat([grid[:, :2] - grid[:, 2:], grid[:, :2] + grid[:, 2:]], 1)
    gts = []
    for count in counts:
        center, half = torch.rand(count, 2, generator=draw) * size, torch.rand(count, 2, generator=draw) * 20 + 4
        labels = torch.randint(NUM_CLASSES, (count,), generator=draw)
        gts.append(InstanceData(bboxes=torch.cat([center - half, center + half], 1), labels=labels))
    half = torch.rand(len(counts), len(grid), 2, generator=draw) * 20 + 4
    boxes = torch.cat([grid[:, :2] - half, grid[:, :2] + half], -1)
    logits = torch.randn(len(counts), len(grid), NUM_CLASSES, generator=draw)
    scores = logits if cfg['type'] == 'DynamicSoftLabelAssigner' else logits.sigmoid()
    valid = torch.ones(len(counts), len(grid), dtype=torch.bool)
    return Priors(priors[None], valid, [len(level) for level in levels]), gts, scores, boxes


def ota_cost(priors, gt, scores, boxes, radius=1.5):
    """Costs and overlaps ``(n, P)``, and which priors may be chosen: Sec. 2.1 of YOLOX, pair by pair."""
    cost, overlap, able = (torch.zeros(len(gt), len(priors)) for _ in range(3))
    for g, (box, label) in enumerate(zip(gt.bboxes, gt.labels)):
        for p, (x, y, stride, _) in enumerate(priors):
            center = (box[:2] + box[2:]) / 2
            inside = x > box[0] and y > box[1] and x < box[2] and y < box[3]
            near = max(abs(x - center[0]), abs(y - center[1])) < radius * stride
            target = F.one_hot(label, NUM_CLASSES).float()
            overlap[g, p] = bbox_overlaps(boxes[p : p + 1], box[None])[0, 0]
            cost[g, p] = F.binary_cross_entropy(scores[p], target, reduction='sum')
            cost[g, p] -= 3 * torch.log(overlap[g, p] + 1e-7)
            cost[g, p] += 0 if inside and near else 100000.0
            able[g, p] = inside or near
    return cost, overlap, able.bool().any(0) if len(gt) else able.new_zeros(len(priors), dtype=torch.bool)


def soft_cost(priors, gt, scores, boxes):
    """The same for Eq. 1 to 5 of RTMDet."""
    cost, overlap, able = (torch.zeros(len(gt), len(priors)) for _ in range(3))
    for g, (box, label) in enumerate(zip(gt.bboxes, gt.labels)):
        for p, (x, y, stride, _) in enumerate(priors):
            overlap[g, p] = bbox_overlaps(boxes[p : p + 1], box[None])[0, 0]
            soft = F.one_hot(label, NUM_CLASSES) * overlap[g, p]
            entropy = F.binary_cross_entropy_with_logits(scores[p], soft, reduction='none')
            center = (box[:2] + box[2:]) / 2
            away = torch.stack([x, y]).sub(center).norm() / stride
            cost[g, p] = (entropy * (soft - scores[p].sigmoid()) ** 2).sum()
            cost[g, p] += -3 * torch.log(overlap[g, p] + 1e-7) + 10 ** (away - 3)
            able[g, p] = x > box[0] and y > box[1] and x < box[2] and y < box[3]
    return cost, overlap, able.bool().any(0) if len(gt) else able.new_zeros(len(priors), dtype=torch.bool)


def by_dynamic_k(cost, overlap, able, topk=6):
    inds = torch.zeros(len(able), dtype=torch.long)
    chosen = torch.zeros_like(cost, dtype=torch.bool)
    for g in range(len(cost)):
        places = able.nonzero().flatten()
        count = max(1, int(overlap[g, places].sort(descending=True).values[:topk].sum()))
        chosen[g, places[cost[g, places].argsort()[:count]]] = True
    for p in chosen.any(0).nonzero().flatten() if len(cost) else ():
        several = chosen[:, p].sum() > 1
        inds[p] = 1 + (cost[:, p].argmin() if several else chosen[:, p].int().argmax())
    return inds


def by_alignment(priors, gt, scores, boxes, topk=6):
    best, inds = torch.full((len(priors),), -1.0), torch.zeros(len(priors), dtype=torch.long)
    for g, (box, label) in enumerate(zip(gt.bboxes, gt.labels)):
        overlap = bbox_overlaps(boxes, box[None])[:, 0]
        metric = scores[:, label] * overlap**6
        for p in metric.argsort(descending=True)[:topk]:
            x, y = (priors[p, :2] + priors[p, 2:]) / 2
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if metric[p] > 0 and inside and overlap[p] > best[p]:
                best[p], inds[p] = overlap[p], g + 1
    return inds


def looped(name, priors, gt, scores, boxes):
    if name == 'aligned':
        return by_alignment(priors, gt, scores, boxes)
    return by_dynamic_k(*(ota_cost if name == 'ota' else soft_cost)(priors, gt, scores, boxes))


@pytest.mark.parametrize('seed', range(2))
@pytest.mark.parametrize('name', KINDS)
def test_a_batch_is_the_loop(name, seed, monkeypatch):
    assigner = TASK_UTILS.build(KINDS[name])
    priors, gts, scores, boxes = scene(KINDS[name], seed=seed)
    gt = PaddedGT.from_instances(gts)
    found = assigner.assign_batch(priors, gt, scores=scores, bboxes=boxes)
    assert (found.gt_inds > 0).sum() > 8
    for b, own in enumerate(gts):
        assert found.gt_inds[b].tolist() == looped(name, priors.boxes[0], own, scores[b], boxes[b]).tolist()
        image = InstanceData(priors=priors.boxes[0], scores=scores[b], bboxes=boxes[b])
        single = assigner.assign(image, own)
        assert single.gt_inds.tolist() == found.gt_inds[b].tolist()
        pos = single.gt_inds > 0
        expected = bbox_overlaps(boxes[b][pos], own.bboxes[single.gt_inds[pos] - 1], is_aligned=True)
        torch.testing.assert_close(single.max_overlaps[pos], expected)
        assert not single.max_overlaps[~pos].any()
    monkeypatch.setattr(gt_module, 'CPU_MATRIX_BUDGET', 4 * 80 * 12)  # two ground truths at a time
    in_parts = assigner.assign_batch(priors, gt, scores=scores, bboxes=boxes)
    assert in_parts.gt_inds.equal(found.gt_inds) and in_parts.quality.equal(found.quality)


@pytest.mark.parametrize('name', KINDS)
def test_invalid_priors_and_padding(name):
    assigner = TASK_UTILS.build(KINDS[name])
    priors, gts, scores, boxes = scene(KINDS[name], seed=3)
    priors.valid[0, :40] = False
    found = assigner.assign_batch(priors, PaddedGT.from_instances(gts), scores=scores, bboxes=boxes).gt_inds
    assert (found[0, :40] == -1).all() and (found[1] == 0).all()
    left = Priors(priors.boxes[:, 40:], priors.valid[:1, 40:], [24, 16])
    alone = assigner.assign_batch(
        left, PaddedGT.from_instances(gts[:1]), scores=scores[:1, 40:], bboxes=boxes[:1, 40:]
    ).gt_inds
    assert found[0, 40:].tolist() == alone[0].tolist()


@pytest.mark.parametrize('name', KINDS)
def test_without_predictions(name):
    assigner = TASK_UTILS.build(KINDS[name])
    priors, gts, _, _ = scene(KINDS[name])
    with pytest.raises(ValueError, match=f'{KINDS[name]["type"]} needs the predicted scores and bboxes'):
        assigner.assign_batch(priors, PaddedGT.from_instances(gts))


def test_the_choice_of_an_image_whose_costs_are_known():
    assigner = TASK_UTILS.build(dict(KINDS['ota'], candidate_topk=2))
    cost = torch.tensor([[1.0, 5.0], [2.0, 1.5], [9.0, 9.0]])
    overlaps = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.3, 0.2]])
    valid = torch.tensor([True, False, True, True])
    found, inds = assigner.dynamic_k_matching(cost, overlaps, 2, valid)  # one prior for each: 1.7 and 0.9
    assert valid.tolist() == [True, False, True, False]
    assert inds.tolist() == [0, 1] and found.tolist() == pytest.approx([0.9, 0.7])
    points = torch.tensor([[4.0, 4, 8, 8], [12, 4, 8, 8], [40, 40, 8, 8]])
    usable, both = assigner.get_in_gt_and_in_center_info(points, torch.tensor([[0.0, 0, 10, 10], [0, 0, 30, 30]]))
    assert usable.tolist() == [True, True, False] and both.tolist() == [[True, True], [False, True]]
    nothing = torch.zeros(3, dtype=torch.bool)
    assert assigner.dynamic_k_matching(cost[:0], overlaps[:0], 2, nothing)[0].shape == (0,)


def test_metrics_are_scaled_to_the_best_overlap():
    gt = PaddedGT.from_instances([InstanceData(bboxes=torch.zeros(2, 4), labels=torch.zeros(2, dtype=torch.long))])
    assignment = Assignment(torch.tensor([[1, 1, 2, 0, -1]]))
    metric, overlap = torch.tensor([[0.2, 0.1, 0.3, 9.0, 9.0]]), torch.tensor([[0.5, 0.8, 0.6, 0.9, 0.9]])
    found = share_of_best(metric, overlap, assignment, gt)
    torch.testing.assert_close(found, torch.tensor([[0.8, 0.4, 0.6, 0.0, 0.0]]), rtol=1e-5, atol=1e-6)


def test_center_of_mass():
    masks = torch.zeros(2, 4, 6)
    masks[0, 1, 2:5] = 1
    masks[0, 3, 3] = 1
    assert center_of_mass(masks).tolist() == [[3.0, 1.5], [0.0, 0.0]]


def test_uniform_by_hand():
    """Anchors in a row; predictions are the anchors moved by their index, so that the nearest are others."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]])
    boxes = anchors[torch.tensor([3, 4, 2, 0, 1])]
    cfg = dict(type='UniformAssigner', pos_ignore_thr=0.3, neg_ignore_thr=0.7, match_times=2)
    truth = InstanceData(bboxes=torch.tensor([[1.0, 0, 11, 10], [41, 0, 51, 10]]), labels=torch.tensor([2, 0]))
    result = TASK_UTILS.build(cfg).assign(InstanceData(priors=anchors, decoder_priors=boxes), truth)
    # Of the four pairs of each box only those count whose anchor overlaps it by 0.3 and more.
    assert result.gt_inds[3] == 2
    assert result.gt_inds[0] == 1
    assert result.get_extra_property('target_boxes').shape == (8, 4)
    counted = result.get_extra_property('pos_idx')
    chosen = result.get_extra_property('pos_predicted_boxes')[counted]
    assert chosen.tolist() == [boxes[0].tolist(), boxes[3].tolist()]
    assert (result.gt_inds > 0).sum() == 2
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    assert not TASK_UTILS.build(cfg).assign(InstanceData(priors=anchors, decoder_priors=boxes), empty).gt_inds.any()
    with pytest.raises(ValueError, match='UniformAssigner needs the predicted bboxes'):
        valid = torch.ones(1, 5, dtype=torch.bool)
        TASK_UTILS.build(cfg).assign_batch(Priors(anchors[None], valid, [5]), PaddedGT.from_instances([truth]))


# Squares of side 10 in a row; those of the cells with the centre of a box are responsible.
ROW = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10], [30, 0, 40, 10]])


@pytest.mark.parametrize(
    'changes, boxes, responsible, expected',
    [
        ({}, [[1, 0, 11, 10]], [1, 0, 0, 0], [1, 0, 0, 0]),
        ({}, [[1, 0, 11, 10]], [0, 1, 0, 0], [-1, 1, 0, 0]),  # the best is not responsible, and no background either
        (dict(min_pos_iou=0.3), [[1, 0, 11, 10]], [0, 1, 0, 0], [-1, 0, 0, 0]),
        (dict(pos_iou_thr=0.04), [[1, 0, 11, 10]], [1, 1, 0, 0], [1, 1, 0, 0]),
        ({}, [[1, 0, 11, 10], [0, 0, 10, 10]], [1, 0, 0, 0], [2, 0, 0, 0]),  # of both boxes the last claims
        (dict(neg_iou_thr=(0.02, 0.5)), [[1, 0, 11, 10]], [1, 0, 0, 0], [1, 0, -1, -1]),
        ({}, [[1, 0, 39, 10]], [0, 1, 1, 0], [0, 1, 1, 0]),  # equally good
        (dict(gt_max_assign_all=False), [[1, 0, 39, 10]], [0, 1, 1, 0], [0, 1, 0, 0]),
        ({}, [], [0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_grid(changes, boxes, responsible, expected):
    cfg = dict(type='GridAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0) | changes
    image = InstanceData(priors=ROW, responsible_flags=torch.tensor(responsible, dtype=torch.uint8))
    truth = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), labels=torch.zeros(len(boxes)).long()
    )
    assert TASK_UTILS.build(cfg).assign(image, truth).gt_inds.tolist() == expected
