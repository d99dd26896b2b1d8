"""What every transform keeps: sizes agree, the fields of the instances stay aligned, seeds decide everything."""

import random

import numpy as np
import pytest

from mmdet.datasets.transforms.formatting import PackDetInputs
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

COLORS = (
    'AutoContrast Equalize Invert Posterize Solarize SolarizeAdd Color Contrast Brightness Sharpness ColorTransform'
)
AFFINE = 'Rotate ShearX ShearY TranslateX TranslateY GeomTransform'
PLAIN = [
    dict(type='Resize', scale=(100, 50), keep_ratio=True),
    dict(type='Resize', scale=(100, 50)),
    dict(type='Resize', scale_factor=0.5),
    dict(type='FixScaleResize', scale=(99, 51), keep_ratio=True),
    dict(type='FixShapeResize', width=100, height=50, keep_ratio=True),
    dict(type='ResizeShortestEdge', scale=40, max_size=50),
    dict(type='RandomResize', scale=[(100, 50), (200, 100)], keep_ratio=True),
    dict(type='RandomResize', scale=(100, 50), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomChoiceResize', scales=[(100, 50), (200, 100)], keep_ratio=True),
    dict(type='RandomChoiceResize', scales=[64, 96]),
    dict(type='RandomFlip', prob=1.0),
    dict(type='RandomFlip', prob=[0.3, 0.3, 0.3], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='Pad', size=(100, 90)),
    dict(type='Pad', size_divisor=32, pad_val=dict(img=(114, 114, 114))),
    dict(type='Pad', pad_to_square=True),
    dict(type='RandomCrop', crop_size=(50, 40)),
    dict(type='RandomCrop', crop_size=(30, 50), crop_type='absolute_range', allow_negative_crop=True),
    dict(type='RandomCrop', crop_size=(0.5, 0.5), crop_type='relative_range'),
    dict(type='Expand', prob=1.0),
    dict(type='MinIoURandomCrop'),
    dict(type='PhotoMetricDistortion'),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandAugment'),
    dict(type='AutoAugment'),
    dict(type='RandomErasing', n_patches=(1, 5), ratio=(0, 0.2)),
    dict(type='CutOut', n_holes=3, cutout_ratio=(0.1, 0.1)),
    dict(type='RandomOrder', transforms=[dict(type='RandomFlip', prob=0.5), dict(type='Color')]),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(26, 1)),
    *[dict(type=name) for name in (COLORS + ' ' + AFFINE).split()],
]
MIXING = [
    dict(type='Mosaic', img_scale=(64, 48)),
    dict(type='MixUp', img_scale=(64, 48)),
    dict(type='CopyPaste'),
    dict(type='CachedMosaic', img_scale=(64, 48)),
    dict(type='CachedMixUp', img_scale=(64, 48)),
    dict(type='CachedCopyBlend'),
]
BOXES_ONLY = [
    dict(type='RandomAffine'),
    dict(type='RandomShift', prob=1.0),
    dict(type='RandomCenterCropPad', crop_size=(64, 64), mean=[1, 2, 3], std=[1, 1, 1], to_rgb=True),
]
CASES = [(cfg, masks) for cfg in PLAIN for masks in (None, 'bitmap', 'polygon')]
CASES += [(cfg, masks) for cfg in MIXING for masks in ('bitmap', 'polygon')] + [(cfg, None) for cfg in BOXES_ONLY]
BOXES = [[5, 5, 30, 25], [20, 10, 60, 50], [40, 30, 70, 55]]


def name_of(value):
    return value['type'] if isinstance(value, dict) else str(value)


