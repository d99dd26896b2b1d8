import itertools

import pytest
import torch
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment

from mmdet.models.core import PaddedGT, QueryOutputs, QueryPairs, joined, layer_losses, parted, set_matching, solve
from mmdet.models.losses import FocalLoss
from mmdet.models.task_modules.assigners import BaseMatchCost, HungarianAssigner
from mmdet.models.task_modules.assigners.match_cost import l1_distances
from mmdet.models.task_modules.joints import match_groups
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps

COSTS = {
    'class': dict(type='ClassificationCost', weight=1.5),
    'focal': dict(type='FocalLossCost', weight=2.0),
    'l1 centres': dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
    'l1': dict(type='BBoxL1Cost'),
    'giou': dict(type='IoUCost', iou_mode='giou', weight=2.0),
    'iou': dict(type='IoUCost', iou_mode='iou'),
    'dice': dict(type='DiceCost', pred_act=True, eps=1.0),
    'dice squared': dict(type='DiceCost', pred_act=True, naive_dice=False),
    'entropy': dict(type='CrossEntropyLossCost', weight=3.0),
    'focal masks': dict(type='FocalLossCost', binary_input=True),
}
META = dict(img_shape=(40, 80))


def objects(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 30
    size = 1 + torch.rand(count, 2, generator=generator) * 30
    return InstanceData(
        bboxes=torch.cat([corner, corner + size], 1),
        labels=torch.randint(0, 3, (count,), generator=generator),
        masks=torch.rand(count, 4, 5, generator=generator) > 0.5,
    )


def queries(count, seed=0):
    generator = torch.Generator().manual_seed(100 + seed)
    boxes = objects(count, 50 + seed).bboxes
    logits = torch.randn(count, 4, generator=generator)
    return InstanceData(scores=logits, bboxes=boxes, masks=torch.randn(count, 4, 5, generator=generator))


def batch(counts, num_queries=7):
    images = [queries(num_queries, n) for n in range(len(counts))]
    truth = [objects(count, n) for n, count in enumerate(counts)]
    predictions = {name: torch.stack([image[name] for image in images]) for name in ('scores', 'bboxes', 'masks')}
    sizes = torch.tensor([[80.0, 40, 80, 40]]).repeat(len(counts), 1)
    pairs = QueryPairs(PaddedGT.from_instances(truth), **predictions, sizes=sizes, metas=[META] * len(counts))
    return pairs, images, truth


def by_hand(name, pred, gt, q, g):
    """One cost of one pair as the papers write it."""
    cfg = COSTS[name]
    weight = cfg.get('weight', 1.0)
    box, truth = pred.bboxes[q], gt.bboxes[g]
    if name == 'class':
        return -weight * pred.scores[q].softmax(0)[gt.labels[g]]
    focal = lambda p: (-0.25 * (1 - p) ** 2 * p.log(), -0.75 * p**2 * (1 - p).log())
    if name == 'focal':
        positive, negative = focal(pred.scores[q, gt.labels[g]].sigmoid())
        return weight * (positive - negative)
    if name.startswith('l1'):
        if name == 'l1 centres':
            box, truth = (torch.cat([(b[:2] + b[2:]) / 2, b[2:] - b[:2]]) for b in (box, truth))
        return weight * ((box - truth).abs() / torch.tensor([80.0, 40, 80, 40])).sum()
    if name.endswith('iou'):
        area = lambda b: (b[2] - b[0]) * (b[3] - b[1])
        inner = torch.cat([torch.maximum(box[:2], truth[:2]), torch.minimum(box[2:], truth[2:])])
        overlap = area(inner) if (inner[2:] > inner[:2]).all() else torch.tensor(0.0)
        union = area(box) + area(truth) - overlap
        outer = area(torch.cat([torch.minimum(box[:2], truth[:2]), torch.maximum(box[2:], truth[2:])]))
        value = overlap / union
        return -weight * (value - (outer - union) / outer if name == 'giou' else value)
    logits, target = pred.masks[q].flatten(), gt.masks[g].flatten()
    p = logits.sigmoid()
    if name == 'entropy':
        return -weight * torch.where(target, p.log(), (1 - p).log()).mean()
    if name == 'focal masks':
        return torch.where(target, *focal(p)).mean()
    total = p.sum() + target.sum() if name == 'dice' else (p**2).sum() + target.sum()
    eps = cfg.get('eps', 1e-3)
    return 1 - (2 * p[target].sum() + eps) / (total + eps)


@pytest.mark.parametrize('name', COSTS)
def test_costs(name):
    cost = TASK_UTILS.build(COSTS[name])
    pairs, images, truth = batch([3, 0, 1])
    whole = cost.cost_batch(pairs)
    assert whole.shape == (3, 7, 3)
    for n, (pred, gt) in enumerate(zip(images, truth)):
        single = cost(pred, gt, META)
        assert single.shape == (7, len(gt))
        torch.testing.assert_close(single, whole[n, :, : len(gt)])
        for q, g in itertools.product(range(7), range(len(gt))):
            torch.testing.assert_close(single[q, g], by_hand(name, pred, gt, q, g), rtol=1e-4, atol=1e-5)


def test_tokens_that_the_mask_leaves_out_cost_nothing():
    cost = TASK_UTILS.build(dict(type='BinaryFocalLossCost', weight=2.0))
    maps = torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 0]])
    used = torch.tensor([True, True, True, False])
    gt = InstanceData(positive_maps=maps, text_token_mask=used.expand(2, -1), labels=torch.zeros(2, dtype=torch.long))
    logits = queries(5).scores
    p = logits.sigmoid()[:, None]
    focal = torch.where(maps > 0, -0.25 * (1 - p) ** 2 * p.log(), -0.75 * p**2 * (1 - p).log())
    torch.testing.assert_close(cost(InstanceData(scores=logits), gt), 2 * focal[..., used].sum(-1))


