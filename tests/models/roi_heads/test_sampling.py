"""What each sampler draws, counted on random batches."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.core import Assignment, PaddedGT, Priors
from mmdet.models.core.sampling import rank_within
from mmdet.registry import TASK_UTILS

SAMPLERS = {
    'random': dict(type='RandomSampler'),
    'balanced': dict(
        type='CombinedSampler',
        pos_sampler=dict(type='InstanceBalancedPosSampler'),
        neg_sampler=dict(type='IoUBalancedNegSampler', floor_thr=-1, floor_fraction=0, num_bins=3),
    ),
    'floor': dict(
        type='CombinedSampler',
        pos_sampler=dict(type='RandomSampler'),
        neg_sampler=dict(type='IoUBalancedNegSampler', floor_thr=0.1, floor_fraction=0.25, num_bins=2),
    ),
}


def random_batch(seed, add_gt):
    generator = torch.Generator().manual_seed(seed)
    batch, num_priors, num_gt = 2, 60, 4
    counts = [int(torch.randint(0, num_gt + 1, (1,), generator=generator)) for _ in range(batch)]
    instances = [
        InstanceData(
            bboxes=torch.rand(n, 4, generator=generator) + torch.tensor([0.0, 0, 2, 2]), labels=torch.arange(n)
        )
        for n in counts
    ]
    gt = PaddedGT.from_instances(instances)
    top = torch.tensor(counts)[:, None]
    inds = torch.randint(-1, 5, (batch, num_priors), generator=generator).minimum(top)
    valid = torch.rand(batch, num_priors, generator=generator) < 0.9
    inds = inds.masked_fill(~valid, -1)
    quality = torch.rand(batch, num_priors, generator=generator)
    priors = Priors(torch.rand(batch, num_priors, 4, generator=generator), valid, [num_priors])
    return priors, Assignment(inds, quality), gt, instances


@pytest.mark.parametrize('add_gt', [False, True])
@pytest.mark.parametrize(('num', 'fraction', 'ub'), [(16, 0.25, -1), (16, 0.5, 2), (1000, 0.25, -1), (40, 1.0, 0)])
@pytest.mark.parametrize('kind', SAMPLERS)
def test_counts(kind, num, fraction, ub, add_gt):
    sampler = TASK_UTILS.build(
        dict(SAMPLERS[kind], num=num, pos_fraction=fraction, neg_pos_ub=ub, add_gt_as_proposals=add_gt)
    )
    for seed in range(10):
        priors, assignment, gt, instances = random_batch(seed, add_gt)
        samples = sampler.sample_batch(priors, assignment, gt)
        for b, result in enumerate(samples):
            extra = gt.counts[b] if add_gt else 0
            positives = int(assignment.pos[b].sum()) + extra
            negatives = int(assignment.neg[b].sum())
            want_pos = min(positives, int(num * fraction))
            room = num - want_pos
            if ub >= 0:
                room = min(room, int(ub * max(1, want_pos)))
            assert len(result.pos_inds) == want_pos, (seed, b)
            assert len(result.neg_inds) == min(negatives, room), (seed, b)
            drawn = samples.boxes[b][samples.valid[b]]
            assert len(drawn.unique(dim=0)) == len(drawn)  # no repeats
            pool = priors.boxes[b][assignment.gt_inds[b] >= 0]
            if add_gt:
                pool = torch.cat([instances[b].bboxes, pool])
            assert all((row == pool).all(1).any() for row in drawn)  # nothing ignored, nothing of padding
            used = samples.valid[b].long()
            assert (used.diff() <= 0).all() and (samples.pos[b].long().diff() <= 0).all()  # positives, negatives, empty
            assert not samples.pos[b, samples.num_pos_slots :].any()


def test_random_draws_differ_and_cover():
    sampler = TASK_UTILS.build(dict(type='RandomSampler', num=8, pos_fraction=0.5, add_gt_as_proposals=False))
    inds = torch.zeros(1, 20, dtype=torch.long)
    inds[0, :10] = 1
    torch.manual_seed(0)
    hits = torch.zeros(20)
    for _ in range(200):
        pos, neg = sampler.masks(Assignment(inds))
        assert pos.sum() == 4 and neg.sum() == 4
        hits += (pos | neg)[0]
    assert (hits > 40).all() and (hits < 120).all()  # 80 expected


def test_rank_within_groups():
    groups = torch.tensor([[0, 1, 0, 1, 2]])
    keys = torch.tensor([[0.1, 0.9, 0.5, 0.2, 0.3]])
    assert rank_within(groups, keys, 3).tolist() == [[1, 0, 0, 1, 0]]


def test_instance_balance():
    inds = torch.tensor([[1] * 20 + [2] * 3 + [0] * 5])
    sampler = TASK_UTILS.build(
        dict(type='InstanceBalancedPosSampler', num=12, pos_fraction=0.5, add_gt_as_proposals=False)
    )
    gt = PaddedGT.from_instances([InstanceData(bboxes=torch.rand(2, 4), labels=torch.zeros(2))])
    taken = torch.zeros(3)
    for seed in range(50):
        torch.manual_seed(seed)
        pos, _ = sampler.masks(Assignment(inds), gt=gt)
        taken += torch.bincount(inds[pos], minlength=3)
    # 6 positives, a share of 4 for each of two objects: the rare one is always among them, far above its 3 of 23.
    assert taken[2] / 50 > 1.9


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('ignored_first', [False, True])
def test_samples_unpack_to_where_they_were_packed(ignored_first, packed):
    sampler = TASK_UTILS.build(dict(type='RandomSampler', num=10, pos_fraction=0.5, add_gt_as_proposals=False))
    priors, assignment, gt, _ = random_batch(3, False)
    if ignored_first:
        assignment.gt_inds[0] = -1
    samples = sampler.sample_batch(priors, assignment, gt, packed=packed)
    back = samples.unpack(samples.pack(samples.boxes))
    assert torch.equal(back, samples.boxes * samples.valid[..., None] if packed else samples.boxes)
    assert len(samples.rois) == (samples.valid.sum() if packed else samples.valid.numel())
    assert torch.equal(samples.rois[samples.positive_rows()], samples.positives.rois)
