"""What BoxInst learns from: boxes as masks, and pairs of pixels of like colour."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.core import rgb_to_lab
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

# sRGB, and L*, a*, b* under D65 as scikit-image gives them
COLOURS = [
    ((255, 0, 0), (53.2406, 80.0923, 67.2028)),
    ((0, 255, 0), (87.7351, -86.1829, 83.1797)),
    ((0, 0, 255), (32.2957, 79.1856, -107.8573)),
    ((255, 255, 255), (100.0, -0.0025, 0.0047)),
    ((0, 0, 0), (0.0, 0.0, 0.0)),
    ((128, 128, 128), (53.5850, -0.0015, 0.0028)),
    ((10, 20, 30), (5.9485, -0.6693, -8.1364)),
    ((200, 100, 50), (53.6300, 36.3050, 45.3800)),
]


@pytest.mark.parametrize(('colour', 'expected'), COLOURS)
def test_colours(colour, expected):
    pixel = torch.tensor(colour).view(1, 3, 1, 1) / 255
    torch.testing.assert_close(rgb_to_lab(pixel).flatten(), torch.tensor(expected).double(), rtol=0, atol=1e-3)


def batch(*sizes):
    samples = []
    for height, width in sizes:
        sample = DetDataSample(metainfo=dict(img_shape=(height, width)))
        boxes = torch.tensor([[4.2, 8.0, 20.0, 24.5], [0.0, 0.0, float(width), float(height)]])
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 1]))
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return [torch.full((3, *size), 90, dtype=torch.uint8) for size in sizes], samples


@pytest.fixture
def preprocessor(default_scope):
    return MODELS.build(
        dict(
            type='BoxInstDataPreprocessor',
            mean=[100.0] * 3,
            std=[50.0] * 3,
            bgr_to_rgb=True,
            pad_size_divisor=32,
            bottom_pixels_removed=16,
        )
    )


def test_masks_fill_their_boxes(preprocessor):
    images, samples = batch((40, 64), (64, 48))
    found = preprocessor(dict(inputs=images, data_samples=samples), training=True)['data_samples']
    for sample, (height, width) in zip(found, ((40, 64), (64, 48))):
        expected = torch.zeros(2, 64, 64)
        expected[0, 8:25, 4:21] = 1
        expected[1, : height + 1, : width + 1] = 1
        assert torch.equal(sample.gt_instances.masks.to_tensor(torch.float32, 'cpu'), expected)


def test_pairs_of_like_colour(preprocessor):
    images, samples = batch((40, 64), (64, 48))
    images[0][:, :, 32:] = 200  # to the right of the middle
    pairs = [
        sample.gt_instances.pairwise_masks
        for sample in preprocessor(dict(inputs=images, data_samples=samples), training=True)['data_samples']
    ]
    assert [value.shape for value in pairs] == [(2, 8, 16, 16)] * 2
    assert all(torch.equal(first, second) for first, second in pairs)  # of both boxes
    left, right = pairs[0][0, 3], pairs[0][0, 4]  # neighbours two cells to the left and to the right
    assert left[4, 2:8].all() and not left[4, 8:10].any() and left[4, 10:].all()
    assert right[4, :6].all() and not right[4, 6:8].any() and right[4, 8:14].all()
    assert not pairs[1][0, :, :, 14:].any()  # padding alone
    beside, above = pairs[1][0, 3, :, 4], pairs[1][0, 1, :, 4]  # of 16 rows the last four are not looked at
    assert beside[:12].all() and not beside[12:].any()
    assert not above[:2].any() and above[2:14].all() and not above[14:].any()


def test_nothing_is_added_in_testing(preprocessor):
    images, samples = batch((40, 64))
    found = preprocessor(dict(inputs=images, data_samples=samples))['data_samples'][0]
    assert 'masks' not in found.gt_instances


def test_no_boxes(preprocessor):
    images, samples = batch((40, 64))
    samples[0].gt_instances = samples[0].gt_instances[:0]
    gt = preprocessor(dict(inputs=images, data_samples=samples), training=True)['data_samples'][0].gt_instances
    assert len(gt.masks) == 0 and gt.pairwise_masks.shape == (0, 8, 16, 16)
