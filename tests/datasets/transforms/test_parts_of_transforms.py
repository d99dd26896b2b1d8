"""The parts of a transform, under the names of 3.x, are what the transform calls."""

import numpy as np
import pytest

from mmdet.datasets import transforms
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

GEOMETRIC = '_transform_img _transform_masks _transform_seg _transform_bboxes _record_homography_matrix'
RESIZE = '_resize_img _resize_masks _resize_seg _resize_bboxes _record_homography_matrix'
PARTS = [
    ('Brightness', dict(), '_transform_img'),
    ('Equalize', dict(), '_transform_img'),
    ('Rotate', dict(), GEOMETRIC),
    ('TranslateX', dict(), GEOMETRIC),
    ('RandomErasing', dict(n_patches=1, ratio=0.2), '_transform_img _transform_masks _transform_seg _transform_bboxes'),
    ('Resize', dict(scale=(40, 30)), RESIZE),
    ('RandomFlip', dict(prob=1.0), '_record_homography_matrix'),
]


@pytest.mark.parametrize('name, options, parts', PARTS)
def test_parts_are_called(name, options, parts):
    called = []

    def watched(part):
        def method(self, *args):
            called.append(part)
            return getattr(super(cls, self), part)(*args)

        return method

    cls = type(name, (getattr(transforms, name),), {part: watched(part) for part in parts.split()})
    results = dict(
        img=np.zeros((20, 30, 3), dtype=np.uint8),
        img_shape=(20, 30),
        gt_bboxes=HorizontalBoxes([[2.0, 3, 20, 15]]),
        gt_masks=BitmapMasks(np.ones((1, 20, 30), dtype=np.uint8), 20, 30),
        gt_seg_map=np.zeros((20, 30), dtype=np.uint8),
    )
    cls(**options)(results)
    assert sorted(called) == sorted(parts.split())


def test_mosaic_combine():
    mosaic = transforms.Mosaic(img_scale=(100, 50))
    assert mosaic._mosaic_combine('top_left', (60, 40), (80, 30)) == ((0, 10, 60, 40), (20, 0, 80, 30))
    assert mosaic._mosaic_combine('bottom_right', (150, 80), (80, 30)) == ((150, 80, 200, 100), (0, 0, 50, 20))


def test_matrices_of_random_affine():
    affine = transforms.RandomAffine()
    matrix = (
        affine._get_translation_matrix(3, 4)
        @ affine._get_shear_matrix(0, 45)
        @ affine._get_rotation_matrix(90)
        @ affine._get_scaling_matrix(2)
    )
    np.testing.assert_allclose(matrix @ [1, 0, 1], [3, 6, 1], atol=1e-12)


def test_mapper_of_albu():
    assert transforms.Albu.mapper(dict(img=1, other=2), dict(img='image')) == dict(image=1, other=2)