def test_costs_in_parts_are_those_of_all_problems(monkeypatch):
    pairs, *_ = batch([3, 0, 1, 2])
    pairs.of_gt('masks')
    assigner = HungarianAssigner([COSTS[name] for name in ('focal', 'l1 centres', 'giou', 'dice')])
    whole = assigner.cost(pairs)
    monkeypatch.setattr(set_matching, 'CPU_PAIRS', 2 * 7 * 3)
    assert len(pairs.parts()) == 2
    torch.testing.assert_close(assigner.cost(pairs), whole)


@pytest.mark.parametrize('narrow_from', [4096, 3], ids=['whole', 'narrow'])
def test_ground_truths_may_get_several_queries(narrow_from, monkeypatch):
    monkeypatch.setattr(set_matching, 'NARROW_FROM', narrow_from)
    counts, copies = [3, 0, 2], [2, 1, 4]
    cost = torch.rand(3, 20, 3, generator=torch.Generator().manual_seed(1))
    (found,) = solve([cost], [counts], [copies])
    for n, (count, number) in enumerate(zip(counts, copies)):
        assert found[n].bincount(minlength=count + 1)[1:].tolist() == [number] * count
        table = cost[n, :, :count].repeat_interleave(number, 1)
        rows, columns = linear_sum_assignment(table)
        matched = found[n] > 0
        total = cost[n][matched, found[n][matched] - 1].sum()
        torch.testing.assert_close(total, table[rows, columns].sum())


@pytest.mark.parametrize('narrow_from', [4096, 3], ids=['whole', 'narrow'])
@pytest.mark.parametrize('num_queries', [5, 2, 40])
def test_solve_is_a_loop_over_layers_and_images(num_queries, narrow_from, monkeypatch):
    monkeypatch.setattr(set_matching, 'NARROW_FROM', narrow_from)
    counts = [3, 0, 4, 1, 0, 2]
    first = torch.rand(6, num_queries, 4, generator=torch.Generator().manual_seed(1))
    second = torch.rand(2, 11, 3, generator=torch.Generator().manual_seed(2))
    found = solve([first, second], [counts, [3, 2]])
    for costs, group, inds in zip((first, second), (counts, [3, 2]), found):
        assert inds.dtype == torch.long
        for n, count in enumerate(group):
            expected = torch.zeros(costs.shape[1], dtype=torch.long)
            rows, columns = linear_sum_assignment(costs[n, :, :count].numpy())
            expected[rows] = torch.from_numpy(columns) + 1
            assert inds[n].tolist() == expected.tolist()


