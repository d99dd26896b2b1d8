"""Targets of mask heads, and masks pasted into images."""

import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from mmdet.models.core.masks import crop_masks, paste_masks, sampling_axis
from mmdet.structures.mask import BitmapMasks


def test_paste_covers_the_box():
    masks = torch.ones(2, 4, 4)
    boxes = torch.tensor([[2.0, 1.0, 6.0, 5.0], [-3.0, -3.0, 4.0, 2.0]])
    pasted = paste_masks(masks, boxes, (8, 10), 0.5)
    assert pasted.dtype == torch.bool
    want = np.zeros((2, 8, 10), bool)
    want[0, 1:5, 2:6] = True
    want[1, 0:2, 0:4] = True
    assert np.array_equal(pasted.numpy(), want)


def test_paste_keeps_probabilities_at_a_negative_threshold():
    pasted = paste_masks(torch.full((1, 2, 2), 0.5), torch.tensor([[0.0, 0, 4, 4]]), (4, 4), -1)
    assert pasted.dtype == torch.uint8 and pasted[0, 1, 1] == 127


def test_paste_of_nothing_and_of_empty_boxes():
    assert paste_masks(torch.zeros(0, 4, 4), torch.zeros(0, 4), (5, 6), 0.5).shape == (0, 5, 6)
    assert not paste_masks(torch.ones(1, 4, 4), torch.tensor([[3.0, 3, 3, 3]]), (8, 8), 0.5).any()


def test_sampling_axis():
    axis = sampling_axis(torch.tensor([2.0]), torch.tensor([6.0]), 0, 8)
    assert axis[0].tolist() == pytest.approx([-1.75, -1.25, -0.75, -0.25, 0.25, 0.75, 1.25, 1.75])


def test_windows_of_the_cpu_equal_whole_images():
    """What other devices do in parts of a budget, and the CPU in windows, pixel by pixel."""
    from mmdet.models.core import masks as module

    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(6, 28, 28, generator=generator)
    corner = torch.rand(6, 2, generator=generator) * 60 - 10
    boxes = torch.cat([corner, corner + torch.rand(6, 2, generator=generator) * 50], 1)
    by_window = paste_masks(masks, boxes, (64, 80), 0.5)
    for part in (1, 4, 6):
        whole = [
            module._sample(masks[i : i + part], boxes[i : i + part], (0, 64), (0, 80)) >= 0.5 for i in range(0, 6, part)
        ]
        assert torch.equal(by_window, torch.cat(whole))


def test_targets_are_cut_out_of_the_right_mask():
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[0, :4], masks[1, :, :4] = 1, 1
    boxes = torch.tensor([[[0.0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 8, 8]]])
    targets = crop_masks(
        boxes, torch.tensor([[1, 0, 0]]), torch.tensor([[True, True, False]]), [BitmapMasks(masks, 8, 8)],
        dict(mask_size=2),
    )  # fmt: skip
    assert targets[0].tolist() == [[[1, 0], [1, 0]], [[1, 1], [0, 0]], [[0, 0], [0, 0]]]


PASTE = """
import resource, torch
from mmdet.models.core.masks import paste_masks
masks = torch.rand(100, 28, 28)
corner = torch.rand(100, 2) * torch.tensor([900., 500.])
boxes = torch.cat([corner, corner + torch.rand(100, 2) * 300 + 50], 1)
paste_masks(masks[:1], boxes[:1], (80, 133), 0.5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
out = paste_masks(masks, boxes, (800, 1333), 0.5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not hasattr(resource, 'getrusage'), reason='needs getrusage')
def test_pasting_100_masks_needs_little_memory():
    done = subprocess.run([sys.executable, '-c', PASTE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 600 * 1024  # KiB
