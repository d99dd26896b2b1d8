"""Where boxes, masks, keypoints and pixels go: literal tables."""

import random

import numpy as np
import pytest

from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes, bbox_project


def fixed(cfg, **methods):
    """The transform with its random choices replaced."""
    transform = TRANSFORMS.build(cfg)
    for name, value in methods.items():
        setattr(transform, name, lambda *args, value=value: value)
    return transform


@pytest.mark.parametrize(
    'cfg, shape, boxes, factor',
    [
        (dict(type='Resize', scale=(160, 90)), (90, 160), [[10, 7.5, 60, 37.5]], (2, 1.5)),
        (dict(type='Resize', scale=(160, 90), keep_ratio=True), (90, 120), [[7.5, 7.5, 45, 37.5]], (1.5, 1.5)),
        (dict(type='Resize', scale=(90, 160), keep_ratio=True), (90, 120), [[7.5, 7.5, 45, 37.5]], (1.5, 1.5)),
        (dict(type='Resize', scale=40), (40, 40), [[2.5, 10 / 3, 15, 50 / 3]], (0.5, 2 / 3)),
        (dict(type='Resize', scale_factor=0.5), (30, 40), [[2.5, 2.5, 15, 12.5]], (0.5, 0.5)),
        (dict(type='Resize', scale=(50, 50), keep_ratio=True), (38, 50), None, (50 / 80, 38 / 60)),  # 37.5 up
        (dict(type='FixScaleResize', scale=(50, 50), keep_ratio=True), (37, 50), None, (50 / 80, 37 / 60)),  # and down
        (dict(type='FixShapeResize', width=50, height=50, keep_ratio=True), (50, 50), None, (50 / 80, 50 / 80)),
        (dict(type='ResizeShortestEdge', scale=30), (30, 40), [[2.5, 2.5, 15, 12.5]], (0.5, 0.5)),
        (dict(type='ResizeShortestEdge', scale=30, max_size=20), (15, 20), [[1.25, 1.25, 7.5, 6.25]], (0.25, 0.25)),
    ],
)
@pytest.mark.parametrize('masks', [None, 'bitmap', 'polygon'])
def test_resize(cfg, shape, boxes, factor, masks, sample):
    results = TRANSFORMS.build(cfg)(sample([[5, 5, 30, 25]], masks=masks))
    assert results['img'].shape == (*shape, 3)
    assert results['scale_factor'] == pytest.approx(factor)
    if boxes is not None:
        assert np.allclose(results['gt_bboxes'].numpy(), boxes)
        assert np.allclose(np.diag(results['homography_matrix']), [*factor, 1])
    if masks:
        assert (results['gt_masks'].height, results['gt_masks'].width) == shape


def test_resize_clips_boxes(sample):
    for clip, expected in ((True, [[0, 0, 40, 30]]), (False, [[-10, -10, 50, 40]])):
        transform = TRANSFORMS.build(dict(type='Resize', scale=(40, 30), clip_object_border=clip))
        assert transform(sample([[-20, -20, 100, 80]]))['gt_bboxes'].numpy().tolist() == expected


@pytest.mark.parametrize(
    'direction, box, first_keypoint, corner',
    [
        ('horizontal', [50, 5, 75, 25], [74, 7], (0, -1)),
        ('vertical', [5, 35, 30, 55], [5, 55], (-1, 0)),
        ('diagonal', [50, 35, 75, 55], [74, 53], (-1, -1)),
    ],
)
@pytest.mark.parametrize('masks', ['bitmap', 'polygon'])
def test_flip(direction, box, first_keypoint, corner, masks, sample):
    results = sample([[5, 5, 30, 25]], masks=masks, keypoints=True, gt_seg_map=np.arange(4800).reshape(60, 80))
    before = results['img'].copy()
    results = TRANSFORMS.build(dict(type='RandomFlip', prob=1.0, direction=direction))(results)
    assert (results['flip'], results['flip_direction']) == (True, direction)
    assert results['gt_bboxes'].numpy().tolist() == [box]
    assert results['gt_masks'].get_bboxes(HorizontalBoxes).numpy().tolist() == [box]
    assert results['gt_keypoints'][0, 0].tolist() == [*first_keypoint, 1]  # left and right change places in a mirror
    assert np.array_equal(results['img'][corner], before[0, 0])
    assert results['gt_seg_map'][corner] == 0
    assert np.allclose(
        results['homography_matrix'] @ [0, 0, 1], [0 if corner[1] == 0 else 80, 0 if corner[0] == 0 else 60, 1]
    )


