"""Layers and functions that heads of MMDetection 3.x import from mmdet.models.layers."""

import pytest
import torch
from torch import nn

from mmdet.models import layers


def test_average_pool_takes_an_empty_batch():
    assert layers.adaptive_avg_pool2d(torch.zeros(0, 3, 4, 4), 2).shape == (0, 3, 2, 2)
    assert layers.AdaptiveAvgPool2d((None, 1))(torch.ones(2, 3, 4, 4)).shape == (2, 3, 4, 1)


def test_inverse_sigmoid():
    x = torch.tensor([0.25, 0.5, 0.9])
    assert torch.allclose(layers.inverse_sigmoid(x).sigmoid(), x)
    ends = layers.inverse_sigmoid(torch.tensor([-1.0, 0.0, 1.0, 2.0]), eps=1e-3)
    assert torch.allclose(ends, ends[3] * torch.tensor([-1.0, -1.0, 1.0, 1.0]))
    assert ends[3] == pytest.approx(6.9078, abs=1e-3)


def test_frozen_batch_norm():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))
    for norm in (net[1], net[2][0]):
        nn.init.uniform_(norm.weight), nn.init.uniform_(norm.bias)
        norm.running_mean.uniform_(), norm.running_var.uniform_(1, 2)
    x = torch.rand(2, 3, 5, 5)
    expected = net.eval()(x)
    frozen = layers.FrozenBatchNorm2d.convert_frozen_batchnorm(net).train()
    assert isinstance(frozen[2][0], layers.FrozenBatchNorm2d)
    assert torch.allclose(frozen(x), expected, atol=1e-6)
    assert {name for name, _ in frozen.named_parameters()} == {'0.weight', '0.bias'}
    assert torch.equal(layers.FrozenBatchNorm2d(3)(x), x), 'a new one changes nothing'


def masks_in_a_row(*spans):
    masks = torch.zeros(len(spans), 1, 12)
    for mask, (start, end) in zip(masks, spans, strict=True):
        mask[0, start:end] = 1
    return masks


@pytest.mark.parametrize('kernel', ['gaussian', 'linear'])
def test_matrix_nms_lowers_what_a_better_mask_of_the_class_covers(kernel):
    masks = masks_in_a_row((0, 4), (0, 8), (0, 4), (8, 12))
    labels, scores = torch.tensor([0, 0, 1, 0]), torch.tensor([0.8, 0.9, 0.7, 0.5])
    found, found_labels, found_masks, keep = layers.mask_matrix_nms(masks, labels, scores, kernel=kernel)
    lowered = 0.8 * (torch.tensor(-2 * 0.25).exp().item() if kernel == 'gaussian' else 0.5)
    expected = {1: 0.9, 0: lowered, 2: 0.7, 3: 0.5}
    assert found.tolist() == pytest.approx([expected[i] for i in keep.tolist()])
    assert found.tolist() == sorted(found.tolist(), reverse=True)
    assert torch.equal(found_labels, labels[keep]) and torch.equal(found_masks, masks[keep])


def test_matrix_nms_compensates_for_a_mask_that_is_itself_lowered():
    masks = masks_in_a_row((0, 8), (2, 10), (6, 12))
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.long)
    found = layers.mask_matrix_nms(masks, labels, scores, kernel='linear')[0]
    first, second, third = 6 / 10, 2 / 12, 4 / 10  # overlaps of 0-1, 0-2, 1-2
    expected = sorted([0.9, 0.8 * (1 - first), 0.7 * min(1 - second, (1 - third) / (1 - first))], reverse=True)
    assert found.tolist() == pytest.approx(expected)


def test_matrix_nms_keeps_as_many_as_asked():
    masks = masks_in_a_row((0, 4), (4, 8), (8, 12))
    scores, labels = torch.tensor([0.2, 0.9, 0.6]), torch.zeros(3, dtype=torch.long)
    assert layers.mask_matrix_nms(masks, labels, scores, nms_pre=2)[3].tolist() == [1, 2]
    assert layers.mask_matrix_nms(masks, labels, scores, max_num=1)[3].tolist() == [1]
    assert layers.mask_matrix_nms(masks, labels, scores, filter_thr=0.5)[3].tolist() == [1, 2]
    assert not len(layers.mask_matrix_nms(masks, labels, scores, filter_thr=0.95)[3])
    empty = layers.mask_matrix_nms(masks[:0], labels[:0], scores[:0], mask_area=scores[:0])
    assert empty[2].shape == (0, 1, 12) and empty[3].dtype == torch.long
    with pytest.raises(AssertionError, match='one length'):
        layers.mask_matrix_nms(masks, labels[:2], scores)
    with pytest.raises(AssertionError, match='box'):
        layers.mask_matrix_nms(masks, labels, scores, kernel='box')
