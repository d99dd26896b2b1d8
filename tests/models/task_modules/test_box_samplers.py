from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.core import Assignment, PaddedGT, Priors
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.joints import sample_images
from mmdet.ops import nms_match
from mmdet.registry import TASK_UTILS

pytestmark = pytest.mark.usefixtures('default_scope')

# Three images of eight priors: three positives, none, and only positives; -1 is never drawn.
GT_INDS = torch.tensor([[1, 2, 2, 0, 0, 0, 0, -1], [0, 0, 0, 0, 0, -1, -1, -1], [1, 1, 1, 1, 2, 2, 2, 2]])


def random_sampler(**changes):
    given = dict(type='RandomSampler', num=4, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False)
    return TASK_UTILS.build({**given, **changes})


@pytest.mark.parametrize(
    'changes, positives, negatives',
    [
        ({}, [2, 0, 2], [2, 4, 0]),
        (dict(pos_fraction=1.0), [3, 0, 4], [1, 4, 0]),
        (dict(num=100, pos_fraction=0.5), [3, 0, 8], [4, 5, 0]),
        (dict(num=6, neg_pos_ub=1), [3, 0, 3], [3, 1, 0]),
        (dict(num=6, pos_fraction=0.0), [0, 0, 0], [4, 5, 0]),
    ],
)
def test_random_counts(changes, positives, negatives):
    sampler = random_sampler(**changes)
    seen = set()
    for seed in range(5):
        torch.manual_seed(seed)
        pos, neg = sampler.masks(Assignment(GT_INDS))
        assert pos.sum(1).tolist() == positives
        assert neg.sum(1).tolist() == negatives
        assert (GT_INDS[pos] > 0).all()
        assert (GT_INDS[neg] == 0).all()
        seen.add(str((pos.tolist(), neg.tolist())))
    if changes == {}:
        assert len(seen) > 1


def test_the_pseudo_sampler_takes_all():
    pos, neg = TASK_UTILS.build(dict(type='PseudoSampler')).masks(Assignment(GT_INDS))
    assert torch.equal(pos, GT_INDS > 0)
    assert torch.equal(neg, GT_INDS == 0)


@pytest.mark.parametrize('own', [False, True])
@pytest.mark.parametrize('image', [0, 1])
def test_one_image(image, own):
    inds = GT_INDS[image].clone()
    gt = InstanceData(bboxes=torch.tensor([[0.0, 0, 4, 4], [4, 4, 9, 9]]), labels=torch.tensor([3, 5]))
    gt = gt if image == 0 else gt[:0]
    result = AssignResult(len(gt), inds, torch.rand(8), torch.where(inds > 0, inds + 2, -1))
    priors = torch.rand(8, 4)
    sampler = random_sampler(num=20, add_gt_as_proposals=own)
    drawn = sampler.sample(result, InstanceData(priors=priors), gt)
    added = len(gt) if own else 0
    assert len(drawn.pos_inds) == int((GT_INDS[image] > 0).sum()) + added
    assert len(drawn.neg_inds) == int((GT_INDS[image] == 0).sum())
    assert drawn.pos_is_gt.sum() == added
    assert drawn.priors.shape == (len(drawn.pos_inds) + len(drawn.neg_inds), 4)
    assert drawn.pos_gt_bboxes.shape == (len(drawn.pos_inds), 4)
    assert drawn.num_pos == max(len(drawn.pos_inds), 1)


def test_overridden_draws_are_called():
    from mmdet.models.task_modules.samplers import RandomSampler

    class First(RandomSampler):
        def _sample_pos(self, assign_result, num_expected, **kwargs):
            return (assign_result.gt_inds > 0).nonzero().flatten()[:1]

        def _sample_neg(self, assign_result, num_expected, **kwargs):
            return (assign_result.gt_inds == 0).nonzero().flatten()[:num_expected]

    counts = GT_INDS.clamp(min=0).amax(1).tolist()
    instances = [InstanceData(bboxes=torch.rand(n, 4), labels=torch.arange(n)) for n in counts]
    priors = Priors(torch.rand(1, GT_INDS.shape[1], 4), GT_INDS >= -1, [GT_INDS.shape[1]])
    sampler = First(num=4, pos_fraction=0.5, add_gt_as_proposals=False)
    assert sampler.by_image and not random_sampler().by_image
    pos, neg = sample_images(sampler, priors, Assignment(GT_INDS), PaddedGT.from_instances(instances))
    assert pos.sum(1).tolist() == [1, 0, 1]
    assert neg.sum(1).tolist() == [3, 4, 0]


def ranking_sampler(logits, deltas=None, **changes):
    """One that asks a head of three classes, which answers with tables whatever it is asked."""
    head = BBoxHead(num_classes=3, in_channels=4, with_avg_pool=True)
    answer = dict(cls_score=logits.flatten(0, -2), bbox_pred=deltas)
    context = SimpleNamespace(bbox_head=head, _bbox_forward=lambda feats, rois: answer)
    given = dict(type='ScoreHLRSampler', num=8, pos_fraction=0.5, context=context, add_gt_as_proposals=False)
    return TASK_UTILS.build({**given, **changes})


# Two places of three and two boxes, and two boxes by themselves. Of the scores of the best class the last is too low.
PLACES = torch.tensor([0.0, 0.5, 1.0, 20, 20.5, 40, 60])
BOXES = torch.stack([PLACES, torch.zeros(7), PLACES + 10, torch.full((7,), 10.0)], 1)
SCORES = torch.tensor([0.3, 0.6, 0.5, 0.2, 0.7, 0.4, 0.01])


