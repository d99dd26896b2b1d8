"""Masks of a map, in the picture."""

import pytest
import torch

from mmdet.models.core import resized_masks

META = dict(img_shape=(8, 6), ori_shape=(4, 3))


@pytest.mark.parametrize('budget', [1, 10**6])  # one by one, or all at once
def test_masks_lie_where_the_map_says(budget):
    logits = torch.full((3, 4, 4), -5.0)
    logits[0, :2] = 5.0  # the upper half of a padded picture of 8x8
    logits[1, :, 3] = 5.0  # only padding, but for what is interpolated
    masks = resized_masks(logits, (8, 8), META, rescale=False, budget=budget)
    assert masks.shape == (3, 8, 6) and masks.dtype == torch.bool
    assert masks[0].sum(1).tolist() == [6] * 4 + [0] * 4
    assert not masks[1].any() and not masks[2].any()
    assert resized_masks(logits, (8, 8), META, rescale=True, budget=budget)[0].sum(1).tolist() == [3, 3, 0, 0]


def test_the_threshold_is_a_probability():
    logits = torch.tensor([[[0.5]], [[1.5]]])  # 0.62 and 0.82
    meta = dict(img_shape=(2, 2), ori_shape=(2, 2))
    found = [resized_masks(logits, (2, 2), meta, True, threshold)[:, 0, 0].tolist() for threshold in (0.0, 0.7, 1.0)]
    assert found == [[True, True], [False, True], [False, False]]
    assert resized_masks(logits[:0], (2, 2), meta, True).shape == (0, 2, 2)
