from __future__ import annotations

import numpy as np
import pytest
import torch

from mmdet.ops import batched_nms, fast_nms, multiclass_nms, nms, nms_match, soft_nms

# 0 and 1 overlap by 0.6, 2 is far away, 3 overlaps with 2 by exactly one half
BOXES = torch.tensor([[0.0, 0, 10, 8], [0, 0, 10, 4.8], [20, 20, 30, 30], [20, 20, 30, 25]])
SCORES = torch.tensor([0.8, 0.9, 0.6, 0.7])
EMPTY = torch.zeros(0, 4), torch.zeros(0)


@pytest.mark.parametrize(
    ('options', 'kept'),
    [
        ({'iou_threshold': 0.5}, [1, 3, 2]),  # 0.5 is not above the threshold
        ({'iou_threshold': 0.49}, [1, 3]),
        ({'iou_threshold': 0.7}, [1, 0, 3, 2]),
        ({'iou_threshold': 0.7, 'max_num': 2}, [1, 0]),
        ({'iou_threshold': 0.7, 'score_threshold': 0.65}, [1, 0, 3]),
    ],
)
def test_nms(options, kept):
    dets, inds = nms(BOXES, SCORES, **options)
    assert inds.tolist() == kept
    torch.testing.assert_close(dets, torch.cat([BOXES, SCORES[:, None]], 1)[kept])
    array, array_inds = nms(BOXES.numpy(), SCORES.numpy(), **options)
    assert isinstance(array, np.ndarray) and array_inds.tolist() == kept
    half, half_inds = nms(BOXES.half(), SCORES.half(), **options)
    assert half_inds.tolist() == kept and half.dtype == torch.float32


def test_offset_counts_the_last_column():
    boxes, scores = torch.tensor([[0.0, 0, 9, 9], [5.0, 0, 14, 9]]), torch.tensor([0.9, 0.8])
    assert len(nms(boxes, scores, 0.32)[0]) == 2  # 4 * 9 / 126
    assert len(nms(boxes, scores, 0.32, offset=1)[0]) == 1  # 50 / 150


@pytest.mark.parametrize('function', [lambda *a: nms(*a, 0.5), soft_nms])
def test_empty(function):
    dets, inds = function(*EMPTY)
    assert dets.shape == (0, 5) and inds.shape == (0,)


@pytest.mark.parametrize(
    ('options', 'kept', 'scores'),
    [
        ({'method': 'naive', 'iou_threshold': 0.5}, [1, 3], [0.9, 0.7]),  # from 0.5 on
        ({'method': 'linear', 'iou_threshold': 0.55}, [1, 3, 2, 0], [0.9, 0.7, 0.6, 0.32]),
        ({'method': 'linear', 'iou_threshold': 0.55, 'min_score': 0.4}, [1, 3, 2], [0.9, 0.7, 0.6]),
        ({'method': 'gaussian'}, [1, 3, 0, 2], [0.9, 0.7, 0.8 * np.exp(-0.72), 0.6 * np.exp(-0.5)]),
    ],
)
def test_soft_nms(options, kept, scores):
    dets, inds = soft_nms(BOXES, SCORES, **options)
    assert inds.tolist() == kept
    assert dets[:, 4].tolist() == pytest.approx(scores)
    torch.testing.assert_close(dets[:, :4], BOXES[kept])


def test_batched_nms():
    classes = torch.tensor([0, 1, 0, 0])
    dets, keep = batched_nms(BOXES, SCORES, classes, {'type': 'nms', 'iou_threshold': 0.45})
    assert keep.tolist() == [1, 0, 3]
    torch.testing.assert_close(dets[:, :4], BOXES[keep])
    split = {'type': 'nms', 'iou_threshold': 0.45, 'split_thr': 1}
    torch.testing.assert_close(batched_nms(BOXES, SCORES, classes, split)[0], dets)
    assert batched_nms(BOXES, SCORES, classes, {**split, 'max_num': 2})[1].tolist() == [1, 0]
    for config in ({'iou_threshold': 0.45, 'class_agnostic': True}, {'iou_threshold': 0.45}):
        agnostic = batched_nms(BOXES, SCORES, classes, config, class_agnostic=True)[1]
        assert agnostic.tolist() == [1, 3]
    assert batched_nms(BOXES, SCORES, classes, None)[1].tolist() == [1, 0, 3, 2]
    soft = batched_nms(BOXES, SCORES, torch.zeros(4), {'type': 'soft_nms', 'method': 'gaussian'})[0]
    assert soft[2, 4].item() == pytest.approx(0.8 * np.exp(-0.72))
    dets, keep = batched_nms(*EMPTY, torch.zeros(0), {'type': 'nms', 'iou_threshold': 0.5})
    assert dets.shape == (0, 5) and keep.shape == (0,)


