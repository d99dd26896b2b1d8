import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.core import Assignment, PaddedGT, Priors
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.joints import sample_images
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