def logits_of(scores):
    none = torch.full_like(scores, 1e-4)
    return torch.stack([scores, none, none, 1 - scores - 2 * none], -1).log()


def test_negatives_by_rank():
    """The best of each place by their scores, then the second ones, then the third one, then what has no rank."""
    negatives = Assignment(torch.zeros(1, 7, dtype=torch.long))
    sampler = ranking_sampler(logits_of(SCORES), k=1, bias=0.0)
    _, pos_valid, neg, neg_valid, weights = sampler.draw(negatives, boxes=BOXES[None])
    order = [4, 1, 5, 2, 3, 0, 6]
    assert neg[0].tolist() == order and neg_valid.all() and not pos_valid.any()
    loss = -logits_of(SCORES)[order, 3]
    ranks = torch.tensor([7, 6, 5, 4, 3, 2, 2]) / 7  # the last has the weight of the last rank
    torch.testing.assert_close(weights[0, order], ranks * loss.sum() / (ranks * loss).sum())
    few = ranking_sampler(logits_of(SCORES), num=3, k=1, bias=0.0).draw(negatives, boxes=BOXES[None])
    assert few[2][few[3]].tolist() == order[:3]
    ranks, loss = torch.tensor([6, 5, 4]) / 6, loss[:3]
    torch.testing.assert_close(few[4][0, order[:3]], ranks * loss.sum() / (ranks * loss).sum())


def test_negatives_without_a_rank_are_drawn_at_random():
    sampler, seen = ranking_sampler(logits_of(SCORES / 20), num=3), set()
    for seed in range(5):
        torch.manual_seed(seed)
        _, _, neg, valid, weights = sampler.draw(Assignment(torch.zeros(1, 7, dtype=torch.long)), boxes=BOXES[None])
        seen.add(str(neg[valid].tolist()))
        assert weights.eq(1).all() and valid.sum() == 3
    assert len(seen) > 1


def importance_by_loop(inds, boxes, logits, num, k, bias, score_thr, iou_thr):
    """Negatives of one image in their order, and their weights, as the paper tells it."""
    neg = (inds == 0).nonzero().flatten()
    scores = logits[neg].softmax(-1)[:, :-1].amax(-1)
    high = (scores > score_thr).nonzero().flatten()
    importance = torch.zeros(len(high), dtype=torch.double)
    for group in nms_match(torch.cat([boxes[neg[high]], scores[high, None]], 1), iou_thr):
        importance[group] = len(high) - torch.arange(len(group)) + scores[high[group]].double()
    chosen = high[importance.argsort(descending=True)][:num]
    bound = max(len(high), min(num, len(neg)))
    weights = ((bound - torch.arange(len(chosen))) / bound * (1 - bias) + bias) ** k
    loss = -logits[neg[chosen]].log_softmax(-1)[:, 3]
    return neg[chosen], weights * loss.sum() / (weights * loss).sum()


def test_ranks_are_those_of_a_loop_over_images_and_groups():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(3, 60, 2, generator=generator) * 40
    boxes = torch.cat([corners, corners + 10 + torch.rand(3, 60, 2, generator=generator) * 10], -1)
    logits = torch.randn(3, 60, 4, generator=generator) * 2
    inds = torch.randint(-1, 3, (3, 60), generator=generator)
    inds[2] = 1  # no negative
    settings = dict(k=0.5, bias=0.2, score_thr=0.3, iou_thr=0.4)
    sampler = ranking_sampler(logits, num=8, **settings)
    _, pos_valid, neg, valid, weights = sampler.draw(Assignment(inds), boxes=boxes)
    assert valid.sum(1).tolist() == [4, 4, 0] and pos_valid.sum(1).tolist() == [4] * 3
    for b in range(2):
        order, expected = importance_by_loop(inds[b], boxes[b], logits[b], 4, **settings)
        assert neg[b, valid[b]].tolist() == order.tolist()
        torch.testing.assert_close(weights[b, order], expected)
        one = ranking_sampler(logits[b], num=8, **settings)
        result = AssignResult(2, inds[b], None, torch.zeros(60, dtype=torch.long))
        drawn, single = one.sample(result, InstanceData(priors=boxes[b]), InstanceData(bboxes=boxes[b, :2]))
        assert drawn.neg_inds.tolist() == order.tolist() and len(drawn.pos_inds) == 4
        torch.testing.assert_close(single, expected)


def test_groups_are_of_the_boxes_that_are_predicted():
    """Deltas of the best class move the second box of the first place away."""
    deltas = torch.zeros(7, 3, 4)
    deltas[1, 0, 0] = 70.0  # by seven widths
    neg = ranking_sampler(logits_of(SCORES), deltas.flatten(1)).draw(
        Assignment(torch.zeros(1, 7, dtype=torch.long)), boxes=BOXES[None]
    )[2]
    assert neg[0].tolist() == [4, 1, 2, 5, 0, 3, 6]  # the third box is now the best of its place


def test_no_candidate_at_all():
    sampler = ranking_sampler(torch.zeros(0, 4))
    drawn = sampler.draw(Assignment(torch.zeros(2, 0).long()), boxes=torch.zeros(2, 0, 4))
    assert all(part.shape == (2, 0) for part in drawn)
    gt = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    result = AssignResult(0, torch.zeros(0).long(), None, torch.zeros(0).long())
    drawn, weights = sampler.sample(result, InstanceData(priors=torch.zeros(0, 4)), gt)
    assert len(drawn.pos_inds) == len(drawn.neg_inds) == len(weights) == 0