def test_no_flip(sample):
    results = TRANSFORMS.build(dict(type='RandomFlip', prob=0.0))(sample())
    assert (results['flip'], results['flip_direction']) == (False, None)


@pytest.mark.parametrize(
    'cfg, shape, fill',
    [
        (dict(size=(100, 70)), (70, 100), 0),
        (dict(size_divisor=32, pad_val=dict(img=(7, 7, 7))), (64, 96), 7),
        (dict(pad_to_square=True, pad_val=9), (80, 80), 9),
        (dict(pad_to_square=True, size_divisor=64), (128, 128), 0),
    ],
)
def test_pad(cfg, shape, fill, sample):
    results = TRANSFORMS.build(dict(type='Pad', **cfg))(sample(masks='bitmap', gt_seg_map=np.zeros((60, 80), np.uint8)))
    assert results['img'].shape == (*shape, 3) and results['img_shape'] == shape
    assert (results['img'][60:] == fill).all()
    assert results['gt_masks'].masks.shape == (3, *shape) and not results['gt_masks'].masks[:, 60:].any()
    assert (results['gt_seg_map'][60:] == 255).all()


@pytest.mark.parametrize(
    'box, offset, expected',
    [
        ([5, 5, 30, 25], (0, 0), [5, 5, 30, 20]),
        ([5, 5, 30, 25], (10, 20), [0, 0, 10, 15]),
        ([60, 5, 79, 25], (0, 0), None),  # beyond the window
        ([0, 0, 80, 60], (10, 20), [0, 0, 40, 20]),
    ],
)
@pytest.mark.parametrize('masks', ['bitmap', 'polygon'])
def test_crop(box, offset, expected, masks, sample):
    for recompute in (False, True):
        cfg = dict(type='RandomCrop', crop_size=(40, 20), recompute_bbox=recompute)
        results = fixed(cfg, _rand_offset=offset)(sample([box], masks=masks))
        if expected is None:
            assert results is None
        else:
            assert results['img'].shape == (20, 40, 3)
            assert results['gt_bboxes'].numpy().tolist() == [expected]
            assert results['homography_matrix'][:2, 2].tolist() == [-offset[1], -offset[0]]


@pytest.mark.parametrize(
    'kind, size, expected',
    [
        ('absolute', (40, 20), {(20, 40)}),
        ('absolute', (400, 20), {(20, 80)}),
        ('relative', (0.5, 0.25), {(15, 40)}),
        ('absolute_range', (58, 59), {(58, 58), (58, 59), (59, 58), (59, 59)}),
    ],
)
def test_crop_sizes(kind, size, expected):
    transform = TRANSFORMS.build(dict(type='RandomCrop', crop_size=size, crop_type=kind))
    np.random.seed(0)
    assert {transform._get_crop_size((60, 80)) for _ in range(50)} == expected


def test_a_crop_without_boxes(sample):
    cfg = dict(type='RandomCrop', crop_size=(10, 10))
    assert fixed(cfg, _rand_offset=(50, 70))(sample([[0, 0, 9, 9]])) is None
    results = fixed(cfg | dict(allow_negative_crop=True), _rand_offset=(50, 70))(sample([[0, 0, 9, 9]], masks='bitmap'))
    assert len(results['gt_bboxes']) == 0 and len(results['gt_masks']) == 0