def test_costs_that_are_not_finite_are_matched_all_the_same():
    costs = torch.tensor([[[torch.nan, torch.inf], [0.0, -torch.inf], [torch.nan, 1.0]]])
    (found,) = solve([costs], [[2]])
    assert sorted(found[0].tolist()) == [0, 1, 2]


def assigner(*names):
    return HungarianAssigner([COSTS[name] for name in names])


def test_an_assignment_of_a_batch_is_that_of_its_images():
    pairs, images, truth = batch([3, 0, 9])  # more objects than queries, too
    kind = assigner('focal', 'l1 centres', 'giou')
    fields = {name: getattr(pairs, name) for name in ('scores', 'bboxes', 'sizes', 'metas')}
    whole = kind.assign_batch(None, pairs.gt, **fields)
    for n, (pred, gt) in enumerate(zip(images, truth)):
        single = kind.assign(pred, gt, META)
        assert single.gt_inds.tolist() == whole.gt_inds[n].tolist()
        assert (single.gt_inds > 0).sum() == min(7, len(gt))
        matched = single.gt_inds > 0
        assert single.labels[matched].tolist() == gt.labels[single.gt_inds[matched] - 1].tolist()
        assert (single.labels[~matched] == -1).all()


class OwnCall(BaseMatchCost):
    def __call__(self, pred_instances, gt_instances, img_meta=None, **kwargs):
        assert set(img_meta) == {'img_shape'} and isinstance(gt_instances, InstanceData)
        return torch.cdist(pred_instances.bboxes, gt_instances.bboxes)


class Duck:
    def __call__(self, pred_instances, gt_instances, img_meta):
        return torch.cdist(pred_instances.bboxes, gt_instances.bboxes)


@pytest.mark.parametrize('kind', [OwnCall, Duck])
def test_costs_of_one_image(kind):
    pairs, images, truth = batch([3, 0, 2])
    hungarian = assigner('focal')
    expected = hungarian.cost(pairs)
    hungarian.match_costs.append(kind())
    found = hungarian.cost(pairs)
    for n, (pred, gt) in enumerate(zip(images, truth)):
        distance = torch.cdist(pred.bboxes, gt.bboxes)
        torch.testing.assert_close(found[n, :, : len(gt)], expected[n, :, : len(gt)] + distance)


def test_a_method_of_a_cost_that_research_code_overrides_sees_one_image():
    base = type(TASK_UTILS.build(COSTS['focal']))
    shapes = []

    class Own(base):
        def _focal_loss_cost(self, cls_pred, gt_labels):
            shapes.append((cls_pred.dim(), gt_labels.dim()))
            return super()._focal_loss_cost(cls_pred, gt_labels)

    pairs, _, truth = batch([3, 0, 2])
    hungarian = assigner('focal')
    expected = hungarian.cost(pairs)
    hungarian.match_costs = [Own(weight=2.0)]
    found = hungarian.cost(pairs)
    assert len(shapes) == 3
    for n, gt in enumerate(truth):
        torch.testing.assert_close(found[n, :, : len(gt)], expected[n, :, : len(gt)])


def test_an_own_assign_sees_one_image():
    calls = []

    class Own(HungarianAssigner):
        def assign(self, pred_instances, gt_instances, img_meta=None, **kwargs):
            calls.append(len(gt_instances))
            return super().assign(pred_instances, gt_instances, img_meta)

    costs = [COSTS[name] for name in ('focal', 'l1')]
    pairs, _, _ = batch([3, 0, 2])
    (found,) = match_groups(Own(costs), [pairs])
    assert calls == [3, 0, 2]
    assert torch.equal(found.gt_inds, match_groups(HungarianAssigner(costs), [pairs])[0].gt_inds)


