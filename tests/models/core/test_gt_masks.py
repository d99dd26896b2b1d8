"""Masks read out of windows, and the cells of objects, against the rules written object by object."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet.models.core import GTMasks, ObjectCells, gt_masks
from mmdet.structures.mask import BitmapMasks, PolygonMasks

SHAPE = (32, 48)


def bitmaps(*counts, seed=0):
    """Masks of noise in rectangles of all sizes; the first of an image is empty."""
    rng, images = np.random.RandomState(seed), []
    for count in counts:
        masks = np.zeros((count, *SHAPE), np.uint8)
        for mask in masks[1:]:
            y1, x1 = rng.randint(0, 30), rng.randint(0, 46)
            part = mask[y1 : y1 + rng.randint(1, 33), x1 : x1 + rng.randint(1, 49)]
            part[:] = rng.rand(*part.shape) > 0.3
        images.append(BitmapMasks(masks, *SHAPE))
    return images


def dense(images):
    return torch.from_numpy(np.concatenate([image.to_ndarray() for image in images])).float()


def read(images):
    return GTMasks.of(images, torch.device('cpu'))


@pytest.mark.parametrize('budget', [gt_masks.SAMPLE_BUDGET, 1])
def test_pixels_and_resized_masks(budget, monkeypatch):
    monkeypatch.setattr(gt_masks, 'SAMPLE_BUDGET', budget)
    images = bitmaps(4, 0, 7)
    masks, whole = read(images), dense(images)
    assert torch.equal(masks.strided(4, (8, 12)).float(), whole[:, 2::4, 2::4])
    rows, columns = torch.tensor([0, 31, 32, 5]), torch.tensor([47, 48, -1, 0])
    inside = F.pad(whole, (1, 1, 0, 1))[:, rows][:, :, columns + 1]
    assert torch.equal(masks.at(rows, columns).float(), inside)
    for size in ((8, 12), (16, 24), (11, 17), (40, 60)):
        expected = F.interpolate(whole[None], size=size, mode='bilinear', align_corners=False)[0]
        torch.testing.assert_close(masks.resized(size, SHAPE), expected, rtol=1e-4, atol=1e-5)


def test_halves_of_small_masks_are_rounded_as_pictures_are():
    cv2 = pytest.importorskip('cv2')
    images = bitmaps(12, seed=3)
    small = [cv2.resize(mask, (12, 8), interpolation=cv2.INTER_LINEAR) for mask in images[0].masks]
    assert np.array_equal((read(images).resized((8, 12), SHAPE) >= 0.5).numpy(), np.array(small))


def test_centers_of_mass_are_those_of_the_pixels():
    images = bitmaps(5, 0, 9)
    shared = images[2].packed()
    images[2] = shared[[3, 3, 0, 8, 1]]  # windows of one buffer, twice and in another order
    whole = dense(images).double()
    area, center = read(images).centers()
    assert torch.equal(area, whole.sum((1, 2)).long())
    y, x = torch.meshgrid(*(torch.arange(side) for side in SHAPE), indexing='ij')
    mass = area.clamp(min=1)
    expected = torch.stack([(whole * x).sum((1, 2)) / mass, (whole * y).sum((1, 2)) / mass], 1)
    torch.testing.assert_close(center, expected.float())


def test_other_kinds_of_masks():
    (first,) = bitmaps(4)
    tensor, other = torch.from_numpy(first.masks), BitmapMasks(first.masks * 200, *SHAPE)
    polygons = PolygonMasks([[np.array([2.0, 3, 30, 3, 30, 20, 2, 20])]], *SHAPE)
    masks = read([tensor, other, polygons, first.packed()])
    expected = dense([first, first, polygons, first])
    assert torch.equal(masks.strided(2, (16, 24)).float(), expected[:, 1::2, 1::2])
    rows = masks.rows(torch.tensor([[3, 0], [1, 2], [0, 0], [3, 1]]))
    assert rows.tolist() == [[3, 0], [5, 6], [8, 8], [12, 10]]


def test_no_masks_at_all():
    masks = read(bitmaps(0, 0))
    assert masks.strided(4, (8, 12)).sum() == 0 and len(masks.table) == 1
    assert masks.rows(torch.zeros(2, 3, dtype=torch.long)).tolist() == [[0] * 3] * 2
    assert masks.centers()[0].tolist() == [0]


def test_nothing_is_looked_at():
    images = [image.packed() for image in bitmaps(4, 0, 7)]
    with FakeTensorMode(allow_non_fake_inputs=True):
        masks = read(images)
        assert masks.resized((8, 12), SHAPE).shape == (11, 8, 12)
        assert masks.centers()[1].shape == (11, 2)


GRIDS, RANGES = [8, 6, 4], ((1, 16), (8, 24), (16, 1000))


def one_by_one(boxes, centers, valid):
    """For each grid a list of rows, columns and numbers of objects, and the owner of each cell."""
    pairs, owners = [], []
    for count, (low, high) in zip(GRIDS, RANGES):
        owner, found = torch.zeros(count, count, dtype=torch.long), []
        for number, (box, center, ok) in enumerate(zip(boxes.tolist(), centers.tolist(), valid.tolist()), 1):
            (x1, y1, x2, y2), (cx, cy) = box, center
            if not ok or not low <= math.sqrt((x2 - x1) * (y2 - y1)) <= high:
                continue
            spans = []
            for middle, side, extent in ((cy, y2 - y1, SHAPE[0]), (cx, x2 - x1, SHAPE[1])):
                cell = lambda place, extent=extent, count=count: math.floor(place / extent * count)
                first = max(0, cell(middle - side * 0.1), cell(middle) - 1)
                spans.append(range(first, min(count - 1, cell(middle + side * 0.1), cell(middle) + 1) + 1))
            for row in spans[0]:
                for column in spans[1]:
                    owner[row, column] = number
                    found.append((row * count + column, number))
        owners.append(owner.flatten())
        pairs.append(found)
    return pairs, torch.cat(owners)


@pytest.mark.parametrize('seed', range(4))
def test_cells_of_objects(seed):
    generator = torch.Generator().manual_seed(seed)
    boxes, centers = [], []
    for _ in range(3):
        corner = torch.rand(9, 2, generator=generator) * torch.tensor([40.0, 26])
        size = torch.rand(9, 2, generator=generator) * torch.tensor([46.0, 30]) + 2
        boxes.append(torch.cat([corner, corner + size], 1))
        centers.append(torch.minimum(corner + size * 0.45, torch.tensor([47.5, 31.5])))
    boxes, centers = torch.stack(boxes), torch.stack(centers)
    valid = torch.rand(3, 9, generator=generator) > 0.2
    found = ObjectCells.around(boxes, centers, valid, SHAPE, RANGES, GRIDS, 0.2)
    assert found.used.any(-1).sum(2).max() <= found.num_fitting == 3
    assert found.used.flatten(1).sum(1).max() <= found.most_pairs
    for b in range(3):
        pairs, owners = one_by_one(boxes[b], centers[b], valid[b])
        assert torch.equal(found.owners()[b], owners)
        for level, start in enumerate((0, 64, 100)):
            used = found.used[b, :, level]
            numbers = torch.arange(1, 10)[:, None].expand_as(used)[used]
            cells = found.cells[b, :, level][used] - start
            assert sorted(zip(cells.tolist(), numbers.tolist())) == sorted(pairs[level])
