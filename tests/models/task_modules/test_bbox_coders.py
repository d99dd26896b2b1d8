import math

import pytest
import torch

from mmdet.registry import TASK_UTILS

pytestmark = pytest.mark.usefixtures('default_scope')

BOX_CODERS = [
    dict(type='DeltaXYWHBBoxCoder'),
    dict(type='DeltaXYWHBBoxCoder', target_means=[0.1, 0, -0.1, 0], target_stds=[0.1, 0.1, 0.2, 0.2]),
    dict(type='TBLRBBoxCoder', normalizer=4.0),
    dict(type='TBLRBBoxCoder', normalizer=[1.0, 2.0, 3.0, 4.0]),
    dict(type='AnchorPointBBoxCoder', scale=8),
    dict(type='PseudoBBoxCoder'),
]


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float32)


@pytest.mark.parametrize(
    'cfg, prior, box, code',
    [
        (dict(type='DeltaXYWHBBoxCoder'), [0, 0, 10, 20], [5, 0, 15, 40], [0.5, 0.5, 0, math.log(2)]),
        (
            dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
            [0, 0, 10, 20],
            [5, 0, 15, 40],
            [5, 5, 0, math.log(2) * 5],
        ),
        # Of the centre (5, 10): 4 up, 6 down, 3 left, 7 right, over height 20 and width 10.
        (dict(type='TBLRBBoxCoder', normalizer=1.0), [0, 0, 10, 20], [2, 6, 12, 16], [0.2, 0.3, 0.3, 0.7]),
        # An anchor of side 64 is 8 strides: of the centre (32, 32) in strides of 8.
        (dict(type='AnchorPointBBoxCoder'), [0, 0, 64, 64], [16, 8, 56, 32], [2, 3, 3, 0]),
        (dict(type='PseudoBBoxCoder'), [0, 0, 10, 20], [1, 2, 3, 4], [1, 2, 3, 4]),
    ],
)
def test_codes(cfg, prior, box, code):
    coder = TASK_UTILS.build(cfg)
    torch.testing.assert_close(coder.encode(tensor(prior), tensor(box)), tensor(code))
    torch.testing.assert_close(coder.decode(tensor(prior), tensor(code)), tensor(box))


@pytest.mark.parametrize('cfg', BOX_CODERS)
def test_decoding_undoes_encoding_in_any_shape(cfg):
    coder = TASK_UTILS.build(cfg)
    torch.manual_seed(0)
    low = torch.rand(2, 7, 2) * 40
    priors = torch.cat([low, low + torch.rand(2, 7, 2) * 30 + 4], -1)
    boxes = torch.cat([priors[..., :2] - 3, priors[..., 2:] + 5], -1)
    code = coder.encode(priors, boxes)
    assert code.shape == (2, 7, coder.encode_size)
    torch.testing.assert_close(coder.decode(priors, code), boxes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(coder.decode(priors[0], code[0]), boxes[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('cfg', [cfg for cfg in BOX_CODERS if cfg['type'] != 'PseudoBBoxCoder'])
def test_boxes_are_clipped_to_each_picture(cfg):
    priors = tensor([10, 10, 30, 30], [40, 20, 60, 40]).expand(2, -1, -1)
    coder = TASK_UTILS.build(cfg)
    code = coder.encode(priors, tensor([-5, -5, 50, 50], [30, 10, 90, 90]).expand(2, -1, -1))
    found = coder.decode(priors, code, max_shape=[(40, 45), (100, 80)])
    expected = [[[0, 0, 45, 40], [30, 10, 45, 40]], [[0, 0, 50, 50], [30, 10, 80, 90]]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-4)
    one = coder.decode(priors[0], code[0], max_shape=(40, 45, 3))
    torch.testing.assert_close(one, found[0])
    unclipped = TASK_UTILS.build(dict(cfg, clip_border=False)).decode(priors[0], code[0], max_shape=(40, 45, 3))
    assert unclipped.min() < -4


def test_points():
    coder = TASK_UTILS.build(dict(type='DistancePointBBoxCoder'))
    point, box, distances = tensor([10, 20]), tensor([4, 18, 15, 30]), tensor([6, 2, 5, 10])
    assert torch.equal(coder.encode(point, box), distances)
    assert torch.equal(coder.decode(point, distances), box)
    assert torch.equal(coder.encode(point, box, max_dis=6, eps=0.5), tensor([5.5, 2, 5, 5.5]))
    assert torch.equal(coder.decode(point, distances, max_shape=(25, 12)), tensor([4, 18, 12, 25]))
    stays = TASK_UTILS.build(dict(type='DistancePointBBoxCoder', clip_border=False))
    assert torch.equal(stays.decode(point, distances, max_shape=(25, 12)), box)


def test_sizes_and_centres_are_bounded():
    prior, code = tensor([0, 0, 10, 10]), tensor([9, 0, 100, -100])
    x1, y1, x2, y2 = TASK_UTILS.build(dict(type='DeltaXYWHBBoxCoder')).decode(prior, code)[0].tolist()
    assert x2 - x1 == pytest.approx(10 * 1000 / 16, rel=1e-4)
    assert y2 - y1 == pytest.approx(10 * 16 / 1000, rel=1e-4)
    clamped = TASK_UTILS.build(dict(type='DeltaXYWHBBoxCoder', add_ctr_clamp=True, ctr_clamp=32))
    x1, _, x2, _ = clamped.decode(prior, tensor([9, 0, 0, 0]))[0].tolist()
    assert (x1 + x2) / 2 == pytest.approx(5 + 32)


def test_classes_are_decoded_alike():
    coder = TASK_UTILS.build(dict(type='DeltaXYWHBBoxCoder'))
    prior = tensor([0, 0, 10, 20], [5, 5, 9, 9])
    codes = torch.randn(2, 12)
    found = coder.decode(prior, codes)
    for c in range(3):
        torch.testing.assert_close(found[:, 4 * c : 4 * c + 4], coder.decode(prior, codes[:, 4 * c : 4 * c + 4]))


def test_negative_distances_of_an_anchor_are_zero():
    coder = TASK_UTILS.build(dict(type='AnchorPointBBoxCoder'))
    found = coder.decode(tensor([0, 0, 64, 64]), tensor([-3, 1, 2, -1]))
    assert found.tolist() == [[32, 24, 48, 32]]


def test_yolo_by_hand():
    coder = TASK_UTILS.build(dict(type='YOLOBBoxCoder'))
    anchors, boxes = torch.tensor([[0.0, 0, 16, 32]]), torch.tensor([[4.0, 8, 20, 24]])
    encoded = coder.encode(anchors, boxes, 16)
    torch.testing.assert_close(encoded, torch.tensor([[0.75, 0.5, 0.0, -0.6931472]]))
    torch.testing.assert_close(coder.decode(anchors, encoded, torch.tensor([[16]])), boxes)
    far = coder.encode(anchors, boxes + 100, 16)[0, :2]
    assert far.tolist() == pytest.approx([1 - 1e-6] * 2)


def test_buckets_by_hand():
    """A square of side 12 has six buckets of width 2 across; its left side lies between the second and the third."""
    coder = TASK_UTILS.build(dict(type='BucketingBBoxCoder', num_buckets=6, scale_factor=1.0))
    square, truth = torch.tensor([[0.0, 0, 12, 12]]), torch.tensor([[3.5, 1, 11, 8.8]])
    offsets, weights, labels, counted = (value.view(4, 3) for value in coder.encode(square, truth))
    # Centres at 1, 3, 5 from the left and top, 11, 9, 7 from the right and bottom.
    assert offsets[0].tolist() == pytest.approx([-1.25, -0.25, 0.75])
    assert labels.tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert weights.tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0], [0, 1, 1]]  # the second nearest less than a width away
    assert counted.tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 1, 0]]
    logits = torch.where(labels > 0, 9.0, 0.0).view(1, -1)
    boxes, sure = coder.decode(square, (logits, offsets.view(1, -1)))
    torch.testing.assert_close(boxes, truth)
    assert 0.99 < sure.item() <= 1
    assert coder.decode(square, (logits, offsets.view(1, -1)), max_shape=(8, 9))[0].tolist() == [[3.5, 1, 8, 7]]
    with pytest.raises(ValueError, match='offset_topk=9 must be from 1 to 3'):
        TASK_UTILS.build(dict(type='BucketingBBoxCoder', num_buckets=6, scale_factor=1.0, offset_topk=9))


