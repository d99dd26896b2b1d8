"""Albu: what moves the picture must move the boxes. A small stand-in takes the place of albumentations."""

import sys
from types import ModuleType

import numpy as np
import pytest

from mmdet.checks import check_config
from mmdet.config import load_config
from mmdet.errors import UserValueError
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

PARAMETERS = dict(type='BboxParams', format='pascal_voc', label_fields=['gt_bboxes_labels'], min_visibility=0.0)
FLIP = dict(type='HorizontalFlip', p=1.0)
BLUR = dict(type='OneOf', transforms=[dict(type='Blur', blur_limit=3, p=1.0)], p=1.0)


@pytest.fixture
def stand_in(monkeypatch):
    """A package that flips pictures, and boxes where it is told their format."""
    package = ModuleType('albumentations')

    class DualTransform:
        def __init__(self, p=0.5):
            pass

    class HorizontalFlip(DualTransform):
        def __call__(self, image, bboxes=()):
            width = image.shape[1]
            return image[:, ::-1], [[width - x2, y1, width - x1, y2] for x1, y1, x2, y2 in bboxes]

    class SpinAround(HorizontalFlip):
        pass

    class Blur:
        def __init__(self, blur_limit=7, p=0.5):
            pass

        def __call__(self, image, bboxes=()):
            return image, bboxes

    class OneOf:
        def __init__(self, transforms, p=0.5):
            self.first = transforms[0]

        def __call__(self, image, bboxes=()):
            return self.first(image, bboxes)

    class BboxParams:
        def __init__(self, format, label_fields=None, min_visibility=0.0):
            self.format = format

    class Compose:
        def __init__(self, transforms, bbox_params=None):
            self.transforms, self.bbox_params = transforms, bbox_params

        def __call__(self, image, bboxes=(), **rest):
            for transform in self.transforms:
                image, bboxes = transform(image, bboxes)
            return dict(image=image, bboxes=bboxes, **rest)

    for cls in (DualTransform, HorizontalFlip, SpinAround, Blur, OneOf, BboxParams, Compose):
        setattr(package, cls.__name__, cls)
    package.__version__ = '0'
    monkeypatch.setitem(sys.modules, 'albumentations', package)


def sample(**more):
    boxes = np.array([[1, 2, 4, 6]], dtype=np.float32)
    return dict(
        img=np.zeros((8, 10, 3), np.uint8),
        gt_bboxes=HorizontalBoxes(boxes),
        gt_bboxes_labels=np.array([3]),
        gt_ignore_flags=np.array([False]),
        **more,
    )


def test_boxes_move_with_the_picture(stand_in):
    out = TRANSFORMS.build(dict(type='Albu', transforms=[FLIP], bbox_params=PARAMETERS))(sample())
    assert out['gt_bboxes'].tensor.tolist() == [[6, 2, 9, 6]] and out['gt_bboxes_labels'].tolist() == [3]


@pytest.mark.parametrize('kind', ['HorizontalFlip', 'SpinAround'])
def test_a_flip_without_bbox_params_is_refused(stand_in, kind):
    inside = dict(type='OneOf', transforms=[dict(type=kind, p=1.0)], p=1.0)
    for transforms in ([dict(type=kind)], [inside]):
        transform = TRANSFORMS.build(dict(type='Albu', transforms=transforms))
        with pytest.raises(UserValueError, match=f'{kind} would move the picture and not the boxes. Set bbox_params='):
            transform(sample())


def test_what_stays_in_its_place_needs_no_bbox_params(stand_in):
    out = TRANSFORMS.build(dict(type='Albu', transforms=[BLUR]))(sample())
    assert out['gt_bboxes'].tensor.tolist() == [[1, 2, 4, 6]]


def test_a_segmentation_map_would_stay(stand_in):
    transform = TRANSFORMS.build(dict(type='Albu', transforms=[FLIP], bbox_params=PARAMETERS))
    with pytest.raises(UserValueError, match='HorizontalFlip would move the picture and not gt_seg_map'):
        transform(sample(gt_seg_map=np.zeros((8, 10), np.uint8)))


def findings(tmp_path, albu, loads='with_bbox=True'):
    path = tmp_path / 'config.py'
    path.write_text(
        "train_dataloader = dict(batch_size=1, dataset=dict(type='CocoDataset', pipeline=["
        f"dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', {loads}), {albu!r}, "
        "dict(type='PackDetInputs')]))\n"
    )
    where = 'train_dataloader.dataset.pipeline[2].'
    return [str(finding).replace(where, '') for finding in check_config(load_config(path)) if finding.level == 'error']


def test_sound_configs(tmp_path, stand_in):
    assert findings(tmp_path, dict(type='Albu', transforms=[FLIP, BLUR], bbox_params=PARAMETERS)) == []
    assert findings(tmp_path, dict(type='Albu', transforms=[BLUR])) == []
    assert findings(tmp_path, dict(type='Albu', transforms=[FLIP]), 'with_bbox=False, with_seg=True') == []


def test_check_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'albumentations', None)
    (found,) = findings(tmp_path, dict(type='Albu', transforms=[BLUR, FLIP]))
    assert found.startswith('error: bbox_params: HorizontalFlip would move the picture and not the boxes.')
    (found,) = findings(tmp_path, dict(type='Albu', transforms=[FLIP], bbox_params=dict(PARAMETERS, min_visability=1)))
    assert found == (
        "error: bbox_params.min_visability: BboxParams has no argument 'min_visability'. Did you mean min_visibility?"
    )


@pytest.mark.parametrize(
    ('transform', 'message'),
    [
        (
            dict(type='HorizontalFlop'),
            "error: transforms[0].type: albumentations 0 has no 'HorizontalFlop'. Did",
        ),
        (
            dict(type='OneOf', transforms=[dict(type='Blur', blur_limits=3)]),
            "error: transforms[0].transforms[0].blur_limits: Blur has no argument 'blur_limits'. Did you mean blur",
        ),
    ],
)
def test_names_of_the_package(tmp_path, stand_in, transform, message):
    (found,) = findings(tmp_path, dict(type='Albu', transforms=[transform], bbox_params=PARAMETERS))
    assert found.startswith(message)
