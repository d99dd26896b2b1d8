import numpy as np
import pytest
import torch

from mmdet.structures.bbox import (
    HorizontalBoxes,
    bbox2corner,
    bbox2distance,
    bbox2result,
    bbox2roi,
    bbox_cxcywh_to_xyxy,
    bbox_flip,
    bbox_mapping,
    bbox_mapping_back,
    bbox_project,
    bbox_rescale,
    bbox_xyxy_to_cxcywh,
    cat_boxes,
    corner2bbox,
    distance2bbox,
    empty_box_as,
    find_inside_bboxes,
    get_box_tensor,
    get_box_wh,
    roi2bbox,
    scale_boxes,
    stack_boxes,
)

BOXES = torch.tensor([[1.0, 2, 5, 10], [0, 0, 20, 8]])


@pytest.mark.parametrize(
    ('direction', 'expected'),
    [('horizontal', [15, 2, 19, 10]), ('vertical', [1, 0, 5, 8]), ('diagonal', [15, 0, 19, 8])],
)
def test_flip(direction, expected):
    assert bbox_flip(BOXES, (10, 20), direction)[0].tolist() == expected
    assert torch.equal(bbox_flip(bbox_flip(BOXES, (10, 20), direction), (10, 20), direction), BOXES)
    per_class = torch.cat([BOXES, BOXES], dim=1)  # class-specific boxes lie side by side
    assert bbox_flip(per_class, (10, 20), direction)[0].tolist() == expected * 2


def test_flip_errors():
    with pytest.raises(ValueError, match="'upwards'"):
        bbox_flip(BOXES, (10, 20), 'upwards')
    with pytest.raises(ValueError, match='multiple of 4'):
        bbox_flip(torch.zeros(1, 5), (10, 20))


@pytest.mark.parametrize('scale', [2.0, (2.0, 3.0), [2.0, 3.0, 2.0, 3.0]])
@pytest.mark.parametrize('flip', [True, False])
def test_mapping_and_back(scale, flip):
    there = bbox_mapping(BOXES, (60, 60), scale, flip)
    torch.testing.assert_close(bbox_mapping_back(there, (60, 60), scale, flip), BOXES)
    if not flip:
        assert there[0, 2] == 10


def test_rois():
    rois = bbox2roi([BOXES, BOXES.new_zeros(0, 4), HorizontalBoxes(BOXES[:1])])
    assert rois[:, 0].tolist() == [0, 0, 2]
    assert rois.shape == (3, 5)
    back = roi2bbox(rois)
    assert [len(boxes) for boxes in back] == [2, 1]
    assert torch.equal(back[0], BOXES)
    assert bbox2roi([BOXES.new_zeros(0, 4)]).shape == (0, 5)


def test_result_by_class():
    scored = torch.cat([BOXES, torch.ones(2, 1)], dim=1)
    result = bbox2result(scored, torch.tensor([2, 0]), 3)
    assert [len(r) for r in result] == [1, 0, 1]
    assert np.array_equal(result[2][0], scored[0].numpy())
    assert [r.shape for r in bbox2result(scored[:0], torch.zeros(0), 2)] == [(0, 5)] * 2


def test_distances():
    points = torch.tensor([[3.0, 4], [10, 4]])
    distance = bbox2distance(points, BOXES)
    assert distance.tolist() == [[2, 2, 2, 6], [10, 4, 10, 4]]
    assert torch.equal(distance2bbox(points, distance), BOXES)
    assert bbox2distance(points, BOXES, max_dis=5, eps=0.5).max() == 4.5
    assert distance2bbox(points, distance, max_shape=(6, 12)).tolist() == [[1, 2, 5, 6], [0, 0, 12, 6]]
    batch = distance2bbox(points[None].repeat(2, 1, 1), distance[None].repeat(2, 1, 1), [(6, 12, 3), (100, 4, 3)])
    assert batch[0, 1].tolist() == [0, 0, 12, 6]
    assert batch[1].tolist() == [[1, 2, 4, 10], [0, 0, 4, 8]]
    tensor = distance2bbox(
        points[None].repeat(2, 1, 1), distance[None].repeat(2, 1, 1), torch.tensor([[6, 12], [100, 4]])
    )
    assert torch.equal(batch, tensor)


def test_parametrisations():
    assert bbox_xyxy_to_cxcywh(BOXES).tolist() == [[3, 6, 4, 8], [10, 4, 20, 8]]
    assert torch.equal(bbox_cxcywh_to_xyxy(bbox_xyxy_to_cxcywh(BOXES)), BOXES)
    assert bbox2corner(BOXES[:1]).tolist() == [[1, 2], [5, 2], [1, 10], [5, 10]]
    assert torch.equal(corner2bbox(bbox2corner(BOXES)), BOXES)


def test_rescale():
    assert bbox_rescale(BOXES, 0.5)[0].tolist() == [2, 4, 4, 8]
    assert bbox_rescale(bbox2roi([BOXES]), 2.0)[0].tolist() == [0, -1, -2, 7, 14]
    with pytest.raises(ValueError, match=r'\(1, 3\)'):
        bbox_rescale(torch.zeros(1, 3))


@pytest.mark.parametrize('kind', [torch.as_tensor, lambda x: x.numpy()])
def test_project(kind):
    shift = torch.tensor([[1.0, 0, 3], [0, 1, -4], [0, 0, 1]])
    boxes = bbox_project(kind(BOXES), kind(shift), (5, 20))
    assert type(boxes) is type(kind(BOXES))
    assert boxes.tolist() == [[4, 0, 8, 5], [3, 0, 20, 4]]
    assert bbox_project(BOXES, 2 * torch.eye(3)).tolist() == BOXES.tolist()  # homogeneous: the scale cancels


def test_find_inside():
    boxes = torch.tensor([[-5.0, -5, -1, -1], [-5, -5, 1, 1], [19, 9, 30, 30], [20, 9, 30, 30]])
    assert find_inside_bboxes(boxes, 10, 20).tolist() == [False, True, True, False]


@pytest.mark.parametrize('kind', [HorizontalBoxes, torch.Tensor.clone])
def test_functions_on_tensors_and_containers(kind):
    boxes = kind(BOXES)
    assert torch.equal(get_box_tensor(boxes), BOXES)
    assert torch.equal(get_box_tensor(cat_boxes([boxes, boxes])), torch.cat([BOXES, BOXES]))
    assert get_box_tensor(stack_boxes([boxes, boxes])).shape == (2, 2, 4)
    width, height = get_box_wh(boxes)
    assert width.tolist() == [4, 20] and height.tolist() == [8, 8]
    assert type(empty_box_as(boxes)) is type(boxes) and len(empty_box_as(boxes)) == 0
    assert get_box_tensor(scale_boxes(boxes, (2, 0.5)))[0].tolist() == [2, 1, 10, 5]