@pytest.mark.parametrize(
    'cfg, word',
    [
        (dict(type='BBoxL1Cost', box_format='yx'), "'yx'"),
        (dict(type='CrossEntropyLossCost', use_sigmoid=False), 'use_sigmoid'),
        (dict(type='HungarianAssigner', match_costs=[]), 'match_costs'),
    ],
)
def test_wrong_settings_are_told(cfg, word):
    with pytest.raises((ValueError, NotImplementedError), match=word):
        TASK_UTILS.build(cfg)


@pytest.mark.parametrize('name', COSTS)
def test_what_a_cost_lacks_is_told(name):
    other = 'masks' if 'l1' in name or 'iou' in name else 'bboxes'
    with pytest.raises(ValueError, match='needs predicted'):
        TASK_UTILS.build(COSTS[name])(InstanceData(**{other: queries(2)[other]}), objects(2), META)


def test_groups_of_as_many_queries_are_layers_of_one(monkeypatch):
    gt, others = (PaddedGT.from_instances([objects(2, seed)]) for seed in (0, 1))
    groups = [
        QueryOutputs(torch.rand(layers, 1, num, 3), torch.rand(layers, 1, num, 4), truth)
        for layers, num, truth in ((3, 5, gt), (1, 5, gt), (1, 6, gt), (2, 6, others))
    ]
    groups.append(QueryOutputs(*(torch.rand(1, 1, 6, n) for n in (3, 4)), others, torch.ones(1, 1, 6).bool()))
    assert joined(groups) == (groups, [[3], [1], [1], [2], [1]])
    monkeypatch.setattr(set_matching, 'APART', ())
    whole, layers = joined(groups)
    assert layers == [[3, 1], [1], [2], [1]]
    torch.testing.assert_close(whole[0].boxes, torch.cat([groups[0].boxes, groups[1].boxes]))
    assert whole[1:] == groups[2:]
    losses = [(group.scores.flatten(1).sum(1), group.boxes.flatten(1).sum(1)) for group in whole]
    for group, (scores, boxes) in zip(groups, parted(losses, layers), strict=True):
        torch.testing.assert_close(scores, group.scores.flatten(1).sum(1))
        torch.testing.assert_close(boxes, group.boxes.flatten(1).sum(1))


def test_distances_by_coordinates():
    boxes, others = torch.rand(2, 7, 4), torch.rand(2, 3, 4)
    torch.testing.assert_close(l1_distances(others, boxes).mT, torch.cdist(boxes, others, p=1))


class OwnFocalLoss(FocalLoss):
    def forward(self, pred, target, weight=None, avg_factor=None, reduction_override=None):
        assert pred.dim() == 2 and target.dim() == 1
        return super().forward(pred, target, weight, avg_factor, reduction_override)


def test_class_losses_of_layers_are_those_of_each():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 2, 9, 4, generator=generator)[:, :, 2:]
    labels = torch.randint(0, 5, (3, 2, 7), generator=generator)
    weight, factor = torch.rand(3, 2, 7, generator=generator), torch.tensor([1.0, 4.0, 2.5])
    ours, own = FocalLoss(loss_weight=2.0), OwnFocalLoss(loss_weight=2.0)
    assert ours.layer_sums is not None and own.layer_sums is None
    losses = [layer_losses(loss, logits, labels, weight, factor) for loss in (ours, own)]
    torch.testing.assert_close(losses[0], losses[1])


def test_overlaps_by_the_area_of_the_query():
    pairs, images, truth = batch([3, 1])
    cost = TASK_UTILS.build(dict(type='IoUCost', iou_mode='iof', weight=2.0)).cost_batch(pairs)
    expected = -2 * bbox_overlaps(images[0].bboxes, truth[0].bboxes, mode='iof')
    torch.testing.assert_close(cost[0], expected)
