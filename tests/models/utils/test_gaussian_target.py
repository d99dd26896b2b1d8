"""Gaussians on heat maps and peaks of heat maps, against small tables."""

import math

import pytest
import torch

from mmdet.models.utils import (
    gather_feat,
    gaussian2D,
    gaussian_radius,
    gen_gaussian_target,
    get_local_maximum,
    get_topk_from_heatmap,
    transpose_and_gather_feat,
)


@pytest.mark.parametrize('height, width, overlap', [(40, 40, 0.3), (16, 64, 0.3), (10, 10, 0.7), (3, 200, 0.5)])
def test_radius_is_the_largest_that_keeps_the_overlap(height, width, overlap):
    radius = gaussian_radius((height, width), overlap)
    inside = max(height - 2 * radius, 0) * max(width - 2 * radius, 0) / (height * width)
    outside = height * width / ((height + 2 * radius) * (width + 2 * radius))
    common = (height - radius) * (width - radius)
    shifted = common / (2 * height * width - common)
    assert min(inside, outside, shifted) == pytest.approx(overlap)
    sizes = torch.tensor([[40.0, 40.0], [height, width]], dtype=torch.double)
    assert gaussian_radius(sizes.unbind(1), overlap)[1].item() == pytest.approx(radius)


def test_gaussian_is_one_in_the_middle_and_cut_where_it_is_lost():
    table = gaussian2D(1, sigma=1)
    edge, corner = math.exp(-0.5), math.exp(-1)
    expected = torch.tensor([[corner, edge, corner], [edge, 1, edge], [corner, edge, corner]])
    assert torch.allclose(table, expected)
    assert gaussian2D(2, sigma=0.5)[0, 0] == 0 and gaussian2D(2, sigma=0.5)[0, 2] > 0


def test_target_is_painted_in_place_and_ends_at_the_border():
    heatmap = torch.zeros(4, 5)
    painted = gen_gaussian_target(heatmap, (4, 0), 1)
    side, corner = math.exp(-1 / (2 * 0.25)), math.exp(-2 / (2 * 0.25))
    expected = torch.zeros(4, 5)
    expected[0, 3:], expected[1, 3:] = torch.tensor([side, 1]), torch.tensor([corner, side])
    assert painted is heatmap and torch.allclose(heatmap, expected)
    gen_gaussian_target(heatmap, (4, 0), 1, k=0.5)
    assert torch.allclose(heatmap, expected), 'what is higher stays'


def test_many_targets_at_once_are_those_one_by_one():
    centers, radii = torch.tensor([[1, 2], [6, 5], [2, 2], [9, 0]]), torch.tensor([2, 4, 0, 1])
    one_by_one = torch.zeros(8, 10)
    for (x, y), radius in zip(centers.tolist(), radii.tolist(), strict=True):
        gen_gaussian_target(one_by_one, (x, y), radius)
    assert torch.equal(gen_gaussian_target(torch.zeros(8, 10), centers.unbind(1), radii), one_by_one)
    empty = torch.zeros(0, dtype=torch.long)
    assert not gen_gaussian_target(torch.zeros(8, 10), (empty, empty), empty).any()


def test_local_maxima_and_the_best_of_them():
    heat = torch.tensor([[[[0.1, 0.9, 0.2], [0.3, 0.4, 0.8]], [[0.5, 0.1, 0.0], [0.0, 0.2, 0.6]]]])  # (1, 2, 2, 3)
    peaks = get_local_maximum(heat)
    assert torch.equal(peaks, torch.where(heat == 0.9, heat, 0) + torch.where((heat == 0.5) | (heat == 0.6), heat, 0))
    scores, cells, classes, y, x = get_topk_from_heatmap(peaks, 3)
    assert torch.allclose(scores, torch.tensor([[0.9, 0.6, 0.5]]))
    assert [v.tolist() for v in (cells, classes, y, x)] == [[[1, 5, 0]], [[0, 1, 1]], [[0, 1, 0]], [[1, 2, 0]]]


def test_gathered_features():
    feat = torch.arange(12.0).reshape(2, 3, 2)
    index = torch.tensor([[2, 0], [1, 1]])
    rows = gather_feat(feat, index)
    assert rows.tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]
    assert gather_feat(feat, index, torch.tensor([[1, 0], [0, 1]])).tolist() == [[4, 5], [8, 9]]
    assert torch.equal(transpose_and_gather_feat(feat.transpose(1, 2).reshape(2, 2, 1, 3), index), rows)