def run(cfg, make, seed, boxes):
    random.seed(seed)
    np.random.seed(seed)
    transform = TRANSFORMS.build(cfg)
    results = None
    for _ in range(6 if cfg['type'].startswith('Cached') else 1):
        results = make(boxes)
        if cfg['type'] == 'RandomCenterCropPad':
            results['img'] = results['img'].astype(np.float32)
        if hasattr(transform, 'get_indexes') and not cfg['type'].startswith('Cached'):
            results['mix_results'] = [make(BOXES) for _ in range(3 if cfg['type'] == 'Mosaic' else 1)]
        results = transform(results)
    return results


@pytest.mark.parametrize('cfg, masks', CASES, ids=name_of)
@pytest.mark.parametrize('count', [0, 1, 3])
def test_fields_stay_aligned(cfg, masks, count, sample, default_scope):
    def make(boxes):
        return sample(boxes, masks=masks, keypoints=True)

    for seed in range(3):
        results = run(cfg, make, seed, BOXES[:count])
        if results is None:
            continue
        shape = results['img'].shape[:2]
        assert shape == tuple(results['img_shape'])
        assert isinstance(results['gt_bboxes'], HorizontalBoxes)
        number = len(results['gt_bboxes'])
        for key in ('gt_bboxes_labels', 'gt_ignore_flags', 'gt_keypoints', 'gt_masks')[: 4 if masks else 3]:
            assert len(results[key]) == number
        if masks:
            assert (results['gt_masks'].height, results['gt_masks'].width) == shape
        again = run(cfg, make, seed, BOXES[:count])
        assert np.array_equal(results['img'], again['img'])
        assert np.array_equal(results['gt_bboxes'].numpy(), again['gt_bboxes'].numpy())
        assert PackDetInputs()(results)['inputs'].shape[1:] == shape


@pytest.mark.parametrize('cfg', [*PLAIN, *MIXING, *BOXES_ONLY, dict(type='Resize', scale_factor=0.1)], ids=name_of)
@pytest.mark.parametrize(('height', 'width'), [(2, 500), (500, 1)])
def test_no_side_vanishes(cfg, height, width, sample, default_scope):
    def make(boxes):
        masks = None if cfg in BOXES_ONLY else 'bitmap'
        return sample([[0, 0, width, height]], masks=masks, height=height, width=width)

    results = run(cfg, make, 0, BOXES)
    if results is not None:
        assert min(results['img'].shape) > 0
        assert np.isfinite(results['gt_bboxes'].numpy()).all()
        assert PackDetInputs()(results)['inputs'].shape[1:] == results['img_shape']


@pytest.mark.parametrize('cfg', [*PLAIN, *MIXING, *BOXES_ONLY], ids=name_of)
def test_it_prints(cfg, default_scope):
    assert cfg['type'].split('Random')[-1] in repr(TRANSFORMS.build(cfg))


BENDING = ('Rotate', 'ShearX', 'ShearY', 'RandAugment', 'AutoAugment', 'RandomErasing', 'CutOut')


@pytest.mark.parametrize('cfg', [cfg for cfg in PLAIN if cfg['type'] not in BENDING], ids=name_of)
def test_masks_follow_boxes(cfg, sample, default_scope):
    """A bitmap that fills its box still does, to two pixels, where the transform does not bend the box."""
    for seed in range(3):
        results = run(cfg, lambda boxes: sample(boxes, masks='bitmap'), seed, BOXES)
        if results is not None and len(results['gt_bboxes']):
            tight = results['gt_masks'].get_bboxes(HorizontalBoxes).numpy()
            assert np.abs(tight - results['gt_bboxes'].numpy()).max() <= 2


