"""Boxes that one network finds and another is trained on."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.core import (
    homographies,
    jittered,
    keep_instances,
    project_boxes,
    project_lists,
    relative_spread,
)
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_project

TURN = np.array([[0.6, -0.8, 30], [0.8, 0.6, 4], [0, 0, 1]], np.float32)
PERSPECTIVE = np.array([[1.1, 0.1, -3], [0, 0.9, 5], [1e-3, -5e-4, 1]], np.float32)
BOXES = torch.tensor([[4.0, 6, 30, 34], [20, 10, 60, 58], [-3, 40, 12, 90]])


def test_a_batch_is_projected_as_each_picture():
    matrices = homographies([dict(homography_matrix=matrix) for matrix in (np.eye(3), TURN, PERSPECTIVE)])
    shapes = [(80, 70), (50, 60), (64, 64)]
    moved = project_boxes(BOXES.expand(3, -1, -1), matrices, shapes)
    for result, matrix, shape in zip(moved, matrices, shapes):
        torch.testing.assert_close(result, bbox_project(BOXES, matrix, shape))
    assert moved[0].tolist() == [[4, 6, 30, 34], [20, 10, 60, 58], [0, 40, 12, 80]]
    lists = project_lists([BOXES[:2], BOXES[:0], BOXES], matrices, shapes)
    assert [len(boxes) for boxes in lists] == [2, 0, 3]
    torch.testing.assert_close(lists[2], moved[2])
    assert [boxes.shape for boxes in project_lists([BOXES[:0]] * 3, matrices, shapes)] == [(0, 4)] * 3


def test_a_round_trip():
    """A picture is enlarged, mirrored and cropped, and back."""
    matrix = np.array([[1, 0, -7], [0, 1, -3], [0, 0, 1]]) @ [[-1, 0, 150], [0, 1, 0], [0, 0, 1]] @ np.diag([1.5, 2, 1])
    matrices = homographies([dict(homography_matrix=matrix)])
    there = project_boxes(BOXES[None, :2], matrices, [(500, 500)])
    assert there[0, 0].tolist() == [150 - 45 - 7, 9, 150 - 6 - 7, 65]
    back = project_boxes(there, torch.linalg.inv(matrices), [(100, 100)])
    torch.testing.assert_close(back[0], BOXES[:2])


def test_a_picture_without_a_matrix():
    with pytest.raises(KeyError, match=r"b\.jpg has no 'homography_matrix'.*meta_keys of PackDetInputs"):
        homographies([dict(homography_matrix=TURN), dict(img_path='b.jpg')])


def test_instances_that_are_kept():
    samples = [
        DetDataSample(gt_instances=InstanceData(bboxes=BOXES[:count], labels=torch.arange(count)))
        for count in (3, 0, 2)
    ]
    masks = [torch.tensor([True, False, True]), torch.zeros(0, dtype=torch.bool), torch.tensor([False, True])]
    assert keep_instances(samples, masks) is samples
    assert [sample.gt_instances.labels.tolist() for sample in samples] == [[0, 2], [], [1]]
    assert torch.equal(samples[2].gt_instances.bboxes, BOXES[1:2])


def test_jitter_is_in_sides():
    torch.manual_seed(0)
    boxes = torch.tensor([[0.0, 0, 100, 20], [5, 5, 5, 5]])
    moves = (jittered(boxes, 4000, 0.06) - boxes).std(0)
    torch.testing.assert_close(moves, torch.tensor([[6, 1.2, 6, 1.2], [0.06] * 4]), rtol=0.05, atol=0)
    assert jittered(boxes[:0], 10, 0.06).shape == (10, 0, 4)


def test_spread_of_copies():
    """Of one box 10 wide and 20 high, of which x1 is 0, 1 or 2 too large; another stays put."""
    copies = torch.tensor([[[0.0, 0, 11, 20], [1, 0, 11, 20], [2, 0, 11, 20]], [[3.0, 3, 3, 3]] * 3])
    assert relative_spread(copies[None]).tolist() == [[pytest.approx(0.1 / 4), 0]]
