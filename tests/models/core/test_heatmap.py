"""Maps of objects for a whole batch, against small tables."""

import torch
from mmengine.structures import InstanceData

from mmdet.models.core import PaddedGT, gaussian_heatmaps, gt, values_at_cells
from mmdet.models.utils import gen_gaussian_target


def test_heatmaps_of_a_batch_are_those_object_by_object(monkeypatch):
    labels = [torch.tensor([1, 0, 1, 1]), torch.zeros(0, dtype=torch.long), torch.tensor([0])]
    x, y, radius = torch.randint(0, 6, (3, 3, 4), generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(3, 2, 6, 7)
    for b, of_image in enumerate(labels):
        for g, label in enumerate(of_image):
            gen_gaussian_target(expected[b, label], (x[b, g], y[b, g]), radius[b, g])
    batch = PaddedGT.from_instances([InstanceData(bboxes=torch.zeros(len(v), 4), labels=v) for v in labels])
    found = gaussian_heatmaps(batch, x, y, radius, 2, (6, 7))
    assert torch.equal(found, expected) and not found[1].any()
    monkeypatch.setattr(gt, 'CPU_MATRIX_BUDGET', 1)  # one object at a time
    assert torch.equal(gaussian_heatmaps(batch, x, y, radius, 2, (6, 7)), expected)


def test_the_last_object_of_a_cell_leaves_its_values():
    values = torch.tensor([[[1.0, 5], [2, 6], [3, 7]], [[4, 8], [9, 9], [9, 9]]])  # (B, G, D)
    cell = torch.tensor([[4, 0, 4], [1, 1, 1]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    found = values_at_cells(values, cell, mask, (2, 3))
    assert found[0].tolist() == [[[2, 0, 0], [0, 3, 0]], [[6, 0, 0], [0, 7, 0]]]
    assert found[1].tolist() == [[[0, 4, 0], [0, 0, 0]], [[0, 8, 0], [0, 0, 0]]]
    mask[0, 2] = False
    assert values_at_cells(values, cell, mask, (2, 3))[0, 0].tolist() == [[2, 0, 0], [0, 1, 0]]
