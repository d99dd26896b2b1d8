import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.core import Assignment, DenseTargets, PaddedGT, Priors
from mmdet.models.core import gt as gt_module
from mmdet.models.task_modules.assigners import BaseAssigner
from mmdet.models.task_modules.joints import assign_images
from mmdet.registry import TASK_UTILS

pytestmark = pytest.mark.usefixtures('default_scope')

MAX_IOU = dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3)
CENTER_REGION = dict(type='CenterRegionAssigner', pos_scale=0.4, neg_scale=0.8, min_pos_iof=0.05)
SPACE_SCALE = dict(type='SpaceScaleAssigner', regress_ranges=((-1, 12), (12, 1e8)))

# Four squares of side 10 in a row, centres at x = 5, 15, 25 and 35, then one wide anchor around (20, 5).
ROW = [[0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10], [30, 0, 40, 10]]
LEVELS = [4, 1]
ROW_AND_WIDE = [*ROW, [0, 0, 40, 10]]


def instances(boxes, labels=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = range(len(boxes)) if labels is None else labels
    return InstanceData(bboxes=boxes, labels=torch.tensor(list(labels), dtype=torch.long))


def assign(cfg, priors, gts, ignored=None, labels=None, sizes=None):
    assigner = TASK_UTILS.build(cfg)
    pred = InstanceData(priors=torch.tensor(priors, dtype=torch.float32))
    levels = [sizes or [len(priors)]] if cfg['type'] in ('ATSSAssigner', 'TopkAssigner', 'SpaceScaleAssigner') else []
    return assigner.assign(pred, *levels, instances(gts, labels), None if ignored is None else instances(ignored))


# Overlaps of the priors with the first box: 1, 0.5, 0.8, 0.2, and none.
OVERLAPPING = [[0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 8], [0, 0, 10, 2], [50, 50, 60, 60]]
BOX, TALL = [0, 0, 10, 10], [50, 50, 60, 90]  # the last prior is the best of TALL, at 0.25


@pytest.mark.parametrize(
    'changes, gts, expected',
    [
        ({}, [BOX], [1, -1, 1, 0, 0]),
        (dict(pos_iou_thr=0.8), [BOX], [1, -1, 1, 0, 0]),  # the threshold itself is positive
        (dict(neg_iou_thr=0.5), [BOX], [1, -1, 1, 0, 0]),  # but not negative
        (dict(neg_iou_thr=(0.1, 0.3)), [BOX], [1, -1, 1, 0, -1]),
        ({}, [BOX, TALL], [1, -1, 1, 0, 2]),
        (dict(min_pos_iou=0.3), [BOX, TALL], [1, -1, 1, 0, 0]),
        (dict(match_low_quality=False), [BOX, TALL], [1, -1, 1, 0, 0]),
        ({}, [BOX, BOX], [2, -1, 1, 0, 0]),  # of boxes that are best alike the last claims, but only its best prior
        (dict(match_low_quality=False), [BOX, BOX], [1, -1, 1, 0, 0]),
        ({}, [], [0, 0, 0, 0, 0]),
        (dict(neg_iou_thr=(0.1, 0.3)), [], [0, 0, 0, 0, 0]),
    ],
)
def test_max_iou(changes, gts, expected):
    result = assign(dict(MAX_IOU, **changes), OVERLAPPING, gts)
    assert result.gt_inds.tolist() == expected
    assert result.labels.tolist() == [i - 1 if i > 0 else -1 for i in expected]


def test_max_iou_overlaps_and_ties():
    assert assign(MAX_IOU, OVERLAPPING, [BOX]).max_overlaps.tolist() == pytest.approx([1, 0.5, 0.8, 0.2, 0])
    twins = [[50, 50, 60, 60], [50, 50, 60, 60]]
    assert assign(MAX_IOU, twins, [TALL]).gt_inds.tolist() == [1, 1]
    assert assign(dict(MAX_IOU, gt_max_assign_all=False), twins, [TALL]).gt_inds.tolist() == [1, 0]


@pytest.mark.parametrize(
    'changes, expected',
    [
        ({}, [1, -1, 1, 0, 0]),
        (dict(ignore_iof_thr=0.5), [1, -1, 1, 0, -1]),
        (dict(ignore_iof_thr=0.7), [1, -1, 1, 0, 0]),
    ],
)
def test_ignored_regions(changes, expected):
    region = [[50, 50, 60, 56]]  # covers 0.6 of the last prior, which covers all of it
    assert assign(dict(MAX_IOU, **changes), OVERLAPPING, [BOX], region).gt_inds.tolist() == expected
    of_region = dict(MAX_IOU, ignore_wrt_candidates=False, **{'ignore_iof_thr': 0.7, **changes})
    assert assign(of_region, OVERLAPPING, [BOX], region).gt_inds.tolist() == [1, -1, 1, 0, -1]


@pytest.mark.parametrize(
    'kind, topk, gts, expected',
    [
        # Overlaps 0.83, 0.1 and 0: mean 0.31, deviation 0.45.
        ('ATSSAssigner', 3, [[0, 0, 12, 10]], [1, 0, 0, 0, 0]),
        # Overlaps 0.5, 0.5 and 0: mean 0.33, deviation 0.29.
        ('ATSSAssigner', 3, [[0, 0, 20, 10]], [0, 0, 0, 0, 0]),
        ('TopkAssigner', 3, [[0, 0, 20, 10]], [1, 1, 0, 0, 0]),
        ('TopkAssigner', 1, [[0, 0, 18, 10]], [1, 0, 0, 0, 0]),
        ('TopkAssigner', 9, [[0, 0, 31, 10]], [1, 1, 1, 0, 1]),  # on every level what lies inside
        ('TopkAssigner', 9, [[0, 0, 25.005, 10]], [1, 1, 0, 0, 1]),  # 0.01 px at least
        ('TopkAssigner', 9, [[0, 0, 20, 10], [10, 0, 20, 10]], [1, 2, 0, 0, 0]),  # the greater overlap wins
        ('ATSSAssigner', 3, [], [0, 0, 0, 0, 0]),
    ],
)
def test_nearest_candidates(kind, topk, gts, expected):
    result = assign(dict(type=kind, topk=topk), ROW_AND_WIDE, gts, sizes=LEVELS)
    assert result.gt_inds.tolist() == expected


@pytest.mark.parametrize('kind, topk', [('TopkAssigner', dict(topk=4)), ('PointAssigner', dict(pos_num=4))])
def test_of_equally_near_priors_the_first_are_taken(kind, topk):
    # Three anchors of each of nine places, and a box in the middle of the four at the lower right.
    places = [(x, y) for y in (10, 20, 30) for x in (10, 20, 30)]
    if kind == 'PointAssigner':
        priors = [[x, y, 8] for x, y in places for _ in range(3)]
    else:
        priors = [[x - w, y - w, x + w, y + w] for x, y in places for w in (4, 8, 6)]
    found = assign(dict(type=kind, **topk), priors, [[15, 15, 35, 35]]).gt_inds.nonzero().flatten()
    assert found.tolist() == [12, 13, 14, 15]


@pytest.mark.parametrize(
    'gts, expected',
    [
        ([[0, 0, 10, 10]], [1, 0, 0, 0, 0]),
        ([[0, 0, 20, 10]], [0, 0, 0, 0, 0]),  # too large for the first level, and on its side of the second's centre
        ([[0, 0, 22, 10]], [0, 0, 0, 0, 1]),
        ([[4.995, 0, 14, 10]], [0, 0, 0, 0, 0]),  # the centre lies inside by less than 0.01 px
        ([[4.98, 0, 14, 10]], [1, 0, 0, 0, 0]),
        ([[0, 0, 11, 10], [0, 0, 10, 10]], [2, 0, 0, 0, 0]),  # the smaller box wins
        ([], [0, 0, 0, 0, 0]),
    ],
)
def test_space_and_scale(gts, expected):
    assert assign(SPACE_SCALE, ROW_AND_WIDE, gts, sizes=LEVELS).gt_inds.tolist() == expected


def test_space_and_scale_needs_a_range_for_each_level():
    with pytest.raises(ValueError, match='1 levels, but 2 regress_ranges'):
        assign(SPACE_SCALE, ROW, [BOX])


@pytest.mark.parametrize(
    'changes, gts, labels, expected, shadowed',
    [
        # The core is [9, 21] x [3, 7], the shadow [3, 27] x [1, 9].
        ({}, [[0, 0, 30, 10]], [7], [0, 1, 0, 0], [[0, 7], [2, 7]]),
        # The smaller box wins the second prior, which is then not trained for the other class.
        ({}, [[0, 0, 30, 10], [10, 0, 20, 10]], [7, 5], [0, 2, 0, 0], [[0, 7], [1, 7], [2, 7]]),
        ({}, [[0, 0, 30, 10], [10, 0, 20, 10]], [7, 7], [0, -1, 0, 0], [[0, 7], [1, 7], [2, 7]]),
        (dict(foreground_dominate=True), [[0, 0, 30, 10], [10, 0, 20, 10]], [7, 7], [0, 2, 0, 0], [[0, 7], [2, 7]]),
        ({}, [], [], [0, 0, 0, 0], []),
    ],
)
def test_center_region(changes, gts, labels, expected, shadowed):
    result = assign(dict(CENTER_REGION, **changes), ROW, gts, labels=labels)
    assert result.gt_inds.tolist() == expected
    assert sorted(result.get_extra_property('shadowed_labels').tolist()) == shadowed


def test_center_region_ignores_the_middle_of_ignored_regions():
    assert assign(CENTER_REGION, ROW, [[0, 0, 30, 10]], [[18, 0, 42, 10]]).gt_inds.tolist() == [0, 1, -1, -1]
    assert assign(CENTER_REGION, ROW, [[0, 0, 30, 10]], [[27, 0, 43, 10]]).gt_inds.tolist() == [0, 1, 0, -1]


BATCHED = {
    'max iou': MAX_IOU,
    'max iou, thresholds alone': dict(MAX_IOU, pos_iou_thr=0.4, match_low_quality=False),
    'atss': dict(type='ATSSAssigner', topk=5),
    'nearest': dict(type='TopkAssigner', topk=5),
    'space and scale': dict(type='SpaceScaleAssigner', regress_ranges=((-1, 24), (24, 1e8))),
    'center region': dict(type='CenterRegionAssigner', pos_scale=0.2, neg_scale=0.5),
}


def batch(counts=(5, 0, 1, 9), seed=0):
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for stride in (8, 16):
        y, x = torch.meshgrid(*[torch.arange(64 // stride) * stride + stride / 2] * 2, indexing='ij')
        centers = torch.stack([x, y], -1).reshape(-1, 2)
        levels.append(torch.cat([centers - 1.5 * stride, centers + 1.5 * stride], 1))
    valid = torch.ones(len(counts), 80, dtype=torch.bool)
    valid[-1, 70:] = False
    gts = []
    for count in counts:
        center, half = (
            torch.rand(count, 2, generator=generator) * 64,
            torch.rand(count, 2, generator=generator) * 24 + 4,
        )
        gts.append(instances(torch.cat([center - half, center + half], 1).tolist()))
    return Priors(torch.cat(levels)[None], valid, [64, 16]), gts


@pytest.mark.parametrize('name', BATCHED)
def test_a_batch_is_its_images(name):
    assigner = TASK_UTILS.build(BATCHED[name])
    priors, gts = batch()
    found = assigner.assign_batch(priors, PaddedGT.from_instances(gts)).gt_inds
    assert (found > 0).any()
    for b, gt in enumerate(gts):
        single = Priors(priors.boxes, priors.valid[b : b + 1], priors.level_sizes)
        alone = assigner.assign_batch(single, PaddedGT.from_instances([gt])).gt_inds[0]
        assert found[b].tolist() == alone.tolist()
    assert (found[1] <= 0).all()
    assert (found[3, 70:] == -1).all()


@pytest.mark.parametrize('name', BATCHED)
def test_padding_and_parts_change_nothing(name, monkeypatch):
    assigner = TASK_UTILS.build(BATCHED[name])
    priors, gts = batch(seed=1)
    gt = PaddedGT.from_instances(gts)
    expected = assigner.assign_batch(priors, gt)
    padded = PaddedGT(
        torch.cat([gt.boxes, torch.tensor([[[0.0, 0, 64, 64]] * 3] * 4)], 1),
        torch.cat([gt.labels, torch.zeros(4, 3, dtype=torch.long)], 1),
        torch.cat([gt.mask, torch.zeros(4, 3, dtype=torch.bool)], 1),
        gt.counts,
    )
    assert assigner.assign_batch(priors, padded).gt_inds.tolist() == expected.gt_inds.tolist()
    monkeypatch.setattr(gt_module, 'CPU_MATRIX_BUDGET', 4 * 80 * 4)  # two or fewer ground truths at a time
    in_parts = assigner.assign_batch(priors, gt)
    assert in_parts.gt_inds.tolist() == expected.gt_inds.tolist()
    if expected.quality is not None:
        assert torch.equal(in_parts.quality, expected.quality)


@pytest.mark.parametrize('name', [name for name in BATCHED if name != 'max iou'])
def test_order_of_ground_truths_does_not_matter(name):
    assigner = TASK_UTILS.build(BATCHED[name])
    priors, gts = batch(seed=2)
    expected = assigner.assign_batch(priors, PaddedGT.from_instances(gts)).gt_inds
    turned = assigner.assign_batch(
        priors, PaddedGT.from_instances([gt[torch.arange(len(gt)).flip(0)] for gt in gts])
    ).gt_inds
    for b, gt in enumerate(gts):
        back = torch.where(turned[b] > 0, len(gt) + 1 - turned[b], turned[b])
        assert back.tolist() == expected[b].tolist()


def test_distances_to_candidates_need_predictions_with_alpha():
    with pytest.raises(ValueError, match='needs the predicted scores and bboxes'):
        assign(dict(type='ATSSAssigner', topk=3, alpha=0.8), ROW, [BOX])


class BestScore(BaseAssigner):
    """Each ground truth gets the query with the best score for its class; of queries without priors."""

    def assign_batch(self, priors, gt, *, scores, **kwargs):
        assert priors is None
        of_label = scores.gather(2, gt.labels[:, None].expand(-1, scores.shape[1], -1))  # (B, Q, G)
        best = of_label.argmax(1)
        inds = torch.zeros(scores.shape[:2], dtype=torch.long)
        order = torch.arange(1, best.shape[1] + 1).expand_as(best)
        return Assignment(inds.scatter_reduce(1, best, order * gt.mask, 'amax'))


class OwnBestScore(BestScore):
    def assign(self, pred_instances, gt_instances, gt_instances_ignore=None, **kwargs):
        return super().assign(pred_instances, gt_instances, gt_instances_ignore, **kwargs)


def test_queries_are_matched_without_priors():
    scores = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.3, 0.3]], [[0.1, 0.1], [0.2, 0.3], [0.5, 0.4]]])
    truth = [instances([BOX, TALL], [1, 0]), instances([TALL], [1])]
    gt = PaddedGT.from_instances(truth)
    expected = torch.tensor([[2, 1, 0], [0, 0, 1]])
    matcher = BestScore()
    batch = matcher.assign_batch(None, gt, scores=scores)
    assert batch.gt_inds.equal(expected)
    assert assign_images(OwnBestScore(), None, gt, scores=scores).gt_inds.equal(expected)
    for row, one, want in zip(scores, truth, expected):
        assert matcher.assign(InstanceData(scores=row), one).gt_inds.equal(want)
    targets = DenseTargets.build(batch, gt, num_classes=2)
    assert targets.labels.tolist() == [[0, 1, 2], [2, 2, 1]]
    assert targets.bbox_targets[0, :2].tolist() == [TALL, BOX] and not targets.bbox_targets[0, 2].any()
    assert targets.label_weights.eq(1).all() and targets.avg_factor == 3
