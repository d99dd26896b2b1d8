import pickle

import numpy as np
import pytest
import torch

from mmdet.structures.mask import (
    BitmapMasks,
    MaskWindows,
    PolygonMasks,
    bitmap_to_polygon,
    encode_mask_results,
    mask2bbox,
    mask_target,
    polygon_to_bitmap,
    split_combined_polys,
)
from mmdet.structures.mask.windows import join, move_together

H, W = 24, 32


def rectangle(x1, y1, x2, y2):
    return np.array([x1, y1, x2, y1, x2, y2, x1, y2], dtype=np.float64)


BOXES = [(4, 6, 14, 12), (0, 0, 8, 8), (20, 2, 30, 22)]


def polygons():
    return PolygonMasks([[rectangle(*box)] for box in BOXES], H, W)


def bitmaps():
    masks = np.zeros((len(BOXES), H, W), dtype=np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, BOXES, strict=True):
        mask[y1:y2, x1:x2] = 1
    return BitmapMasks(masks, H, W)


KINDS = pytest.mark.parametrize('make', [bitmaps, polygons])


def boxes_of(masks):
    return masks.get_bboxes().tensor.round().int().tolist()


@KINDS
def test_construction_and_indexing(make):
    masks = make()
    assert len(masks) == 3 and repr(masks) == f'{type(masks).__name__}(num_masks=3, height=24, width=32)'
    assert masks.areas.tolist() == [60, 64, 200]
    for index in (1, slice(1, 2), [1], np.array([False, True, False])):
        assert type(masks[index]) is type(masks) and masks[index].areas.tolist() == [64]
    assert len(masks[np.zeros(0, dtype=int)]) == 0
    assert len(list(masks)) == 3
    assert masks.to_tensor(torch.float32, 'cpu').shape == (3, H, W)
    assert type(masks).cat([masks, masks[:1]]).areas.tolist() == [60, 64, 200, 60]
    with pytest.raises(ValueError, match='no masks'):
        type(masks).cat([])


def test_polygon_bitmap_agree():
    assert np.array_equal(polygons().to_ndarray(), bitmaps().to_ndarray())
    assert isinstance(polygons().to_bitmap(), BitmapMasks)


def test_wrong_shape():
    with pytest.raises(ValueError, match=r'\(3, 24, 32\) are not \(N, 8, 8\)'):
        BitmapMasks(bitmaps().masks, 8, 8)


@KINDS
@pytest.mark.parametrize(
    ('method', 'args', 'size', 'boxes'),
    [
        ('resize', ((48, 64),), (48, 64), [(8, 12, 28, 24), (0, 0, 16, 16), (40, 4, 60, 44)]),
        ('rescale', (0.5,), (12, 16), [(2, 3, 7, 6), (0, 0, 4, 4), (10, 1, 15, 11)]),
        ('rescale', ((64, 48),), (48, 64), [(8, 12, 28, 24), (0, 0, 16, 16), (40, 4, 60, 44)]),
        ('flip', (), (24, 32), [(18, 6, 28, 12), (24, 0, 32, 8), (2, 2, 12, 22)]),
        ('flip', ('vertical',), (24, 32), [(4, 12, 14, 18), (0, 16, 8, 24), (20, 2, 30, 22)]),
        ('flip', ('diagonal',), (24, 32), [(18, 12, 28, 18), (24, 16, 32, 24), (2, 2, 12, 22)]),
        ('pad', ((30, 40), 0), (30, 40), BOXES),
        ('crop', (np.array([2, 3, 24, 10]),), (7, 22), [(2, 3, 12, 7), (0, 0, 6, 5), (18, 0, 22, 7)]),
        ('expand', (40, 50, 5, 7), (40, 50), [(11, 11, 21, 17), (7, 5, 15, 13), (27, 7, 37, 27)]),
        ('translate', ((24, 32), 4), (24, 32), [(8, 6, 18, 12), (4, 0, 12, 8), (24, 2, 32, 22)]),
        ('translate', ((24, 32), -4, 'vertical'), (24, 32), [(4, 2, 14, 8), (0, 0, 8, 4), (20, 0, 30, 18)]),
        ('rotate', ((24, 32), 180), (24, 32), None),
    ],
)
def test_geometry(make, method, args, size, boxes):
    masks = getattr(make(), method)(*args)
    assert (masks.height, masks.width) == size
    assert masks.to_ndarray().shape == (3, *size)
    if boxes is not None:
        assert boxes_of(masks) == [list(box) for box in boxes]
    empty = make()[np.zeros(0, dtype=int)]
    assert getattr(empty, method)(*args).to_ndarray().shape == (0, *size)