def test_expand(sample):
    cfg = dict(type='Expand', mean=(1, 2, 3), prob=1.0)
    transform = fixed(cfg, _random_ratio=2.0, _random_left_top=(10, 20))
    results = transform(sample([[5, 5, 30, 25]], masks='bitmap', keypoints=True))
    assert results['img'].shape == (120, 160, 3) and results['img'][0, 0].tolist() == [3, 2, 1]
    assert results['gt_bboxes'].numpy().tolist() == [[15, 25, 40, 45]]
    assert results['gt_masks'].get_bboxes(HorizontalBoxes).numpy().tolist() == [[15, 25, 40, 45]]
    assert results['gt_keypoints'][0, 0].tolist() == [15, 25, 1]


@pytest.mark.parametrize(
    'shift, box', [((10, 5), [15, 10, 40, 30]), ((-10, -5), [0, 0, 20, 20]), ((-40, 0), [5, 5, 30, 25])]
)
def test_shift(shift, box, sample):
    results = sample([[5, 5, 30, 25]])
    before = results['img']
    results = fixed(dict(type='RandomShift', prob=1.0), _random_shift=shift)(results)
    assert results['gt_bboxes'].numpy().tolist() == [box]
    if shift == (10, 5):
        assert np.array_equal(results['img'][5:, 10:], before[:-5, :-10])
    if shift == (-40, 0):  # it would lose the box: not made
        assert results['img'] is before


@pytest.mark.parametrize('mode', [1, 0, 0.5])
def test_min_iou_crop(mode, sample):
    np.random.seed(0)
    for _ in range(20):
        results = fixed(dict(type='MinIoURandomCrop'), _random_mode=mode)(sample([[20, 15, 70, 55]], masks='bitmap'))
        if mode == 1:
            assert results['img'].shape == (60, 80, 3)
            continue
        assert len(results['gt_bboxes']) == 1
        if mode == 0.5:
            assert 2000 / results['img'][..., 0].size >= 0.4


@pytest.mark.parametrize(
    'name, mag, box',
    [
        ('TranslateX', 0.125, [15, 5, 40, 25]),
        ('TranslateY', -0.05, [5, 2, 30, 22]),
        ('ShearX', 1.0, [10, 5, 55, 25]),
        ('ShearY', 0.0, [5, 5, 30, 25]),
        ('Rotate', 180.0, [49, 34, 74, 54]),  # about the centre of the corner pixels
    ],
)
def test_affine(name, mag, box, sample):
    transform = fixed(dict(type=name), _get_mag=mag, _random_disable=False)
    for masks in ('bitmap', 'polygon'):
        results = transform(sample([[5, 5, 30, 25]], masks=masks))
        assert np.allclose(results['gt_bboxes'].numpy(), [box], atol=1e-3)
        assert np.abs(results['gt_masks'].get_bboxes(HorizontalBoxes).numpy() - [box]).max() <= 1.01


def test_random_affine_moves_the_border_away(sample):
    matrix = np.array([[1, 0, -10], [0, 1, 5], [0, 0, 1]], dtype=np.float32)
    transform = fixed(dict(type='RandomAffine', border=(-20, -15)), _get_random_homography_matrix=matrix)
    results = transform(sample([[5, 5, 30, 25], [75, 0, 80, 10]]))
    assert results['img'].shape == (30, 40, 3)
    assert results['gt_bboxes'].numpy().tolist() == [[0, 10, 20, 30]]
    assert results['gt_bboxes_labels'].tolist() == [0]


@pytest.mark.parametrize(
    'mode, shape, border',
    [(['logical_or', 31], (63, 95), [1, 61, 7, 87]), (['size_divisor', 32], (64, 96), [2, 62, 8, 88])],
)
def test_center_pad(mode, shape, border, sample):
    cfg = dict(type='RandomCenterCropPad', ratios=None, border=None, mean=[1, 2, 3], std=[1, 1, 1], to_rgb=True)
    results = sample()
    results['img'] = results['img'].astype(np.float32)
    image = results['img']
    results = TRANSFORMS.build(cfg | dict(test_mode=True, test_pad_mode=mode))(results)
    y1, y2, x1, x2 = border
    assert results['border'].tolist() == border and results['img_shape'] == shape
    assert np.array_equal(results['img'][y1:y2, x1:x2], image)
    assert results['img'][0, 0].tolist() == [3, 2, 1]


