import random

import numpy as np
import pytest

from mmdet.datasets.transforms import (
    CachedCopyBlend,
    CachedMosaic,
    CopyPaste,
    MixUp,
    Mosaic,
    RandomErasing,
    YOLOXHSVRandomAug,
)
from mmdet.structures.bbox import HorizontalBoxes


@pytest.mark.parametrize('masks', [None, 'bitmap', 'polygon'])
def test_mosaic_places(masks, sample):
    """Centre fixed at the middle: four cells of 80x60, each image as it is."""
    transform = Mosaic(img_scale=(80, 60), center_ratio_range=(1.0, 1.0))
    results = sample([[5, 5, 30, 25]], masks=masks)
    cell = results['img']
    partners = [sample([[5, 5, 30, 25]], masks=masks), sample([], masks=masks), sample([[0, 0, 80, 60]], masks=masks)]
    results = transform(results | dict(mix_results=partners))
    assert results['img'].shape == (120, 160, 3)
    for rows in (slice(0, 60), slice(60, 120)):
        for columns in (slice(0, 80), slice(80, 160)):
            assert np.array_equal(results['img'][rows, columns], cell)
    expected = [[5, 5, 30, 25], [85, 5, 110, 25], [80, 60, 160, 120]]
    assert results['gt_bboxes'].numpy().tolist() == expected
    assert results['gt_bboxes_labels'].tolist() == [0, 0, 0]
    if masks:
        assert results['gt_masks'].get_bboxes(HorizontalBoxes).numpy().tolist() == expected


def test_mosaic_cuts_what_leaves_the_canvas(sample):
    transform = Mosaic(img_scale=(80, 60), center_ratio_range=(0.5, 0.5), pad_val=7)
    results = transform(sample([[0, 0, 30, 25], [50, 40, 80, 60]]) | dict(mix_results=[sample([]) for _ in range(3)]))
    assert results['gt_bboxes'].numpy().tolist() == [[10, 10, 40, 30]]  # the first box lies outside
    assert results['gt_bboxes_labels'].tolist() == [1]
    assert (results['img'][100:] == 7).all()


def test_mixup(sample):
    transform = MixUp(img_scale=(80, 60), ratio_range=(1.0, 1.0), flip_ratio=1.0)
    results = sample([[5, 5, 30, 25]], masks='bitmap')
    other = sample([[40, 30, 70, 55]], masks='bitmap')
    other['img'] = np.full_like(other['img'], 100)
    expected = (results['img'] * 0.5 + 50).astype(np.uint8)
    results = transform(results | dict(mix_results=[other]))
    assert np.array_equal(results['img'], expected)
    assert results['gt_bboxes'].numpy().tolist() == [[5, 5, 30, 25], [40, 30, 70, 55]]
    assert results['gt_masks'].get_bboxes(HorizontalBoxes).numpy().tolist() == [[5, 5, 30, 25], [40, 30, 70, 55]]


def test_mixup_with_an_empty_partner(sample):
    results = sample()
    image = results['img'].copy()
    results = MixUp()(results | dict(mix_results=[sample([])]))
    assert np.array_equal(results['img'], image) and len(results['gt_bboxes']) == 3


def test_mixup_looks_for_boxes():
    class Few:
        def __len__(self):
            return 4

        def get_data_info(self, index):
            return dict(instances=[1] if index == 2 else [])

    random.seed(0)
    assert MixUp(max_iters=100).get_indexes(Few()) == 2


def test_cached_mosaic_waits_for_partners(sample):
    transform = CachedMosaic(img_scale=(80, 60), max_cached_images=5)
    for number in range(8):
        results = transform(sample())
        assert results['img'].shape == ((60, 80, 3) if number < 4 else (120, 160, 3))
    assert len(transform.results_cache) == 5
    assert transform.results_cache[0]['gt_bboxes'].numpy().tolist()[0] == [5, 5, 30, 25]  # never moved


def test_copy_paste(sample):
    results = sample([[0, 0, 20, 20], [40, 30, 60, 50]], masks='bitmap')
    other = sample([[0, 0, 20, 20]], masks='bitmap')
    other['img'] = np.full_like(other['img'], 9)
    results = CopyPaste(selected=False)(results | dict(mix_results=[other]))
    assert results['gt_bboxes'].numpy().tolist() == [[40, 30, 60, 50], [0, 0, 20, 20]]  # the covered one is gone
    assert (results['img'][:20, :20] == 9).all() and not (results['img'][20:] == 9).all()


def test_copy_paste_by_box_needs_no_masks(sample):
    results = CopyPaste(selected=False, paste_by_box=True)(sample([[40, 30, 60, 50]]) | dict(mix_results=[sample()]))
    assert 'gt_masks' not in results
    with pytest.raises(KeyError, match='load masks, or set paste_by_box=True'):
        CopyPaste()(sample() | dict(mix_results=[sample()]))
    with pytest.raises(ValueError, match='images of one size'):
        CopyPaste(selected=False)(
            sample(masks='bitmap') | dict(mix_results=[sample(masks='bitmap', height=40, boxes=[[0, 0, 9, 9]])])
        )