def test_batched_nms_matches_a_loop_over_classes():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(300, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 5 + torch.rand(300, 2, generator=generator) * 30], 1)
    scores, classes = torch.rand(300, generator=generator), torch.arange(300) % 3
    found = set()
    for i in range(3):
        rows = (classes == i).nonzero()[:, 0]
        found |= set(rows[nms(boxes[rows], scores[rows], 0.5)[1]].tolist())
    assert set(batched_nms(boxes, scores, classes, {'iou_threshold': 0.5})[1].tolist()) == found


def test_errors_name_the_value():
    with pytest.raises(ValueError, match=r"'soft_nmss'.*Did you mean 'soft_nms'"):
        batched_nms(BOXES, SCORES, torch.zeros(4), {'type': 'soft_nmss'})
    with pytest.raises(ValueError, match=r'\(4, 5\)'):
        nms(torch.zeros(4, 5), SCORES, 0.5)
    with pytest.raises(ValueError, match='2'):
        nms(BOXES, SCORES, 0.5, offset=2)
    with pytest.raises(ValueError, match="'quadratic'"):
        soft_nms(BOXES, SCORES, method='quadratic')


def test_multiclass_nms():
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.0, 0.2], [0.0, 0.7, 0.3], [0.04, 0.03, 0.9]])
    config = {'type': 'nms', 'iou_threshold': 0.5}
    dets, labels, inds = multiclass_nms(BOXES, scores, 0.05, config, return_inds=True)
    assert labels.tolist() == [0, 1, 1] and inds.tolist() == [0, 5, 1]
    assert dets[:, 4].tolist() == pytest.approx([0.9, 0.7, 0.1])
    factors = torch.tensor([0.1, 1.0, 1.0, 1.0])
    dets, labels = multiclass_nms(BOXES, scores, 0.05, config, max_num=1, score_factors=factors)
    assert labels.tolist() == [0] and dets[0, 4].item() == pytest.approx(0.8)
    per_class = torch.cat([BOXES, BOXES + 100], 1)
    dets, labels = multiclass_nms(per_class, scores, 0.05, config)
    assert dets[1, 0] == 120 and labels[1] == 1
    dets, labels, inds = multiclass_nms(BOXES, scores, 0.95, config, return_inds=True)
    assert dets.shape == (0, 5) and not len(labels) and not len(inds)
    assert multiclass_nms(EMPTY[0], torch.zeros(0, 3), 0.05, config)[0].shape == (0, 5)


def test_fast_nms():
    scores = torch.stack([SCORES, torch.zeros(4), 1 - SCORES], 1)
    coeffs = torch.arange(4.0)[:, None]
    dets, labels, kept = fast_nms(BOXES, scores, coeffs, 0.05, 0.45, top_k=4)
    assert kept[:, 0].tolist() == [1, 3] and labels.tolist() == [0, 0]
    assert dets[:, 4].tolist() == pytest.approx([0.9, 0.7])
    assert fast_nms(BOXES, scores, coeffs, 0.05, 0.55, top_k=4, max_num=1)[2].tolist() == [[1]]
    dets, _, kept = fast_nms(EMPTY[0], torch.zeros(0, 3), torch.zeros(0, 7), 0.05, 0.5, top_k=4)
    assert dets.shape == (0, 5) and kept.shape == (0, 7)


def test_nms_match():
    dets = torch.cat([BOXES, SCORES[:, None]], 1)
    assert [group.tolist() for group in nms_match(dets, 0.5)] == [[1, 0], [3, 2]]
    assert [group.tolist() for group in nms_match(dets.numpy(), 0.7)] == [[1], [0], [3], [2]]
    assert nms_match(dets[:0], 0.5) == []
