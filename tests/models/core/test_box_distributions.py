"""Sides of boxes as distributions."""

import math

import torch

from mmdet.models.core import bin_places, moved_sides, side_entropy, side_targets, sides_of_distributions
from mmdet.models.dense_heads.dfine_head import voted_matches


def test_places():
    places = bin_places(8, up=0.5, scale=4.0)
    step = 3 ** (1 / 3)
    side = [step - 1, step**2 - 1, 2.0]
    torch.testing.assert_close(places, torch.tensor([-4.0, *(-x for x in side[::-1]), 0.0, *side, 4.0]))
    assert len(bin_places(32, 0.5, 4.0)) == 33


def test_sides_move_out():
    box = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    torch.testing.assert_close(moved_sides(box, torch.zeros(1, 4), 4.0), box)
    moved = moved_sides(box, torch.tensor([[4.0, 0.0, 0.0, -2.0]]), 4.0)  # one width to the left, the lower half off
    torch.testing.assert_close(moved, torch.tensor([[0.4, 0.4, 0.4, 0.2]]))


def test_the_mean_of_a_distribution():
    places = torch.tensor([-1.0, 0.0, 3.0])
    sides = torch.zeros(4, 3)
    sides[1, 2] = math.log(2)
    sides[2, 0] = 100
    found = sides_of_distributions(sides.flatten()[None], places)
    torch.testing.assert_close(found, torch.tensor([[2 / 3, 5 / 4, -1.0, 2 / 3]]))


def test_targets_lead_to_the_truth():
    torch.manual_seed(0)
    places = bin_places(8, 0.5, 4.0)
    start, truth = torch.rand(20, 4) * 0.1 + 0.4, torch.rand(20, 4) * 0.1 + 0.4
    bins, parts = side_targets(start, truth, places, 4.0)
    distances = places[bins] * (1 - parts) + places[bins + 1] * parts
    torch.testing.assert_close(moved_sides(start, distances, 4.0), truth)
    small = torch.tensor([[0.5, 0.5, 0.1, 0.1]])
    bins, parts = side_targets(small, torch.tensor([[0.5, 0.2, 1.0, 0.1]]), places, 4.0)
    # beyond the last place counts as at it
    assert bins.tolist() == [[7, 7, 7, 0]] and parts.tolist() == [[1.0, 1.0, 1.0, 0.0]]


def test_entropy_of_both_neighbours():
    logits = torch.zeros(1, 4, 3)
    logits[0, 0, 1] = math.log(2)
    bins, parts = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0.25, 0.0, 1.0, 0.5]])
    want = [[0.75 * math.log(4) + 0.25 * math.log(2), math.log(3), math.log(3), math.log(3)]]
    torch.testing.assert_close(side_entropy(logits, bins, parts), torch.tensor(want))


def test_votes():
    matchings = torch.tensor([[[1, 0, 2, 0]], [[2, 0, 0, 1]], [[1, 0, 3, 2]]])  # three of one image with four queries
    assert voted_matches(matchings, 3).tolist() == [[1, 0, 2, 1]]
    assert voted_matches(torch.zeros(2, 1, 4, dtype=torch.long), 1).tolist() == [[0] * 4]
