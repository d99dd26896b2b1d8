import pytest
import torch

from mmdet.structures.bbox import bbox_overlaps

A = torch.tensor([[0.0, 0, 10, 10], [10, 10, 20, 20], [32, 32, 38, 42]])
B = torch.tensor([[0.0, 0, 10, 20], [0, 10, 10, 19], [10, 10, 20, 20]])


@pytest.mark.parametrize(
    ('mode', 'expected'),
    [
        ('iou', [[0.5, 0, 0], [0, 0, 1], [0, 0, 0]]),
        ('iof', [[1, 0, 0], [0, 0, 1], [0, 0, 0]]),
        # enclosing boxes of (A0, B1): 10 x 19 = 190 = union; (A0, B2): 400 against 200
        ('giou', [[0.5, 0, -0.5], [-0.25, -10 / 200, 1], None]),
    ],
)
def test_pairs(mode, expected):
    overlaps = bbox_overlaps(A, B, mode)
    for row, want in zip(overlaps, expected, strict=True):
        if want is not None:
            torch.testing.assert_close(row, torch.tensor(want, dtype=torch.float32))


@pytest.mark.parametrize('mode', ['iou', 'iof', 'giou'])
def test_aligned_and_batched_agree_with_pairs(mode):
    boxes = torch.rand(2, 4, 2, 2).cumsum(2).flatten(2) * 50
    other = torch.rand(2, 4, 2, 2).cumsum(2).flatten(2) * 50
    pairs = torch.stack([bbox_overlaps(b, o, mode) for b, o in zip(boxes, other, strict=True)])
    torch.testing.assert_close(bbox_overlaps(boxes, other, mode), pairs)
    aligned = bbox_overlaps(boxes, other, mode, is_aligned=True)
    torch.testing.assert_close(aligned, pairs.diagonal(dim1=1, dim2=2))


def test_empty():
    none = torch.zeros(0, 4)
    assert bbox_overlaps(none, B).shape == (0, 3)
    assert bbox_overlaps(A, none).shape == (3, 0)
    assert bbox_overlaps(none, none, is_aligned=True).shape == (0,)
    assert bbox_overlaps(torch.zeros(2, 3, 4), torch.zeros(2, 0, 4)).shape == (2, 3, 0)


def test_areas_of_half_precision_boxes_do_not_overflow():
    boxes = torch.tensor([[0.0, 0, 800, 800], [0, 0, 800, 400]]).half()
    overlaps = bbox_overlaps(boxes, boxes)
    assert overlaps.dtype == torch.float16
    torch.testing.assert_close(overlaps, torch.tensor([[1.0, 0.5], [0.5, 1.0]]).half())


def test_degenerate_boxes_are_finite():
    point = torch.tensor([[5.0, 5, 5, 5]])
    for mode in ('iou', 'iof', 'giou'):
        assert torch.isfinite(bbox_overlaps(point, point, mode)).all()


@pytest.mark.parametrize('is_aligned', [True, False])
def test_gradient(is_aligned):
    boxes = (torch.rand(3, 2, 2, dtype=torch.float64).cumsum(1).flatten(1) + 0.1).requires_grad_()
    other = torch.rand(3, 2, 2, dtype=torch.float64).cumsum(1).flatten(1) + 0.15
    assert torch.autograd.gradcheck(lambda x: bbox_overlaps(x, other, 'giou', is_aligned), boxes)


def test_errors():
    with pytest.raises(ValueError, match="'diou'"):
        bbox_overlaps(A, B, 'diou')
    with pytest.raises(ValueError, match='3 and 2'):
        bbox_overlaps(A, B[:2], is_aligned=True)
    with pytest.raises(ValueError, match=r'\(2, 5\)'):
        bbox_overlaps(torch.zeros(2, 5), B)