def test_one_factor_for_both_sides_of_a_fixed_shape(sample):
    """What the factor is before rounding to pixels; the shape is the padded one."""
    results = TRANSFORMS.build(dict(type='FixShapeResize', width=33, height=90, keep_ratio=True))(
        sample([[0, 0, 80, 60]])
    )
    assert results['img'].shape[:2] == results['img_shape'] == (90, 33)
    assert results['scale_factor'] == (33 / 80, 33 / 80) and results['scale'] == (33, 25)
    assert results['gt_bboxes'].numpy().tolist() == [[0, 0, 33, 24.75]]
    matrix = np.diag([33 / 80, 33 / 80, 1])
    assert np.allclose(results['homography_matrix'], matrix)


def test_a_random_size_needs_its_range_when_it_is_drawn(sample):
    resize = TRANSFORMS.build(dict(type='RandomResize', scale=(40, 30)))
    with pytest.raises(ValueError, match='ratio_range'):
        resize(sample())
    resize.ratio_range = (1.0, 1.0)
    assert resize(sample())['img_shape'] == (30, 40)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(type='Resize', scale=(120, 120), keep_ratio=True),
        dict(type='Resize', scale=(40, 90)),
        dict(type='RandomFlip', prob=1.0, direction='horizontal'),
        dict(type='RandomFlip', prob=1.0, direction='vertical'),
        dict(type='RandomFlip', prob=1.0, direction='diagonal'),
        dict(type='RandomCrop', crop_size=(0.8, 0.8), crop_type='relative'),
        dict(type='Expand', mean=(0, 0, 0), ratio_range=(2, 3), prob=1.0),
        dict(type='Rotate', prob=1.0, min_mag=20.0, max_mag=20.0, reversal_prob=0.5, img_border_value=0),
        dict(type='ShearX', prob=1.0, min_mag=15.0, max_mag=15.0, reversal_prob=0.5, img_border_value=0),
        dict(type='ShearY', prob=1.0, min_mag=15.0, max_mag=15.0, reversal_prob=0.5, img_border_value=0),
        dict(type='TranslateX', prob=1.0, min_mag=0.1, max_mag=0.1, reversal_prob=0.5, img_border_value=0),
        dict(type='TranslateY', prob=1.0, min_mag=0.1, max_mag=0.1, reversal_prob=0.5, img_border_value=0),
        dict(type='RandomAffine', scaling_ratio_range=(0.9, 1.1), max_rotate_degree=5, border_val=(0, 0, 0)),
    ],
    ids=lambda cfg: f'{cfg["type"]} {cfg.get("direction", "")}',
)
def test_the_picture_goes_where_the_matrix_says(cfg, sample):
    """Two transforms one after another; a bright spot is where their matrix takes it, as is its box."""
    np.random.seed(3)
    random.seed(3)
    results = sample([[36, 26, 44, 34]])
    results['img'][:] = 0
    results['img'][26:34, 36:44] = 200
    for part in (cfg, dict(type='Resize', scale_factor=1.5)):
        results = TRANSFORMS.build(part)(results)
    y, x = results['img'][..., 0].nonzero()
    weights = results['img'][y, x, 0].astype(float)
    spot = np.average(x + 0.5, weights=weights), np.average(y + 0.5, weights=weights)
    matrix = results['homography_matrix']
    assert matrix.shape == (3, 3) and matrix.dtype == np.float32
    moved = matrix @ [40, 30, 1]
    assert np.abs(spot - moved[:2] / moved[2]).max() < 1.5
    projected = bbox_project(np.array([[36, 26, 44, 34]], np.float32), matrix, results['img_shape'])
    assert np.allclose(results['gt_bboxes'].numpy(), projected, atol=1.5)
    packed = TRANSFORMS.build(dict(type='PackDetInputs', meta_keys=('img_shape', 'homography_matrix')))(results)
    assert np.array_equal(packed['data_samples'].homography_matrix, matrix)