@pytest.mark.parametrize('masks', [None, 'bitmap', 'polygon'])
def test_copy_blend(masks, sample, monkeypatch):
    """The second box of the other picture with a margin of half its size, three quarters of it, at (10, 20)."""
    transform = CachedCopyBlend(num_objects=1, min_area=300, expand_ratio=(0.5, 0.5), blend_ratio=(0.25, 0.25))
    other = sample([[0, 0, 10, 10], [20, 20, 40, 40]], masks=masks)
    other['img'] = np.full_like(other['img'], 200)
    assert transform(other) is other and (other['img'] == 200).all()
    places = iter([10, 20])
    monkeypatch.setattr(random, 'randint', lambda low, high: next(places) if high in (40, 20) else high)
    results = sample([[5, 5, 30, 25]], masks=masks)
    results['img'] = np.full_like(results['img'], 40)
    results = transform(results)
    expected = np.full_like(results['img'], 40)
    expected[20:60, 10:50] = 160
    assert np.array_equal(results['img'], expected)
    boxes = [[5, 5, 30, 25], [20, 30, 40, 50]]
    assert results['gt_bboxes'].numpy().tolist() == boxes
    assert results['gt_bboxes_labels'].tolist() == [0, 1]
    if masks:
        assert results['gt_masks'].get_bboxes(HorizontalBoxes).numpy().tolist() == boxes
    assert (transform.results_cache[0]['img'] == 200).all() and (transform.results_cache[1]['img'] == 40).all()


def test_copy_blend_leaves_what_does_not_fit(sample):
    transform = CachedCopyBlend(num_objects=5, min_area=0, expand_ratio=(0.0, 0.0))
    transform(sample([[0, 0, 70, 10], [0, 0, 10, 50]]))
    results = transform(sample([], width=60, height=40))  # one box is too wide and the other too high
    assert len(results['gt_bboxes']) == 0
    assert len(transform(sample([]))['gt_bboxes']) == 2  # both fit; the second picture gave nothing
    never = CachedCopyBlend(prob=0.0)
    assert all(len(never(sample())['gt_bboxes']) == 3 for _ in range(4))


@pytest.mark.parametrize(
    'wrong', [dict(num_objects=0), dict(expand_ratio=(0.3, 0.1)), dict(blend_ratio=(0.5, 1.5)), dict(prob=2.0)]
)
def test_copy_blend_refuses(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CachedCopyBlend(**wrong)


def test_erasing_drops_covered_boxes(sample):
    transform = RandomErasing(n_patches=1, ratio=0.5)
    transform._get_patches = lambda shape: np.array([[0, 0, 35, 30]])
    results = sample(masks='bitmap')
    image = results['img'].copy()
    results = transform(results)
    assert results['gt_bboxes_labels'].tolist() == [1, 2]
    assert (results['img'][:30, :35] == 128).all() and np.array_equal(results['img'][30:], image[30:])
    assert not results['gt_masks'].masks[:, :30, :35].any()


def test_hsv_shift_of_zero_is_the_identity_of_hsv(sample):
    transform = YOLOXHSVRandomAug(hue_delta=0, saturation_delta=0, value_delta=0)
    results = sample()
    image = results['img'].copy()
    moved = transform(results)['img']
    assert moved.dtype == np.uint8
    assert np.abs(moved.astype(int) - image).max() <= 8  # a round trip through 8-bit HSV


@pytest.mark.parametrize('transform, count', [(Mosaic((80, 60)), 3), (MixUp((80, 60)), 1), (CopyPaste(), 1)])
def test_partners_stay_as_they_are(transform, count, sample):
    partner = sample(masks='bitmap')
    before = sample(masks='bitmap')
    results = sample(masks='bitmap') | dict(mix_results=[partner] * count)  # one sample may be drawn several times
    transform(results)
    assert np.array_equal(partner['img'], before['img']) and partner['img_shape'] == before['img_shape']
    assert np.array_equal(partner['gt_bboxes'].numpy(), before['gt_bboxes'].numpy())
    assert np.array_equal(partner['gt_masks'].masks, before['gt_masks'].masks)


@pytest.mark.parametrize('transform, count', [(Mosaic((80, 60)), 3), (MixUp((80, 60)), 1), (CopyPaste(), 1)])
def test_partners_are_needed(transform, count, sample):
    with pytest.raises(AssertionError, match='MultiImageMixDataset'):
        transform(sample(masks='bitmap'))
    for number in (0, count + 1):
        with pytest.raises(ValueError, match='partner'):
            transform(sample(masks='bitmap') | dict(mix_results=[sample(masks='bitmap')] * number))


def test_arrays_come_back_as_arrays(sample):
    for transform, count in ((Mosaic((80, 60)), 3), (MixUp((80, 60)), 1)):
        samples = [sample() for _ in range(count + 1)]
        for one in samples:
            one['gt_bboxes'] = one['gt_bboxes'].numpy()
        mixed = transform(samples[0] | dict(mix_results=samples[1:]))
        assert mixed['gt_bboxes'].dtype == np.float32