@KINDS
def test_geometry_leaves_the_original(make):
    masks = make()
    for method, args in (('flip', ()), ('crop', (np.array([2, 3, 24, 10]),)), ('translate', ((24, 32), 4))):
        getattr(masks, method)(*args)
    assert boxes_of(masks) == [list(box) for box in BOXES]


def test_flips_agree_with_bitmaps_pixel_by_pixel():
    triangle = PolygonMasks([[np.array([2.0, 2, 28, 4, 10, 20])]], H, W)
    drawn = triangle.to_ndarray()[0]
    flipped = triangle.flip().to_ndarray()[0]
    assert (flipped != drawn[:, ::-1]).mean() < 0.02  # the rasteriser is not symmetric along edges


@pytest.mark.parametrize(('angle', 'row', 'column'), [(90, 16, 21), (-90, 7, 10)])
def test_rotation_is_clockwise(angle, row, column):
    """A dot at the right of the middle goes down, on the screen, when the picture turns clockwise."""
    masks = np.zeros((1, H, W), dtype=np.uint8)
    masks[0, 10:13, 19:22] = 1  # centre (20, 11); middle of the picture (15.5, 11.5)
    turned = BitmapMasks(masks, H, W).rotate((H, W), angle).masks[0]
    ys, xs = np.nonzero(turned)
    assert abs(ys.mean() - (11.5 + np.sign(angle) * 4.5)) < 0.6 and abs(xs.mean() - 15.5) < 1.1
    shape = PolygonMasks([[rectangle(19, 10, 22, 13)]], H, W).rotate((H, W), angle)
    _, y1, _, y2 = shape.get_bboxes().tensor[0].tolist()
    assert abs((y1 + y2) / 2 - (11.5 + np.sign(angle) * 5)) < 0.6


@KINDS
def test_shear(make):
    masks = make().shear((H, 60), 0.5, 'horizontal')
    assert masks.areas[0] == pytest.approx(60, abs=4)
    x1, y1, x2, y2 = boxes_of(masks)[0]
    assert abs(x1 - 7) <= 1 and abs(x2 - 20) <= 1 and (y1, y2) == (6, 12)
    with pytest.raises(ValueError, match="'sideways'"):
        make().shear((H, W), 0.5, 'sideways')


@KINDS
def test_border(make):
    if make is bitmaps:
        filled = make().translate((H, W), 4, border_value=7)
        assert (filled.masks[:, :, :4] == 7).all() and filled.masks.dtype == np.uint8
    else:
        with pytest.raises(ValueError, match='border'):
            make().translate((H, W), 4, border_value=1)


@KINDS
def test_bad_arguments(make):
    masks = make()
    with pytest.raises(ValueError, match="'up'"):
        masks.flip('up')
    with pytest.raises(ValueError, match="'up'"):
        masks.translate((H, W), 1, 'up')
    with pytest.raises(ValueError, match='one box'):
        masks.crop(np.zeros((1, 4)))
    with pytest.raises(ValueError, match='-1'):
        masks.rescale(-1)


@KINDS
def test_crop_outside_keeps_the_count(make):
    cropped = make().crop(np.array([15, 0, 18, 5]))
    assert len(cropped) == 3 and cropped.to_ndarray().shape == (3, 5, 3) and cropped.areas.tolist() == [0, 0, 0]


def test_concave_polygons_are_clipped():
    letter_u = np.array([0.0, 0, 10, 0, 10, 10, 20, 10, 20, 0, 30, 0, 30, 20, 0, 20])
    masks = PolygonMasks([[letter_u]], H, W).crop(np.array([0, 0, 32, 10]))
    assert masks.areas.tolist() == [200]
    assert masks.to_ndarray().sum() == 200