def test_legacy_deltas_by_hand():
    coder = TASK_UTILS.build(dict(type='LegacyDeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]))
    anchors, boxes = torch.tensor([[0.0, 0, 9, 19]]), torch.tensor([[5.0, 0, 14, 19]])  # ten and twenty pixels
    encoded = coder.encode(anchors, boxes)
    torch.testing.assert_close(encoded, torch.tensor([[5.0, 0, 0, 0]]))
    # Without the half pixel a decoded box reaches from -0.5 to 9.5.
    torch.testing.assert_close(coder.decode(anchors, encoded), torch.tensor([[4.5, -0.5, 14.5, 19.5]]))
    assert coder.decode(anchors, encoded, max_shape=(16, 12)).tolist() == [[4.5, 0, 11, 15]]
    both = coder.decode(anchors.repeat(2, 1)[:, None], encoded.repeat(2, 1)[:, None], max_shape=[(16, 12), (30, 30)])
    assert both.tolist() == [[[4.5, 0, 11, 15]], [[4.5, 0, 14.5, 19.5]]]
    classes = coder.decode(anchors, encoded.repeat(1, 3))
    assert classes.shape == (1, 12)


def test_boxes_of_glip_end_with_their_last_pixel():
    coder = TASK_UTILS.build(dict(type='DeltaXYWHBBoxCoderForGLIP', target_stds=(0.1, 0.1, 0.2, 0.2)))
    anchors, deltas = torch.tensor([[0.0, 0, 10, 20], [30, 40, 50, 60]]), torch.zeros(2, 4)
    assert coder.decode(anchors, deltas).tolist() == [[0, 0, 9, 19], [30, 40, 49, 59]]
    deltas[1, 0] = 10.0  # by its width to the right
    assert coder.decode(anchors, deltas, max_shape=(50, 60)).tolist() == [[0, 0, 9, 19], [50, 40, 59, 49]]
    pair = coder.decode(anchors[None].repeat(2, 1, 1), deltas[None].repeat(2, 1, 1), max_shape=[(50, 60), (100, 55)])
    assert pair[:, 1].tolist() == [[50, 40, 59, 49], [50, 40, 54, 59]]


def test_overlaps_of_boxes_that_end_with_their_last_pixel():
    calculator = TASK_UTILS.build(dict(type='BboxOverlaps2D_GLIP'))
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 4, 9], [9, 9, 12, 12]])
    torch.testing.assert_close(calculator(boxes[:1], boxes), torch.tensor([[1.0, 0.5, 1 / 115]]))
    with pytest.raises(NotImplementedError, match="mode 'iou' alone, not 'giou'"):
        calculator(boxes, boxes, mode='giou')
