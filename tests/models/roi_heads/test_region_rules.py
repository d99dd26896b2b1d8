"""What heads of regions are taught, against literal tables and loops over regions, points and pixels."""

import pytest
import torch
from mmengine.config import ConfigDict
from two_stage_table import GRID, build

from mmdet.models.core import RoISamples
from mmdet.registry import MODELS

pytestmark = pytest.mark.usefixtures('default_scope')


def drawn(boxes, truth, pos, gt_inds=None, labels=None):
    """Slots ``(B, S)`` that all may hold positives."""
    zeros = torch.zeros(pos.shape, dtype=torch.long)
    indices, labels = (zeros if value is None else value for value in (gt_inds, labels))
    every = torch.ones_like(pos)
    return RoISamples(boxes, every, pos, indices, truth, labels, pos & False, pos.shape[1], packed=False)


def test_parts_of_a_grid_map():
    head = MODELS.build(GRID['grid_head'])
    assert head.calc_sub_regions() == [(x, y, x + 12, y + 12) for x in (0, 6, 12) for y in (0, 6, 12)]
    assert head.neighbor_points[:5] == [[1, 3], [0, 2, 4], [1, 5], [0, 4, 6], [1, 3, 5, 7]]


def grid_targets(head, box, truth, radius):
    """One region, point by point and cell by cell."""
    side, whole = head.grid_size, head.whole_map_size
    half = whole // 4 * 2
    targets = torch.zeros(head.grid_points, half, half)
    width, height = 2 * (box[2] - box[0]), 2 * (box[3] - box[1])
    left, top = box[0] - width / 4, box[1] - height / 4
    if width <= side or height <= side:
        return targets
    for point, (x0, y0, _, _) in enumerate(head.sub_regions):
        column, row = divmod(point, side)
        x = truth[0] + (truth[2] - truth[0]) * column / (side - 1)
        y = truth[1] + (truth[3] - truth[1]) * row / (side - 1)
        center_x, center_y = int((x - left) / width * whole), int((y - top) / height * whole)
        for i in range(half):
            for j in range(half):
                if (i + x0 - center_x) ** 2 + (j + y0 - center_y) ** 2 <= radius**2:
                    targets[point, j, i] = 1
    return targets


@pytest.mark.parametrize('radius', [1, 2])
def test_grid_targets(radius):
    head = MODELS.build(GRID['grid_head'])
    boxes = torch.tensor([[[8.0, 8, 40, 32], [0, 0, 1.5, 60], [30, 10, 61, 47], [5, 5, 9, 9]]])
    truth = torch.tensor([[[10.0, 6, 38, 36], [0, 0, 2, 60], [20.3, 12.7, 80.1, 40], [-20, 5, 9, 90]]])
    samples = drawn(boxes, truth, torch.ones(1, 4, dtype=torch.bool))
    found = head.get_targets(samples, ConfigDict(pos_radius=radius))
    assert torch.equal(found, torch.stack([grid_targets(head, *pair, radius) for pair in zip(boxes[0], truth[0])]))
    assert [int(value) for value in found.flatten(1).sum(1)][:2] == [9 * (5 if radius == 1 else 13), 0]


def test_boxes_of_a_grid():
    """All points certain of their middles give the region, one side moved by one cell a larger one."""
    head = MODELS.build(GRID['grid_head'])
    box, meta = torch.tensor([[8.0, 8, 32, 20]]), dict(scale_factor=(2.0, 4.0))
    logits = torch.full((1, 9, 12, 12), -20.0)
    cells = {0: 6 - 0, 1: 12 - 6, 2: 18 - 12}  # a side of the region in the part of each column and row
    for point in range(9):
        column, row = divmod(point, 3)
        logits[0, point, cells[row], cells[column]] = 20
    found = head.predict_by_feat(dict(fused=logits), [Found(box.clone())], [meta])[0].bboxes
    step_x, step_y = 24 / 12, 12 / 12
    torch.testing.assert_close(found, box + torch.tensor([step_x, step_y, step_x, step_y]) / 2)
    logits[0, 2, 6:8, 6] = torch.tensor([-20.0, 20])  # the lower left corner, one cell down
    moved = head.predict_by_feat(dict(fused=logits), [Found(box.clone())], [meta], rescale=True)[0].bboxes
    found[0, 3] += step_y / 3  # outvoted by two
    torch.testing.assert_close(moved, found / torch.tensor([2.0, 4, 2, 4]))


class Found:
    """Detections of one image."""

    def __init__(self, bboxes, **more):
        self.bboxes = bboxes
        self.__dict__.update(more)


def test_jitter_moves_positives_within_the_picture():
    torch.manual_seed(0)
    head = build('Grid').roi_head
    boxes = torch.tensor([10.0, 10, 30, 50]).repeat(1, 200, 1)
    pos = torch.arange(200)[None] < 150
    jittered = head._random_jitter(drawn(boxes, boxes, pos), [dict(img_shape=(50, 60))], amplitude=0.25)
    moved = jittered.boxes[0, :150]
    assert torch.equal(jittered.boxes[0, 150:], boxes[0, 150:])
    low, high = moved.amin(0), moved.amax(0)
    assert (low >= torch.tensor([2.5, 0, 22.5, 35])).all() and (high <= torch.tensor([17.5, 25, 37.5, 49])).all()
    assert (low < torch.tensor([5.0, 1, 25, 40])).all() and (high > torch.tensor([15.0, 20, 35, 48])).all()


def test_sums_of_neighbours_are_those_of_their_layers():
    torch.manual_seed(0)
    head = MODELS.build(GRID['grid_head'])
    feats = torch.randn(2, 9, 2, 3, 3)
    found = head._received(feats, head.forder_trans)
    for point, sources in enumerate(head.neighbor_points):
        expected = sum(layer(feats[:, source]) for layer, source in zip(head.forder_trans[point], sources))
        torch.testing.assert_close(found[:, point], expected)
