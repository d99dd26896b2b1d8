"""Suppression of a padded batch: torchvision's answer, by every way in which it is computed."""

import importlib

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.ops import nms as torchvision_nms

from mmdet.ops import batched_nms, padded_nms

module = importlib.import_module('mmdet.ops.padded_nms')
DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
CASES = [
    # images, candidates, groups, whether scores and corners are equal often, results
    (1, 1, 1, False, -1),
    (2, 300, 3, False, -1),
    (3, 600, 2, True, 40),
    (2, 520, 1, True, -1),
    (4, 40, 8, True, 100),
]


def batch_of(batch, num, groups, coarse, device='cpu'):
    generator = torch.Generator().manual_seed(num)
    corner = torch.rand(batch, num, 2, generator=generator) * 200
    boxes = torch.cat([corner, corner + torch.rand(batch, num, 2, generator=generator) * 60 + 5], -1)
    scores = torch.rand(batch, num, generator=generator)
    if coarse:
        boxes, scores = (boxes / 8).round() * 8, (scores * 20).round() / 20
    kinds = torch.randint(0, groups, (batch, num), generator=generator)
    valid = torch.rand(batch, num, generator=generator) > 0.3
    return [value.to(device) for value in (boxes, scores, kinds, valid)]


def expected(boxes, scores, kinds, valid, threshold, limit):
    """torchvision's answer of one image, group by group."""
    kept = torch.zeros_like(valid)
    for kind in kinds.unique():
        inside = (valid & (kinds == kind)).nonzero()[:, 0]
        kept[inside[torchvision_nms(boxes[inside], scores[inside], threshold)]] = True
    index = kept.nonzero()[:, 0]
    index = index[scores[index].sort(descending=True, stable=True).indices]
    return index[:limit] if limit > 0 else index


def in_order(boxes, scores, kinds, valid):
    """What the kernels take, and the order."""
    order = scores.masked_fill(~valid, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    sizes = valid.sum(1, dtype=torch.int32)
    return order, (boxes.gather(1, order[..., None].expand(-1, -1, 4)), kinds.gather(1, order).int(), sizes)


@pytest.mark.parametrize('threshold', [0.3, 0.5, 0.6, 0.7])
@pytest.mark.parametrize('batch, num, groups, coarse, limit', CASES)
@pytest.mark.parametrize('device', DEVICES)
def test_keeps_what_torchvision_keeps(device, batch, num, groups, coarse, limit, threshold):
    data = batch_of(batch, num, groups, coarse, device)
    data[3][-1] &= batch == 1  # an image without candidates
    index, counts = padded_nms(*data, threshold, limit)
    assert index.shape == (batch, min(limit, num) if limit > 0 else num)
    for b in range(batch):
        want = expected(*(value[b].cpu() for value in data), threshold, limit)
        assert index[b, : counts[b]].tolist() == want.tolist()


@pytest.mark.parametrize('threshold', [0.5, 0.6])
@pytest.mark.parametrize('batch, num, groups, coarse, limit', CASES)
def test_by_blocks(batch, num, groups, coarse, limit, threshold):
    data = batch_of(batch, num, groups, coarse)
    order, sorted_data = in_order(*data)
    limit = limit if 0 < limit < num else num
    places, counts = module._greedy_by_blocks(*sorted_data, module.float_below(threshold), limit)
    assert places.shape == (batch, limit)
    for b in range(batch):
        want = expected(*(value[b] for value in data), threshold, limit)
        assert order[b][places[b, : counts[b]]].tolist() == want.tolist()


INTERPRETED = """
import torch
from test_padded_nms import CASES, batch_of, expected, in_order, module
from mmdet.ops.padded_nms_kernel import launch
for case in CASES:
    data = batch_of(*case[:4])
    order, sorted_data = in_order(*data)
    limit = case[4] if 0 < case[4] < case[1] else case[1]
    places, counts = launch(*sorted_data, module.float_below(0.6), limit)
    for b in range(case[0]):
        want = expected(*(value[b] for value in data), 0.6, limit)
        assert order[b][places[b, : counts[b]]].tolist() == want.tolist(), case
"""


def test_the_kernel_in_the_interpreter(interpret):
    interpret(INTERPRETED)


@pytest.mark.parametrize('device', DEVICES)
def test_options(device):
    boxes = torch.tensor([[[0.0, 0, 9, 9], [5, 0, 14, 9], [0, 0, 9, 9]]], device=device)
    scores = torch.tensor([[0.5, 0.5, 0.5]], device=device)
    kept = lambda *args, **kwargs: [
        row[:n].tolist() for row, n in zip(*padded_nms(boxes, scores, None, None, *args, **kwargs), strict=True)
    ]
    assert kept(0.32) == [[0, 1]]
    assert kept(0.32, offset=1) == [[0]]  # 50 / 150 in place of 36 / 126
    assert kept(0.32, max_num=1) == [[0]]
    half = padded_nms(boxes.half(), scores.half(), None, None, 0.32)
    assert half[0][0, :2].tolist() == [0, 1] and half[1].tolist() == [2]


def test_the_threshold_in_single_precision_is_not_above_the_one_given():
    for threshold in (0.1, 0.3, 0.5, 0.6, 0.7, 0.9):
        single = module.float_below(threshold)
        assert single <= threshold < torch.tensor(single).nextafter(torch.tensor(2.0)).item()


@pytest.mark.parametrize('shape', [(0, 5), (2, 0)])
def test_of_nothing(shape):
    index, counts = padded_nms(torch.zeros(*shape, 4), torch.zeros(shape), None, None, 0.5, 3)
    assert index.shape == (shape[0], min(3, shape[1])) and counts.tolist() == [0] * shape[0]


def test_equals_batched_nms_bit_for_bit_on_the_cpu():
    """The offset that separates classes takes digits from the coordinates; one image at a time, the same ones."""
    boxes, scores, kinds, valid = batch_of(3, 400, 80, False)
    index, counts = padded_nms(boxes, scores, kinds, valid, 0.5)
    for b in range(3):
        taken = valid[b].nonzero()[:, 0]
        kept = batched_nms(boxes[b, taken], scores[b, taken], kinds[b, taken], dict(iou_threshold=0.5))[1]
        assert index[b, : counts[b]].tolist() == taken[kept].tolist()


def test_the_host_does_not_wait():
    with FakeTensorMode():
        data = batch_of(2, 50, 3, False)
        index, counts = padded_nms(*data, 0.5, 10)
    assert index.shape == (2, 10) and counts.shape == (2,)
