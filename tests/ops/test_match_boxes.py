"""Matching of priors with boxes by a kernel: what the assigner makes of matrices of overlaps."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet.models.core import PaddedGT, Priors
from mmdet.models.task_modules.assigners import MaxIoUAssigner

CASES = [
    # images, boxes, priors, whether each image has its own priors, least overlap of a claim
    (1, 1, 1, False, 0.0),
    (3, 4, 150, False, 0.0),
    (2, 7, 90, True, 0.3),
]


def case(batch, count, num, own, device='cpu'):
    """Coordinates are coarse, so that many overlaps are equal; the last image has no boxes, if there are several."""
    generator = torch.Generator().manual_seed(num)

    def boxes(*shape):
        low, side = (torch.randint(0, 12, (*shape, 2), generator=generator) * 4.0 for _ in range(2))
        return torch.cat([low, low + side], -1).to(device)

    priors = boxes(batch if own else 1, num)
    usable = (torch.rand(batch, num, generator=generator) > 0.2).to(device)
    counts = [1 + (i + 2) % count for i in range(batch - 1)] + [count if batch == 1 else 0]
    mask = (torch.arange(count) < torch.tensor(counts)[:, None]).to(device)
    gt = PaddedGT(boxes(batch, count), torch.zeros_like(mask, dtype=torch.long), mask, counts)
    return Priors(priors, usable, [num]), gt


def by_matrices(priors, gt, least, low_quality=True):
    assigner = MaxIoUAssigner(0.5, 0.4, min_pos_iou=least, match_low_quality=low_quality)
    return assigner._matched(priors, priors.expanded(), priors.valid, gt)


def assert_equal(found, match, claimed):
    assert found[0].cpu().equal(match.score) and found[1].cpu().equal(match.index) and found[2].cpu().equal(claimed)


INTERPRETED = """
import torch
from mmdet.ops.match_boxes import match_boxes
from test_match_boxes import CASES, assert_equal, by_matrices, case
for *shape, least in CASES:
    priors, gt = case(*shape)
    found = match_boxes(priors.boxes, priors.valid, gt.boxes, gt.mask, least, True)
    assert_equal(found, *by_matrices(priors, gt, least))
    assert found[2].any() or shape[2] == 1
found = match_boxes(priors.boxes, priors.valid, gt.boxes, gt.mask, 0.0, False)
assert not found[2].any()
torch.library.opcheck(match_boxes, (priors.boxes, priors.valid, gt.boxes, gt.mask, 0.0, True))
"""


def test_the_kernels_in_the_interpreter(interpret):
    interpret(INTERPRETED)


class OwnRule(MaxIoUAssigner):
    def overlaps(self, gt_boxes, boxes, **kwargs):
        return super().overlaps(gt_boxes, boxes) / 2


@pytest.mark.usefixtures('_fake_gpu')
def test_the_assigner_takes_the_kernel_unless_research_code_has_rules_of_its_own():
    pytest.importorskip('triton')
    with FakeTensorMode():
        boxes = torch.zeros(2, 3, 4, device='cuda')
        priors, gt = case(2, 3, 20, False, 'cuda')
        found = MaxIoUAssigner(0.5, 0.4).assign_batch(priors, gt)
    assert found.gt_inds.shape == found.quality.shape == (2, 20)
    assert MaxIoUAssigner(0.5, 0.4)._has_kernel(boxes) and not MaxIoUAssigner(0.5, 0.4)._has_kernel(torch.zeros(4))
    assert not OwnRule(0.5, 0.4)._has_kernel(boxes)
    assert not MaxIoUAssigner(0.5, 0.4, gt_max_assign_all=False)._has_kernel(boxes)
    fp16 = dict(type='BboxOverlaps2D', scale=2.0, dtype='fp16')
    assert not MaxIoUAssigner(0.5, 0.4, iou_calculator=fp16)._has_kernel(boxes)


@pytest.mark.gpu
@pytest.mark.parametrize('low_quality', [True, False])
@pytest.mark.parametrize('batch, count, num, own, least', [*CASES, (4, 100, 5000, False, 0.0)])
def test_the_assigner_on_a_gpu_assigns_as_on_the_cpu(batch, count, num, own, least, low_quality):
    assigner = MaxIoUAssigner(0.5, (0.1, 0.4), min_pos_iou=least, match_low_quality=low_quality)
    want = assigner.assign_batch(*case(batch, count, num, own))
    found = assigner.assign_batch(*case(batch, count, num, own, 'cuda'))
    assert found.gt_inds.cpu().equal(want.gt_inds) and found.quality.cpu().equal(want.quality)
