"""Suppression in as many rounds as results, beside that of lists."""

import pytest
import torch

from mmdet.ops import batched_nms
from mmdet.ops.fixed_nms import NONE, fixed_nms, greedy_decay, soft_decay
from mmdet.ops.fixed_size import FixedSize, at_least, fixed_options, fixed_size, is_fixed_size

SOFT = dict(sigma=0.5, min_score=1e-3)


def batch(images=3, count=60):
    torch.manual_seed(0)
    corners = torch.rand(images, count, 2) * 60
    boxes = torch.cat([corners, corners + 4 + torch.rand(images, count, 2) * 30], -1)
    return boxes, torch.rand(images, count), torch.randint(0, 3, (images, count))


@pytest.mark.parametrize(
    'cfg, decay',
    [
        (dict(type='nms', iou_threshold=0.5), greedy_decay(0.5)),
        (dict(type='soft_nms', iou_threshold=0.3, method='linear', **SOFT), soft_decay('linear', 0.3, 0.5)),
        (dict(type='soft_nms', iou_threshold=0.3, method='naive', **SOFT), soft_decay('naive', 0.3, 0.5)),
        (dict(type='soft_nms', iou_threshold=0.3, method='gaussian', **SOFT), soft_decay('gaussian', 0.3, 0.5)),
    ],
)
def test_each_image_keeps_what_the_list_keeps(cfg, decay):
    boxes, scores, labels = batch()
    valid = scores > 0.2
    index, found = fixed_nms(boxes, torch.where(valid, scores, NONE), labels, 25, decay)
    for b in range(len(boxes)):
        rows = valid[b].nonzero()[:, 0]
        dets, kept = batched_nms(boxes[b][rows], scores[b][rows], labels[b][rows], cfg)
        count = min(25, len(kept))
        assert index[b, :count].tolist() == rows[kept][:count].tolist()
        torch.testing.assert_close(found[b, :count], dets[:count, 4], rtol=1e-5, atol=1e-6)


def test_places_beyond_the_last_result_have_no_score():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]]])
    index, found = fixed_nms(boxes, torch.tensor([[0.5, 0.9, NONE]]), None, 3, greedy_decay(0.5))
    assert index[0, 0] == 1 and found.tolist() == [[pytest.approx(0.9), NONE, NONE]]


def test_boxes_without_area_stay():
    boxes = torch.zeros(1, 2, 4)
    _, found = fixed_nms(boxes, torch.tensor([[0.9, 0.8]]), None, 2, greedy_decay(0.5))
    assert (found > 0).all()


def test_the_mode_ends_with_its_block():
    assert not is_fixed_size()
    with pytest.raises(KeyError), fixed_size(FixedSize(max_num=7)):
        assert is_fixed_size() and fixed_options().max_num == 7
        raise KeyError
    assert not is_fixed_size() and fixed_options().max_num == 300


def test_at_least():
    value = torch.ones(2, 3, 4)
    assert at_least(value, 3, -1) is value
    assert at_least(value, 5, -1)[:, 3:].unique().tolist() == [-1] and at_least(value, 5, -1).shape == (2, 5, 4)