@pytest.mark.parametrize(
    'cfg, error',
    [
        (
            dict(type='Resize', scale=(9, 9), interpolations='x'),
            r"no argument 'interpolations'.*Did you mean interpolation",
        ),
        (dict(type='RandomCrop', crop_size=(9, 9), crop_type='absolut'), "not 'absolut'"),
        (dict(type='RandomCrop', crop_size=(2, 2), crop_type='relative'), 'must lie in'),
        (dict(type='Mosaic', img_scale=640), r'must be \(width, height\)'),
        (dict(type='CutOut', n_holes=1), 'one of cutout_shape and cutout_ratio'),
        (dict(type='CutOut', n_holes=1, cutout_shape=8), 'two sides'),
        (dict(type='CutOut', n_holes=1, cutout_ratio=0.2), 'two sides'),
        (dict(type='CutOut', n_holes=1, cutout_shape=[(8, 8), 8]), 'two sides'),
        (dict(type='RandomErasing', n_patches=(5, 1), ratio=0.1), 'n_patches'),
        (dict(type='RandomErasing', n_patches=1, ratio='0.1'), 'ratio'),
        (dict(type='RandomCenterCropPad', crop_size=(9, 9)), 'needs mean, std and to_rgb'),
        (
            dict(type='RandomCenterCropPad', crop_size=(9, 9), ratios=None, mean=[1], std=[1], to_rgb=True),
            r'needs ratios \(None\)',
        ),
        (
            dict(
                type='RandomCenterCropPad',
                ratios=None,
                border=None,
                mean=(1, 1, 1),
                std=(1, 1, 1),
                to_rgb=True,
                test_mode=True,
                test_pad_mode=None,
            ),
            'test_pad_mode',
        ),
        (dict(type='Color', level=11), 'level must be from 0 to 10'),
        (dict(type='Brightness', min_mag=1.5, max_mag=0.5), 'above'),
        (dict(type='ShearX', min_mag=20.0, max_mag=10.0), 'above'),
        (dict(type='Rotate', interpolation='cubic'), 'bicubic'),
        (dict(type='FilterAnnotations', by_box=False), 'by_box or by_mask'),
    ],
    ids=name_of,
)
def test_wrong_arguments(cfg, error):
    with pytest.raises((ValueError, TypeError), match=error) as caught:
        TRANSFORMS.build(cfg)
    assert isinstance(caught.value, AssertionError) or 'no argument' in error


@pytest.mark.parametrize('name, library', [('Albu', 'albumentations'), ('Corrupt', 'imagecorruptions')])
def test_optional_libraries(name, library, sample):
    try:
        __import__(library)
    except ImportError:
        with pytest.raises(ImportError, match=f'pip install {library}'):
            TRANSFORMS.build(dict(type=name, **(dict(transforms=[]) if name == 'Albu' else dict(corruption='fog'))))(
                sample()
            )
    else:
        pytest.skip(f'{library} is installed')


def test_albu(sample):
    pytest.importorskip('albumentations', reason='albumentations is not installed')
    flip = [dict(type='HorizontalFlip', p=1.0), dict(type='Crop', x_min=0, y_min=0, x_max=40, y_max=60, p=1.0)]
    params = dict(type='BboxParams', format='pascal_voc', label_fields=['gt_ignore_flags'], min_visibility=0.6)
    transform = TRANSFORMS.build(dict(type='Albu', transforms=flip, bbox_params=params, skip_img_without_anno=True))
    results = transform(sample(masks='bitmap'))
    assert results['img'].shape == (60, 40, 3)
    assert results['gt_bboxes_labels'].tolist() == [2]  # the others are cut by more than 40 %
    assert results['gt_bboxes'].numpy().tolist() == [[10, 30, 40, 55]]
    assert np.array_equal(results['gt_masks'].get_bboxes(HorizontalBoxes).numpy(), results['gt_bboxes'].numpy())
    assert transform(sample([])) is None
    noise = dict(type='Albu', transforms=[dict(type='RandomBrightnessContrast', p=1.0)])
    images = []
    for seed in (0, 0, 1):
        np.random.seed(seed)
        images.append(TRANSFORMS.build(noise)(sample())['img'])
    assert np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])
    with pytest.raises(ValueError, match="has no 'HorizontalFlop'; nearest: HorizontalFlip"):
        TRANSFORMS.build(dict(type='Albu', transforms=[dict(type='HorizontalFlop')]))