@KINDS
def test_crop_and_resize(make):
    masks = make()
    out = masks.crop_and_resize(np.array([BOXES[0], (16.0, 2, 34, 22)]), (14, 28), np.array([0, 2]))
    first, second = out.to_ndarray()
    assert first.shape == (14, 28) and first.mean() > 0.98  # bilinear sampling rounds the corners
    # the object fills columns 4 to 14 of 18, at all rows
    expected = np.zeros((14, 28), dtype=bool)
    expected[:, round(28 * 4 / 18) : round(28 * 14 / 18)] = True
    assert (second.astype(bool) != expected).mean() < 0.04
    assert len(masks[[]].crop_and_resize(np.zeros((0, 4)), (14, 14), np.zeros(0, dtype=int))) == 0


def test_crop_and_resize_is_roi_align():
    from torchvision.ops import roi_align

    masks = BitmapMasks.random(2, H, W, rng=0)
    rois = torch.tensor([[1.0, 3.3, 4.1, 20.7, 19.2], [0, 0, 0, 31, 23]])
    soft = masks.crop_and_resize(rois[:, 1:], (7, 7), rois[:, 0].long(), binarize=False).masks
    want = roi_align(torch.as_tensor(masks.masks).float()[:, None], rois, (7, 7), 1.0, 0, True)[:, 0].numpy()
    np.testing.assert_allclose(soft, want, atol=1e-6)
    hard = masks.crop_and_resize(rois[:, 1:].numpy(), (7, 7), rois[:, 0].long().numpy()).masks
    assert np.array_equal(hard, want >= 0.5)
    with pytest.raises(ValueError, match='BitmapMasks'):
        polygons().crop_and_resize(rois[:, 1:], (7, 7), rois[:, 0].long(), binarize=False)


@KINDS
def test_mask_target(make):
    proposals = [torch.tensor([[4.0, 6, 14, 12], [-5, -5, 8, 8]]), torch.zeros(0, 4), torch.tensor([[20.0, 2, 30, 22]])]
    inds = [torch.tensor([0, 1]), torch.zeros(0, dtype=torch.long), torch.tensor([2])]
    targets = mask_target(proposals, inds, [make()] * 3, dict(mask_size=14))
    assert targets.shape == (3, 14, 14) and targets.dtype == torch.float32 and targets.bool().all()
    assert mask_target(proposals[1:2], inds[1:2], [make()], dict(mask_size=(7, 14))).shape == (0, 7, 14)


def test_random():
    assert BitmapMasks.random(2, 8, 9, rng=1).masks.shape == (2, 8, 9)
    masks = PolygonMasks.random(5, rng=1)
    assert len(masks) == 5 and (masks.areas > 0).all()
    boxes = masks.get_bboxes().tensor
    assert boxes.min() >= 0 and boxes.max() <= 32


def test_outlines():
    ring = np.zeros((10, 10), dtype=bool)
    ring[1:9, 1:9] = True
    outlines, hole = bitmap_to_polygon(ring)
    assert len(outlines) == 1 and not hole
    ring[3:6, 3:6] = False
    outlines, hole = bitmap_to_polygon(ring)
    assert len(outlines) == 2 and hole and outlines[0].shape[1] == 2
    assert bitmap_to_polygon(np.zeros((4, 4))) == ([], False)
    assert not polygon_to_bitmap([], 4, 5).any()


def test_rle_and_boxes():
    from pycocotools import mask as coco_mask

    masks = torch.as_tensor(bitmaps().masks).bool()
    codes = encode_mask_results(masks)
    assert np.array_equal(coco_mask.decode(codes[1]), masks[1].numpy())
    assert mask2bbox(masks).int().tolist() == [list(box) for box in BOXES]
    assert mask2bbox(torch.zeros(1, 4, 4)).tolist() == [[0, 0, 0, 0]]
    assert mask2bbox(torch.zeros(0, 4, 4)).shape == (0, 4)


