"""What heads of regions are taught, against literal tables and loops over regions, points and pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from two_stage_table import GRID, MASK_SCORE, NUM_CLASSES, POINT_REND, build, sabl_head

from mmdet.models.core import PaddedGT, RoISamples, mask_shares, mask_values
from mmdet.ops.point_sample import point_sample
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks, PolygonMasks

pytestmark = pytest.mark.usefixtures('default_scope')


def drawn(boxes, truth, pos, gt_inds=None, labels=None):
    """Slots ``(B, S)`` that all may hold positives."""
    zeros = torch.zeros(pos.shape, dtype=torch.long)
    indices, labels = (zeros if value is None else value for value in (gt_inds, labels))
    every = torch.ones_like(pos)
    return RoISamples(boxes, every, pos, indices, truth, labels, pos & False, pos.shape[1], packed=False)


def test_parts_of_a_grid_map():
    head = MODELS.build(GRID['grid_head'])
    assert head.calc_sub_regions() == [(x, y, x + 12, y + 12) for x in (0, 6, 12) for y in (0, 6, 12)]
    assert head.neighbor_points[:5] == [[1, 3], [0, 2, 4], [1, 5], [0, 4, 6], [1, 3, 5, 7]]


def grid_targets(head, box, truth, radius):
    """One region, point by point and cell by cell."""
    side, whole = head.grid_size, head.whole_map_size
    half = whole // 4 * 2
    targets = torch.zeros(head.grid_points, half, half)
    width, height = 2 * (box[2] - box[0]), 2 * (box[3] - box[1])
    left, top = box[0] - width / 4, box[1] - height / 4
    if width <= side or height <= side:
        return targets
    for point, (x0, y0, _, _) in enumerate(head.sub_regions):
        column, row = divmod(point, side)
        x = truth[0] + (truth[2] - truth[0]) * column / (side - 1)
        y = truth[1] + (truth[3] - truth[1]) * row / (side - 1)
        center_x, center_y = int((x - left) / width * whole), int((y - top) / height * whole)
        for i in range(half):
            for j in range(half):
                if (i + x0 - center_x) ** 2 + (j + y0 - center_y) ** 2 <= radius**2:
                    targets[point, j, i] = 1
    return targets


@pytest.mark.parametrize('radius', [1, 2])
def test_grid_targets(radius):
    head = MODELS.build(GRID['grid_head'])
    boxes = torch.tensor([[[8.0, 8, 40, 32], [0, 0, 1.5, 60], [30, 10, 61, 47], [5, 5, 9, 9]]])
    truth = torch.tensor([[[10.0, 6, 38, 36], [0, 0, 2, 60], [20.3, 12.7, 80.1, 40], [-20, 5, 9, 90]]])
    samples = drawn(boxes, truth, torch.ones(1, 4, dtype=torch.bool))
    found = head.get_targets(samples, ConfigDict(pos_radius=radius))
    assert torch.equal(found, torch.stack([grid_targets(head, *pair, radius) for pair in zip(boxes[0], truth[0])]))
    assert [int(value) for value in found.flatten(1).sum(1)][:2] == [9 * (5 if radius == 1 else 13), 0]


def test_boxes_of_a_grid():
    """All points certain of their middles give the region, one side moved by one cell a larger one."""
    head = MODELS.build(GRID['grid_head'])
    box, meta = torch.tensor([[8.0, 8, 32, 20]]), dict(scale_factor=(2.0, 4.0))
    logits = torch.full((1, 9, 12, 12), -20.0)
    cells = {0: 6 - 0, 1: 12 - 6, 2: 18 - 12}  # a side of the region in the part of each column and row
    for point in range(9):
        column, row = divmod(point, 3)
        logits[0, point, cells[row], cells[column]] = 20
    found = head.predict_by_feat(dict(fused=logits), [Found(box.clone())], [meta])[0].bboxes
    step_x, step_y = 24 / 12, 12 / 12
    torch.testing.assert_close(found, box + torch.tensor([step_x, step_y, step_x, step_y]) / 2)
    logits[0, 2, 6:8, 6] = torch.tensor([-20.0, 20])  # the lower left corner, one cell down
    moved = head.predict_by_feat(dict(fused=logits), [Found(box.clone())], [meta], rescale=True)[0].bboxes
    found[0, 3] += step_y / 3  # outvoted by two
    torch.testing.assert_close(moved, found / torch.tensor([2.0, 4, 2, 4]))


class Found:
    """Detections of one image."""

    def __init__(self, bboxes, **more):
        self.bboxes = bboxes
        self.__dict__.update(more)


def test_jitter_moves_positives_within_the_picture():
    torch.manual_seed(0)
    head = build('Grid').roi_head
    boxes = torch.tensor([10.0, 10, 30, 50]).repeat(1, 200, 1)
    pos = torch.arange(200)[None] < 150
    jittered = head._random_jitter(drawn(boxes, boxes, pos), [dict(img_shape=(50, 60))], amplitude=0.25)
    moved = jittered.boxes[0, :150]
    assert torch.equal(jittered.boxes[0, 150:], boxes[0, 150:])
    low, high = moved.amin(0), moved.amax(0)
    assert (low >= torch.tensor([2.5, 0, 22.5, 35])).all() and (high <= torch.tensor([17.5, 25, 37.5, 49])).all()
    assert (low < torch.tensor([5.0, 1, 25, 40])).all() and (high > torch.tensor([15.0, 20, 35, 48])).all()


def test_points_hear_of_their_neighbours_alone():
    head = MODELS.build(GRID['grid_head'])
    feats = torch.zeros(1, 9, 2, 3, 3)
    for layer in head.forder_trans.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.zeros_(layer.bias)
    feats[:, 1] = 1  # between 0 and 2 in the first column, beside 4
    assert head._received(feats, head.forder_trans)[0].flatten(1).any(1).nonzero().flatten().tolist() == [0, 2, 4]


def odd_masks(count, height, width, seed=0):
    """Ellipses with holes."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    masks = []
    for _ in range(count):
        cx, cy = generator.uniform(0.2, 0.8, 2) * (width, height)
        rx, ry = generator.uniform(0.15, 0.5, 2) * (width, height)
        masks.append((((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1) & (generator.random(x.shape) > 0.2))
    return BitmapMasks(np.stack(masks).astype(np.uint8), height, width)


def regions(count, width, height, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height])
    low = torch.rand(count, 2, generator=generator) * size * 1.2 - 3
    return torch.cat([low, low + torch.rand(count, 2, generator=generator) * size * 0.7], 1)


KINDS = {
    'bitmaps': lambda masks: masks,
    'windows': lambda masks: masks.packed(),
    'tensor': lambda masks: torch.from_numpy(masks.masks),
    'other values': lambda masks: BitmapMasks(masks.masks * 3, masks.height, masks.width),
}


@pytest.mark.parametrize('kind', KINDS)
def test_what_regions_hold_of_a_mask(kind):
    whole = [odd_masks(3, 29, 43), odd_masks(2, 40, 31, 1)]
    # 13.9 is in column 13; a region without extent holds one pixel; one beyond the image has nothing
    boxes = torch.cat([regions(40, 43, 29), torch.tensor([[9, 8, 13.9, 12], [20, 9, 20, 9], [-5, -5, -2, 90]])])
    image, gt_inds = torch.arange(len(boxes)) % 2, torch.arange(len(boxes)) % 3 % 2
    found = mask_shares(boxes, image, gt_inds, [KINDS[kind](masks) for masks in whole])
    for box, b, i, share in zip(boxes.int().tolist(), image, gt_inds, found.tolist()):
        mask = whole[b].masks[i]
        height, width = mask.shape
        x1, x2 = (min(max(value, 0), width) for value in box[::2])
        y1, y2 = (min(max(value, 0), height) for value in box[1::2])
        part = mask[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
        assert share == pytest.approx(part.sum() / mask.sum(), abs=1e-6)
    assert (found == 0).any() and (found > 0.5).any()


def test_polygons_are_cut_by_the_host():
    square = PolygonMasks([[np.array([10.0, 10, 30, 10, 30, 30, 10, 30])]], 40, 40)
    boxes = torch.tensor([[10.0, 10, 20, 30], [0, 0, 40, 40], [0, 0, 5, 5], [25, 25, 40, 40]])
    none = torch.zeros(4, dtype=torch.long)
    found = mask_shares(boxes, none, none, [square])
    torch.testing.assert_close(found, torch.tensor([0.5, 1, 0, 1 / 16]), atol=1e-6, rtol=0)
    values = mask_values(torch.tensor([[[15.0, 15]], [[29.5, 20]], [[35, 35]], [[20, 9]]]), none, none, [square])
    assert values.flatten().tolist() == [1, 1, 0, 0]
    both = mask_shares(boxes[:2], torch.tensor([0, 1]), none[:2], [square, torch.ones(1, 40, 40)])
    torch.testing.assert_close(both, torch.tensor([0.5, 1.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize('kind', KINDS)
def test_masks_at_points(kind):
    whole = [odd_masks(3, 29, 43), odd_masks(2, 40, 31, 1)]
    points = torch.rand(6, 50, 2, generator=torch.Generator().manual_seed(0)) * 48 - 3
    image, gt_inds = torch.tensor([0, 1, 0, 1, 0, 1]), torch.tensor([2, 1, 0, 0, 1, 1])
    found = mask_values(points, image, gt_inds, [KINDS[kind](masks) for masks in whole])
    for at, b, i, values in zip(points, image, gt_inds, found):
        mask = torch.from_numpy(whole[b].masks[i].astype(np.float32))[None, None] * (3 if kind == 'other values' else 1)
        expected = point_sample(mask, at[None] / torch.tensor(mask.shape[:1:-1]))[0, 0]
        torch.testing.assert_close(values, expected, atol=2e-5, rtol=0)


def test_iou_of_masks_and_whole_ground_truths():
    """The ground truth counts in full, of which the region's part is known as finely as the mask."""
    head = MODELS.build(MASK_SCORE['mask_iou_head'])
    truth = BitmapMasks(np.zeros((1, 40, 40), np.uint8), 40, 40)
    truth.masks[0, 8:24, 4:36] = 1  # 16 x 32 pixels
    boxes = torch.tensor([[[0.0, 0, 20, 40], [4, 8, 36, 24], [0, 30, 40, 40]]])  # half of it, all, none
    samples = drawn(boxes, boxes, torch.ones(1, 3, dtype=torch.bool))
    gt = Found(boxes[0, :1], masks=truth)
    # Of a region of 20 x 40 pixels the mask is 10 x 20 cells: the ground truth lies in rows 4 to 11, columns 2 to 9.
    targets = torch.zeros(3, 20, 10)
    targets[0, 4:12, 2:10], targets[1] = 1, 1
    logits = torch.full((3, 20, 10), 0.4)  # not above 0.5
    logits[0, 4:12, :6], logits[1, :5], logits[2, 3:9] = 1, 1, 1
    found = head.get_targets(samples, [gt], logits, targets, ConfigDict(mask_thr_binary=0.5))
    # 8 rows of 4 cells overlap, 8 x 6 are predicted, 2 * 8 x 8 are true; a quarter of all; nothing
    torch.testing.assert_close(found, torch.tensor([32 / (48 + 128 - 32), 0.25, 0.0]), atol=1e-5, rtol=0)
    pred = torch.tensor([0.5, 0.5, 0.9], requires_grad=True)
    loss = head.loss_and_target(pred, logits, targets, samples, [gt], ConfigDict(mask_thr_binary=0.5))['loss_mask_iou']
    torch.testing.assert_close(loss, 0.5 * (found[:2] - 0.5).square().mean())
    loss.backward()
    assert pred.grad[2] == 0


def test_scores_are_multiplied_by_the_iou_of_their_class():
    head = MODELS.build(MASK_SCORE['mask_iou_head'])
    results = [
        Found(torch.zeros(2, 4), scores=torch.tensor([0.5, 0.4]), labels=torch.tensor([2, 0])),
        Found(torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long)),
    ]
    head.predict_by_feat([torch.tensor([[0.1, 0.2, 0.5], [0.25, 0.2, 0.3]]), torch.zeros(0, 3)], results)
    assert results[0].scores.tolist() == pytest.approx([0.25, 0.1]) and len(results[1].scores) == 0


def test_least_certain_cells():
    head = MODELS.build(POINT_REND['point_head'])
    logits = torch.tensor([[[3.0, -1, 2], [0.5, 4, -2.5]], [[1.0, 2, 3], [-4, -5, 0]]])[:, None]
    cfg = ConfigDict(subdivision_num_points=2)
    index, points = head.get_roi_rel_points_test(logits, torch.tensor([0, 0]), cfg)
    assert index.tolist() == [[3, 1], [5, 0]]
    expected = torch.tensor([[[1 / 6, 3 / 4], [1 / 2, 1 / 4]], [[5 / 6, 3 / 4], [1 / 6, 1 / 4]]])
    torch.testing.assert_close(points, expected)
    every, _ = head.get_roi_rel_points_test(logits, torch.tensor([0, 0]), ConfigDict(subdivision_num_points=50))
    assert sorted(every[0].tolist()) == [0, 1, 2, 3, 4, 5]


def test_subdivision_refines_the_mask_of_each_class():
    """One class at a time, as the whole of all classes step by step, in the memory of one class."""
    torch.manual_seed(0)
    model = build('Mask points').eval()
    head, cfg = model.roi_head, model.roi_head.test_cfg
    x = (torch.randn(2, 16, 24, 32), torch.randn(2, 16, 12, 16))
    rois = torch.tensor([[0, 10.0, 10, 70, 60], [1, 0, 5, 40, 90], [0, 60, 20, 128, 96]])
    labels, coarse = torch.tensor([2, 0, 1]), torch.randn(3, NUM_CLASSES, 3, 3)
    with torch.no_grad():
        found = head._mask_point_forward_test(x, rois, labels, coarse)
        whole = coarse
        for step in range(3):
            whole = F.interpolate(whole, scale_factor=2, mode='bilinear', align_corners=False)
            if 4 * whole[0, 0].numel() <= 40 and step < 2:
                continue
            for k in range(3):
                index, points = head.point_head.get_roi_rel_points_test(whole[k : k + 1], labels[k : k + 1], cfg)
                fine = head._get_fine_grained_point_feats(x, rois[k : k + 1], points)
                pred = head.point_head(fine, point_sample(coarse[k : k + 1], points))
                whole[k].flatten(1)[:, index[0]] = pred[0]
    assert found.shape == whole.shape == (3, NUM_CLASSES, 24, 24)
    for k, label in enumerate(labels):
        torch.testing.assert_close(found[k, label], whole[k, label])
    assert found.untyped_storage().nbytes() == found.nbytes // NUM_CLASSES


def test_features_at_points_are_those_of_the_map():
    head = build('Mask points').roi_head
    x = (torch.randn(2, 16, 24, 32),)
    rois = torch.tensor([[1, 8.0, 16, 40, 48], [0, 0, 0, 128, 96]])
    points = torch.rand(2, 30, 2)
    found = head._get_fine_grained_point_feats(x, rois, points)
    for k, (image, *box) in enumerate(rois.tolist()):
        corner, size = torch.tensor(box[:2]), torch.tensor(box[2:]) - torch.tensor(box[:2])
        at = (points[k] * size + corner) / torch.tensor([128.0, 96])
        expected = point_sample(x[0][int(image)][None], at[None])[0]
        torch.testing.assert_close(found[k], expected, atol=1e-5, rtol=1e-5)


def test_buckets_of_regions():
    """Only positives have targets; a side in the middle of a bucket has no offset, and its neighbours do not count."""
    head = MODELS.build(dict(sabl_head(scale=1.0)))
    boxes = torch.tensor([[[0.0, 0, 140, 140], [10, 10, 20, 20]]])
    truth = torch.tensor([[[15.0, 28, 105, 140], [0, 0, 1, 1]]])  # buckets are 10 wide, with middles 5, 15 and so on
    samples = drawn(boxes, truth, torch.tensor([[True, False]]), labels=torch.tensor([[1, 0]]))
    labels, weights, (buckets, offsets), (bucket_weights, offset_weights) = head.get_targets(samples, ConfigDict())
    assert labels.tolist() == [1, NUM_CLASSES] and weights.tolist() == [1, 1]
    left, right, top, bottom = buckets[0].view(4, 7).argmax(1).tolist()
    assert (left, right, top, bottom) == (1, 3, 2, 0) and buckets[0].sum() == 4
    assert offsets[0].view(4, 7)[[0, 1, 2, 3], [1, 3, 2, 0]].tolist() == pytest.approx([0, 0, -0.3, -0.5])
    assert bucket_weights[0].view(4, 7)[2].tolist() == [1, 1, 1, 0, 1, 1, 1]  # 35 is 0.7 of a bucket away from 28
    assert not any(value[1].any() for value in (buckets, offsets, bucket_weights, offset_weights))
    lists = head.get_targets(list(samples_of(samples)), ConfigDict())
    for found, expected in zip(lists, (labels, weights, (buckets, offsets), (bucket_weights, offset_weights))):
        torch.testing.assert_close(found, expected)
    by_image = head.bucket_target(
        *([getattr(r, name) for r in samples_of(samples)] for name in ('pos_priors', 'neg_priors')),
        *([getattr(r, name) for r in samples_of(samples)] for name in ('pos_gt_bboxes', 'pos_gt_labels')),
        ConfigDict(pos_weight=2),
    )
    assert by_image[1].tolist() == [2, 1]
    torch.testing.assert_close(by_image[2:], (buckets, bucket_weights, offsets, offset_weights))


def samples_of(samples):
    """The results of each image."""
    samples.gt = PaddedGT(samples.gt_boxes, samples.gt_labels, samples.pos, [samples.pos.shape[1]])
    return list(samples)


def test_sides_are_taken_from_their_ends():
    head = MODELS.build(sabl_head())
    line = torch.arange(14.0)[None, :, None]
    first, last = head.side_aware_split(line)
    assert first.flatten().tolist() == [0, 1, 2, 3, 4, 5, 6] and last.flatten().tolist() == [13, 12, 11, 10, 9, 8, 7]
    with pytest.raises(ValueError, match='as many buckets, not 10'):
        MODELS.build(dict(sabl_head(), bbox_coder=dict(type='BucketingBBoxCoder', num_buckets=10, scale_factor=1.0)))


@pytest.mark.parametrize('room', [1, 1024])
@pytest.mark.parametrize('rescale', [False, True])
def test_all_images_at_once_find_what_each_finds(rescale, room):
    """With scores that are multiplied by how sure the sides are, after the threshold."""
    torch.manual_seed(0)
    head = MODELS.build(sabl_head()).eval()
    rois = torch.cat([torch.arange(2.0).repeat_interleave(6)[:, None], regions(12, 100, 80)], 1)
    rois[:, 3:] += 8
    scores, pair = torch.randn(12, NUM_CLASSES + 1), (torch.randn(12, 28), torch.randn(12, 28) / 4)
    metas = [dict(img_shape=(80, 100), scale_factor=(2.0, 2.0)), dict(img_shape=(90, 90), scale_factor=(1.0, 1.5))]
    cfg = ConfigDict(score_thr=0.2, nms=dict(type='nms', iou_threshold=0.3), max_per_img=4)
    args = rois.split(6), scores.split(6), head.bbox_pred_split(pair, [6, 6])
    alone = head.predict_by_feat(*args, metas, cfg, rescale)
    valid = torch.ones(2, 6, dtype=torch.bool)
    head.room = room
    together = head.predict_batch(*args, valid, metas, cfg, rescale)
    assert head.room == max(room, 16)  # the next power of two above the number of candidates
    for found, expected in zip(together, alone):
        assert found.labels.tolist() == expected.labels.tolist() and len(found)
        torch.testing.assert_close(found.scores, expected.scores)
        torch.testing.assert_close(found.bboxes, expected.bboxes)
    assert min(float(found.scores.min()) for found in alone) < 0.2
