"""Masks that code in C would not survive, and those that it reads."""

import numpy as np
import pytest

from mmdet.errors import UserError
from mmdet.structures.mask import PolygonMasks, bitmaps_of
from mmdet.structures.mask.validation import check_codes, check_mask, sums_of_runs

coco_mask = pytest.importorskip('pycocotools.mask')


def code(height, width, seed=0, share=0.5):
    bitmap = np.random.default_rng(seed).random((height, width)) < share
    return coco_mask.encode(np.asfortranarray(bitmap, dtype=np.uint8))


def test_compressed_runs_add_up_to_their_picture():
    masks = [code(*size, seed, share) for seed, size in enumerate([(1, 1), (7, 9), (200, 3), (64, 64)]) for share in
             (0, 0.02, 0.5, 1)]  # fmt: skip
    wide = np.zeros((400, 900), np.uint8)
    wide[100:300, 3:890] = 1  # runs of more than two characters
    masks.append(coco_mask.encode(np.asfortranarray(wide)))
    expected = [np.prod(mask['size']) for mask in masks]
    assert sums_of_runs([mask['counts'] for mask in masks]).tolist() == expected
    assert [sums_of_runs([mask['counts']])[0] for mask in masks] == expected
    check_codes(masks, 'these')


@pytest.mark.parametrize('broken', [b'', b'\xff', b'zz', b'P', b'o' * 9 + b'1', b'0O', 'é'.encode()])
def test_one_broken_code_does_not_hide_the_others(broken):
    good = [code(7, 9)['counts'], code(5, 4, 1)['counts']]
    assert sums_of_runs([good[0], broken, good[1]]).tolist() == [63, -1, 20]


@pytest.mark.parametrize(
    'mask, words',
    [
        (dict(size=[7, 9], counts=code(7, 8)['counts']), r'end after 56 pixels of \[7, 9\], which are 63'),
        (dict(size=[7, 9], counts=[10, 20]), 'end after 30 pixels'),
        (dict(size=[7, 9], counts=[70, -7]), 'no whole numbers from 0'),
        (dict(size=[7, 9], counts=[31.5, 31.5]), 'no whole numbers from 0'),
        (dict(size=[7, 9], counts=[10**400]), 'end after 1000'),
        (dict(size=[1 << 20, 1 << 20], counts=[1 << 40]), 'which is no'),
        (dict(size=[-7, -9], counts=[63]), 'which is no'),
        (dict(size=[7], counts=[63]), 'which is no'),
        (dict(size='7x9', counts=[63]), 'which is no'),
        (dict(counts=[63]), 'of size None'),
        (dict(size=[7, 9]), 'has run lengths None'),
        ([[0, 0, float('inf'), 0, 9, 9]], 'has a polygon with the coordinate inf'),
        ([[0, 0, float('nan'), 0, 9, 9]], 'has a polygon with the coordinate nan'),
        ([[0, 0, 2e8, 0, 9, 9]], 'the coordinate 200000000.0'),
        (7, 'neither polygons nor'),
        (None, 'no mask'),
    ],
)
def test_what_never_reaches_code_in_c(mask, words):
    with pytest.raises(UserError, match=f'image 3: mask 1 .*{words}'):
        check_codes([code(7, 9), mask], 'image 3')


@pytest.mark.parametrize(
    'mask, expected',
    [
        ([[0, 0, 4, 0, 4, 4]], [[0, 0, 4, 0, 4, 4]]),
        ([-50, 0, 4, 0, 4, 4], [[-50, 0, 4, 0, 4, 4]]),
        ([np.arange(6.0)], [[0, 1, 2, 3, 4, 5]]),
        ([[[0, 0], [4, 0], [4, 4]], [[1, 1], [4, 1], [4, 5]]], [[0, 0, 4, 0, 4, 4], [1, 1, 4, 1, 4, 5]]),
        ([['0', '0', '4', 0, 4, 4]], [[0, 0, 4, 0, 4, 4]]),
        ([[0, 0, 4, 0]], None),
        ([], None),
        (None, None),
    ],
)
def test_polygons_that_have_one_meaning(mask, expected):
    found = check_mask(mask, 60, 80)
    assert found.mask == expected and found.problem is None


def test_the_margin_is_the_larger_side():
    assert check_mask([[-100, 0, 4, 0, 260, 4]], 60, 160).problem is None
    assert check_mask([[-161, 0, 4, 0, 4, 4]], 60, 160).problem is not None
    assert check_mask([[0, 0, 4, 0, 321, 4]], 60, 160).problem is not None


def test_several_codes_are_one_object():
    first, second = np.zeros((2, 6, 8), np.uint8)
    first[1:3, 1:3] = second[2:5, 2:7] = 1
    codes = [coco_mask.encode(np.asfortranarray(bitmap)) for bitmap in (first, second)]
    found = check_mask(codes, 6, 8)
    assert found.repairs == ['run lengths in a list']
    np.testing.assert_array_equal(coco_mask.decode(found.mask), first | second)


def test_drawing_far_polygons_takes_no_memory():
    far = [np.array([-3e8, -3e8, 3e8, -3e8, 3e8, 3e8, -3e8, 3e8]), np.array([0.0, 0, 3, 0, 3, 2, 0, 2])]
    drawn = PolygonMasks([[far[0]], [far[1]], [far[0] + 4e8]], 4, 6).to_ndarray()
    assert drawn[0].all() and drawn[1].sum() == 6 and not drawn[2].any()
    with pytest.raises(UserError, match='no finite number'):
        PolygonMasks([[np.array([0, 0, np.nan, 0, 4, 4])]], 4, 6).to_ndarray()


def test_decoding_looks_first():
    assert bitmaps_of([dict(size=[2, 3], counts=[1, 5])])[0].sum() == 5
    with pytest.raises(UserError, match='mask 0 has run lengths that end after 2 pixels'):
        bitmaps_of([dict(size=[2, 3], counts=b'2')])