def test_split_combined_polygons():
    flat = [np.arange(20)]
    assert [[len(p) for p in obj] for obj in split_combined_polys(flat, [[6, 8, 6]], [[2, 1]])[0]] == [[6, 8], [6]]


@pytest.mark.parametrize('masks', [[[]], np.zeros((28, 28)), [np.zeros((3, 28, 28))], np.zeros((3, 28, 32)), 'masks'])
def test_bitmaps_refuse_what_is_no_bitmap(masks):
    with pytest.raises(AssertionError):
        BitmapMasks(masks, 28, 28)


@pytest.mark.parametrize('masks', [[[[]]], np.zeros((2, 8)), [np.zeros(8)], [[[0, 0, 5, 0, 5, 5]]]])
def test_polygons_refuse_what_is_no_list_of_arrays_for_each_object(masks):
    with pytest.raises(TypeError, match='flat arrays'):
        PolygonMasks(masks, 28, 28)


@pytest.mark.parametrize('kind', [BitmapMasks, PolygonMasks])
def test_joining_masks_of_other_kinds(kind):
    with pytest.raises(ValueError, match='no masks'):
        kind.cat([])
    for other in (kind([], 4, 4), [np.zeros((1, 4, 4))], [BitmapMasks([], 4, 4), PolygonMasks([], 4, 4)]):
        with pytest.raises(TypeError, match=kind.__name__):
            kind.cat(other)


@pytest.mark.parametrize('dtype', [np.uint8, bool])
def test_packed_bitmaps_are_the_same_bitmaps(dtype):
    masks = (np.random.RandomState(0).rand(5, H, W) > 0.7).astype(dtype)
    masks[:, :7] = 0
    masks[3] = 0
    whole = BitmapMasks(masks, H, W)
    packed = whole.packed()
    assert packed.windows.table[:, 1].tolist() == [7, 7, 7, 0, 7]
    assert isinstance(packed, BitmapMasks) and len(packed) == 5 and whole.windows is None
    some = packed[np.array([True, False, False, True, True])]
    assert some.windows is not None and np.array_equal(some.masks, masks[[0, 3, 4]])
    assert np.array_equal(packed[-1].masks, masks[4:])
    padded = packed.pad((H + 3, W + 9))
    assert padded.windows is not None and np.array_equal(padded.masks, whole.pad((H + 3, W + 9)).masks)
    assert packed.pad((H + 1, W), pad_val=1).masks[:, -1].all()
    assert packed.masks.dtype == dtype and np.array_equal(packed.masks, masks)
    assert np.array_equal(whole.packed().flip().masks, whole.flip().masks)
    assert np.array_equal(whole.packed().areas, whole.areas)


def test_packed_bitmaps_cost_what_their_objects_cost():
    masks = np.zeros((3, 800, 1333), np.uint8)
    masks[:, 100:140, 200:216] = 1
    packed = pickle.loads(pickle.dumps(BitmapMasks(masks, 800, 1333).packed()))
    assert len(pickle.dumps(packed)) < 3000
    assert np.array_equal(packed.masks, masks)


def test_bitmaps_of_other_values_stay_whole():
    for masks in (np.full((1, 4, 4), 3, np.uint8), np.ones((1, 4, 4), np.float32)):
        whole = BitmapMasks(masks, 4, 4)
        assert whole.packed() is whole


def test_windows_of_several_images_move_as_one():
    images = [BitmapMasks.random(n, 20 + n, 30, rng=n) for n in (3, 1, 2)] + [BitmapMasks([], 9, 9)]
    moved = move_together([image.packed().windows for image in images], torch.device('cpu'))
    assert all(part.bits is moved[0].bits for part in moved)
    for image, part in zip(images, moved):
        assert np.array_equal(part.unpack(image.height, image.width), image.masks)
    joined, tables = join([image.packed().windows for image in images])
    for image, table in zip(images, tables):
        assert np.array_equal(MaskWindows(joined, table).unpack(image.height, image.width), image.masks)
    whole = MaskWindows.from_tensor(torch.from_numpy(images[0].masks))
    assert np.array_equal(whole.unpack(23, 30), images[0].masks)
