import pytest
import torch

from mmdet.models.test_time_augs.voting import batched_vote, find_leaders, vote, within_size


def test_a_group_is_the_weighted_mean_with_the_best_score():
    bboxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]])
    scores = torch.tensor([0.6, 0.2, 0.9])
    merged, values = vote(bboxes, scores, 0.66)
    assert merged.tolist() == [[50, 50, 60, 60], pytest.approx([0, 0, 10, 9.5])]  # (0.6 * 10 + 0.2 * 8) / 0.8
    assert values.tolist() == pytest.approx([0.9, 0.6])


def test_soft_voting_keeps_the_members_with_decayed_scores():
    bboxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 9]])
    scores = torch.tensor([0.8, 0.6, 0.4])
    merged, values = vote(bboxes, scores, 0.66, soft=True, score_thr=0.05)
    # overlaps 0.7 and 0.9: 0.6 * 0.3 stays, 0.4 * 0.1 is too little
    assert values.tolist() == pytest.approx([0.8, 0.18])
    assert merged[1].tolist() == [0, 0, 10, 7]
    assert merged[0, 3].item() == pytest.approx((0.8 * 10 + 0.6 * 7 + 0.4 * 9) / 1.8)


def test_a_box_belongs_to_the_best_group_it_overlaps():
    iou = torch.eye(4)
    for i, j, value in ((0, 1, 0.7), (1, 2, 0.9), (2, 3, 0.5)):
        iou[i, j] = iou[j, i] = value
    assert find_leaders(iou, 0.66).tolist() == [0, 0, 2, 3]  # 2 overlaps 1, which is taken
    assert find_leaders(iou, 0.5).tolist() == [0, 0, 2, 2]


def test_classes_vote_apart():
    bboxes = torch.tensor([[0.0, 0, 10, 10]] * 3)
    merged, values, labels = batched_vote(bboxes, torch.tensor([0.2, 0.9, 0.5]), torch.tensor([1, 0, 1]))
    assert values.tolist() == pytest.approx([0.9, 0.5]) and labels.tolist() == [0, 1]
    assert merged.tolist() == [[0, 0, 10, 10]] * 2


def test_voting_equals_a_loop_over_groups():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(200, 2, generator=generator) * 40
    bboxes = torch.cat([corner, corner + 10 + torch.rand(200, 2, generator=generator) * 10], 1)
    scores = torch.rand(200, generator=generator)
    left, expected = [(s, *b) for s, b in zip(scores.tolist(), bboxes.tolist(), strict=True)], []
    while left:
        left.sort(reverse=True)
        first = left[0][1:]
        group = [entry for entry in left if overlap(first, entry[1:]) >= 0.5]
        left = [entry for entry in left if entry not in group]
        mass = sum(entry[0] for entry in group)
        expected.append([sum(entry[0] * entry[k] for entry in group) / mass for k in range(1, 5)])
    merged, _ = vote(bboxes, scores, 0.5)
    torch.testing.assert_close(merged, torch.tensor(expected), atol=1e-3, rtol=1e-5)


def overlap(a, b):
    side = [max(0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1)]
    inter = side[0] * side[1]
    return inter / (area(a) + area(b) - inter)


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def test_sizes_are_roots_of_areas():
    bboxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 5, 80], [0, 0, 100, 100]])
    assert within_size(bboxes, 10, 100).tolist() == [False, True, False]


def test_nothing_to_vote_on():
    merged, values, labels = batched_vote(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert merged.shape == (0, 4) and len(values) == len(labels) == 0
