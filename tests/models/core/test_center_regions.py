"""Regions around the centres of objects, against the rule written object by object."""

import math

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.core import CenterRegions, PaddedGT, Priors, cell_grid, gt, middle_cells
from mmdet.models.task_modules.assigners import RegionAssigner

SIZES, STRIDES = [(12, 16), (6, 8), (3, 4)], [8, 16, 32]
AREAS = [height * width for height, width in SIZES]


def one_by_one(boxes, scale=4, center=0.2, ignore=0.5):
    """Owner of each cell, -1 where ignored; whether any object has its centre there; whether a level beside has."""
    owner, centers, near = ([torch.zeros(size, dtype=torch.long) for size in SIZES] for _ in range(3))
    for number, box in enumerate(boxes.tolist(), 1):
        side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
        own = min(max(math.floor(math.log2(side) - math.log2(scale * STRIDES[0]) + 0.5), 0), len(SIZES) - 1)
        for level, stride in enumerate(STRIDES):
            middles = []
            for ratio in (center, ignore):
                x1, y1, x2, y2 = (
                    int(v) for v in middle_cells(torch.tensor(box) / stride, (1 - ratio) / 2, SIZES[level])
                )
                middles.append((slice(y1, y2 + 1), slice(x1, x2 + 1)))
            if level == own:
                owner[level][middles[1]] = -1
                owner[level][middles[0]] = number
                centers[level][middles[0]] = 1
            elif abs(level - own) == 1:
                near[level][middles[1]] = 1
    return [torch.cat([level.flatten() for level in value]) for value in (owner, centers, near)]


def objects(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([90.0, 60])
    boxes = torch.cat([corner, corner + 8 + torch.rand(count, 2, generator=generator) * 90], 1)
    return InstanceData(bboxes=boxes, labels=torch.zeros(count, dtype=torch.long))


@pytest.mark.parametrize('budget', [None, 1])
def test_regions_of_a_batch(budget, monkeypatch):
    if budget:
        monkeypatch.setattr(gt, 'CPU_MATRIX_BUDGET', budget)  # each ground truth by itself
    instances = [objects(count, seed) for seed, count in enumerate((7, 0, 30, 1))]
    points = cell_grid(SIZES, 'cpu')
    found = CenterRegions.of(points, PaddedGT.from_instances(instances), AREAS, SIZES, STRIDES, 4, 0.2, 0.5)
    for b, image in enumerate(instances):
        owner, centers, near = one_by_one(image.bboxes)
        assert torch.equal(found.gt_inds[b], owner)
        assert torch.equal(found.center[b], centers > 0)
        assert torch.equal(found.near[b], near > 0)
    assert (found.gt_inds[2] > 0).any() and (found.gt_inds[2] == -1).any() and found.near[2].any()


@pytest.mark.parametrize(
    'box, ratio, size, cells',
    [
        ([0.0, 0, 10, 20], 0.4, None, (4, 8, 6, 12)),
        ([0.0, 0, 10, 20], 0.25, (30, 7), (2, 5, 7, 15)),  # halves are rounded to the even neighbour
        ([-8.0, -8, -4, -4], 0.25, (4, 4), (0, 0, 0, 0)),
    ],
)
def test_middle_of_a_box(box, ratio, size, cells):
    assert tuple(float(v) for v in middle_cells(torch.tensor(box), ratio, size)) == cells


def squares(sizes=SIZES):
    levels = []
    for size, stride in zip(sizes, STRIDES):
        center = cell_grid([size], 'cpu')[0] * stride
        levels.append(torch.cat([center - 2 * stride, center + 2 * stride], 1))
    return levels


RULE = dict(featmap_sizes=SIZES, anchor_scale=4, anchor_strides=STRIDES)


def test_anchors_in_regions():
    levels, instances = squares(), [objects(count, seed) for seed, count in enumerate((7, 0, 30))]
    valid = torch.rand(3, sum(AREAS), generator=torch.Generator().manual_seed(0)) > 0.1
    assigner = RegionAssigner(center_ratio=0.2, ignore_ratio=0.5)
    batch = assigner.assign_batch(
        Priors(torch.cat(levels)[None], valid, AREAS), PaddedGT.from_instances(instances), **RULE
    )
    for b, image in enumerate(instances):
        owner, _, near = one_by_one(image.bboxes)
        want = torch.where(near > 0, -1, owner).masked_fill(~valid[b], -1)  # beside a level even a centre is ignored
        assert torch.equal(batch.gt_inds[b], want)
        anchors = InstanceData(priors=torch.cat(levels), valid_flags=valid[b])
        single = assigner.assign(
            anchors, image, dict(img_shape=(96, 128)), num_level_anchors=AREAS, allowed_border=-1, **RULE
        )
        assert torch.equal(single.gt_inds, want)
        assert torch.equal(single.labels >= 0, want > 0)


def test_anchors_that_reach_out_of_the_picture_are_ignored():
    anchors = InstanceData(priors=torch.cat(squares()), valid_flags=torch.ones(sum(AREAS), dtype=torch.bool))
    meta = dict(img_shape=(96, 128))
    result = RegionAssigner().assign(anchors, objects(3, 0), meta, SIZES, AREAS, 4, STRIDES, allowed_border=0)
    x1, y1, x2, y2 = anchors.priors.unbind(1)
    outside = (x1 < 0) | (y1 < 0) | (x2 >= 128) | (y2 >= 96)
    assert (result.gt_inds[outside] == -1).all() and (result.gt_inds[~outside] >= 0).any()
