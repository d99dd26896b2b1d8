"""Losses against values worked out by hand or from the printed formula."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mmdet.models import losses
from mmdet.models.losses import (
    accuracy,
    carl_loss,
    cross_entropy,
    isr_p,
    weight_reduce_loss,
    weighted_loss,
)
from mmdet.registry import MODELS

T = torch.tensor


def softplus(x):
    return math.log1p(math.exp(x))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_function_wins_over_submodule_of_its_name():
    import mmdet.models.losses.iou_loss

    assert callable(losses.iou_loss) and callable(losses.accuracy)
    assert mmdet.models.losses.iou_loss is losses.iou_loss
    from mmdet.models.losses.iou_loss import IoULoss

    assert IoULoss is losses.IoULoss


def test_weight_reduce_loss():
    loss = T([1.0, 2.0, 3.0])
    weight = T([1.0, 0.0, 2.0])
    assert weight_reduce_loss(loss, weight, 'none').tolist() == [1, 0, 6]
    assert weight_reduce_loss(loss, weight, 'sum') == 7
    assert weight_reduce_loss(loss, weight, 'mean') == pytest.approx(7 / 3)
    assert weight_reduce_loss(loss, weight, 'mean', 2) == 3.5
    assert weight_reduce_loss(loss[:0], None, 'mean') == 0

    @weighted_loss
    def gap(pred, target, power=1):
        """Docs."""
        return (pred - target).abs() ** power

    assert gap.__doc__ == 'Docs.'
    assert gap(loss, T([0.0, 0.0, 0.0]), weight, avg_factor=7, power=2) == pytest.approx(19 / 7)


@pytest.mark.parametrize(
    ('config', 'expected'),
    [
        ({'type': 'L1Loss'}, [0.5, 2.0]),
        ({'type': 'MSELoss'}, [0.25, 4.0]),
        ({'type': 'SmoothL1Loss'}, [0.125, 1.5]),
        ({'type': 'SmoothL1Loss', 'beta': 0.25}, [0.375, 1.875]),
        # b = e^3 - 1; inside: 0.5 / b * (0.5 b + 1) * ln(0.5 b + 1) - 0.25; outside: 1.5 * 2 + 1.5 / b - 0.5
        ({'type': 'BalancedL1Loss'}, [0.400568, 2.578594]),
        ({'type': 'GHMR', 'mu': 0.02, 'bins': 1}, [0.480400, 1.980100]),
    ],
)
def test_regression(config, expected):
    module = MODELS.build(config)
    loss = module(T([[0.0], [3.0]]), T([[0.5], [1.0]]), torch.ones(2, 1), reduction_override='none')
    torch.testing.assert_close(loss[:, 0], T(expected), atol=1e-5, rtol=1e-5)


# Boxes of 4 x 4 and 4 x 2; overlap 2 x 2 = 4, union 20, enclosing box 6 x 4, centres (2, 2) and (4, 1).
PRED, TARGET = T([[0.0, 0.0, 4.0, 4.0]]), T([[2.0, 0.0, 6.0, 2.0]])
IOU = 0.2
ASPECT = 4 / math.pi**2 * (math.atan(2) - math.atan(1)) ** 2


@pytest.mark.parametrize(
    ('config', 'expected'),
    [
        ({'type': 'IoULoss'}, -math.log(IOU)),
        ({'type': 'IoULoss', 'mode': 'linear'}, 1 - IOU),
        ({'type': 'IoULoss', 'mode': 'square'}, 1 - IOU**2),
        ({'type': 'GIoULoss'}, 1 - (IOU - 4 / 24)),
        ({'type': 'DIoULoss'}, 1 - (IOU - 5 / 52)),
        ({'type': 'CIoULoss'}, 1 - (IOU - 5 / 52)),  # the aspect term needs an IoU above one half
        ({'type': 'EIoULoss'}, 1 - IOU - 0.05),
    ],
)
def test_iou_losses(config, expected):
    assert MODELS.build(config)(PRED, TARGET).item() == pytest.approx(expected, abs=1e-5)


def test_iou_losses_more():
    # overlap 12, union 16: the aspect term counts.
    loss = MODELS.build({'type': 'CIoULoss'})(PRED, T([[0.0, 0.0, 4.0, 2.5]]))
    iou, distance = 10 / 16, 0.75**2 / 32
    v = 4 / math.pi**2 * (math.atan(1.6) - math.atan(1)) ** 2
    assert loss.item() == pytest.approx(1 - (iou - distance - v * v / (1 - iou + v)), abs=1e-5)
    # disjoint boxes: a signed overlap of -(2 * 2) pulls them together
    apart = MODELS.build({'type': 'EIoULoss'})(PRED, T([[6.0, 6.0, 8.0, 8.0]]))
    assert apart.item() > 1
    # one box on the other: no loss
    for name in ('IoULoss', 'GIoULoss', 'DIoULoss', 'CIoULoss', 'EIoULoss', 'SIoULoss', 'BoundedIoULoss'):
        assert MODELS.build({'type': name})(PRED, PRED).item() == pytest.approx(0, abs=1e-4)
    # x: |shift| 2 -> 1 - (4 - 4) / (4 + 4) = 1; y: shift -1 -> 1 - 0 / 4 = 1; width equal; height 1 - 2 / 4
    bounded = MODELS.build({'type': 'BoundedIoULoss'})(PRED, TARGET, reduction_override='none')
    torch.testing.assert_close(bounded, T([[0.9, 0.9, 0.0, 0.4]]), atol=1e-3, rtol=1e-3)
    # SIoU: shift (2, -1) in an enclosing box of 6 x 4
    siou = MODELS.build({'type': 'SIoULoss'})(PRED, TARGET)
    angle = math.sin(2 * math.asin(1 / math.sqrt(5)))
    distance = 2 - math.exp(-(2 - angle) * (2 / 6) ** 2) - math.exp(-(2 - angle) * (1 / 4) ** 2)
    shape = (1 - math.exp(-0.5)) ** 4
    assert siou.item() == pytest.approx(1 - IOU + 0.5 * (distance + shape), abs=1e-4)


def test_weight_per_coordinate_is_averaged():
    weight = T([[1.0, 1.0, 0.0, 0.0]])
    assert MODELS.build({'type': 'GIoULoss'})(PRED, TARGET, weight).item() == pytest.approx((1 - IOU + 4 / 24) / 2)


LOGITS = T([[2.0, -1.0], [0.5, 1.0], [-1.0, 0.0]])
LABELS = T([0, 2, 1])  # 2 is background


def expected_table(positive, negative):
    return T([[positive(2.0), negative(-1.0)], [negative(0.5), negative(1.0)], [negative(-1.0), positive(0.0)]])


@pytest.mark.parametrize(
    ('config', 'positive', 'negative'),
    [
        ({'type': 'CrossEntropyLoss', 'use_sigmoid': True}, lambda x: softplus(-x), softplus),
        (
            {'type': 'FocalLoss'},
            lambda x: 0.25 * (1 - sigmoid(x)) ** 2 * softplus(-x),
            lambda x: 0.75 * sigmoid(x) ** 2 * softplus(x),
        ),
        (
            {'type': 'FocalLoss', 'gamma': 1.5, 'alpha': 0.4},
            lambda x: 0.4 * (1 - sigmoid(x)) ** 1.5 * softplus(-x),
            lambda x: 0.6 * sigmoid(x) ** 1.5 * softplus(x),
        ),
    ],
)
def test_sigmoid_classification(config, positive, negative):
    module = MODELS.build(config)
    table = expected_table(positive, negative)
    torch.testing.assert_close(module(LOGITS, LABELS, reduction_override='none'), table)
    one_hot = F.one_hot(LABELS, 3)[:, :2]
    torch.testing.assert_close(module(LOGITS, one_hot, reduction_override='none'), table)
    weighted = module(LOGITS, LABELS, T([1.0, 0.0, 2.0]), avg_factor=4)
    torch.testing.assert_close(weighted, (table[0].sum() + 2 * table[2].sum()) / 4)
    if config['type'] == 'FocalLoss':
        activated = MODELS.build({**config, 'activated': True})
        torch.testing.assert_close(activated(LOGITS.sigmoid(), LABELS, reduction_override='none'), table)


def test_cross_entropy_ignores():
    sigmoid_loss = MODELS.build({'type': 'CrossEntropyLoss', 'use_sigmoid': True})
    loss = sigmoid_loss(LOGITS, T([0, -1, 255]), ignore_index=255, reduction_override='none')
    assert loss[1:].sum() == 0 and loss[0].sum() > 0
    for use_sigmoid in (True, False):
        module = MODELS.build(
            {'type': 'CrossEntropyLoss', 'use_sigmoid': use_sigmoid, 'ignore_index': 255, 'avg_non_ignore': True}
        )
        torch.testing.assert_close(module(LOGITS, T([0, 1, 255])), module(LOGITS[:2], T([0, 1])))
    weights = MODELS.build({'type': 'CrossEntropyLoss', 'class_weight': [1.0, 3.0]})
    log_softmax = LOGITS.log_softmax(1)
    torch.testing.assert_close(
        weights(LOGITS, T([0, 1, 1]), avg_factor=2), -(log_softmax[0, 0] + 3 * log_softmax[1:, 1].sum()) / 2
    )
    assert cross_entropy(LOGITS, T([0, -100, -100]), reduction='sum') == -log_softmax[0, 0]


def test_binary_label_of_one_logit_column():
    """RPN: one logit per anchor, label 0 is object, 1 is background."""
    loss = MODELS.build({'type': 'CrossEntropyLoss', 'use_sigmoid': True})(
        T([[2.0], [2.0]]), T([0, 1]), reduction_override='none'
    )
    torch.testing.assert_close(loss, T([[softplus(-2.0)], [softplus(2.0)]]))


def test_mask_cross_entropy():
    module = MODELS.build({'type': 'CrossEntropyLoss', 'use_mask': True})
    pred = T([[[[1.0]], [[9.0]]], [[[9.0]], [[-2.0]]]])
    loss = module(pred, T([[[1.0]], [[0.0]]]), T([0, 1]))
    torch.testing.assert_close(loss, T([(softplus(-1.0) + softplus(-2.0)) / 2]))
    padded = module(torch.cat([pred, pred]), torch.ones(4, 1, 1), T([0, 1, 0, 0]), sample_weight=T([1.0, 0, 0, 0]))
    torch.testing.assert_close(padded, T([softplus(-1.0)]))


def test_custom_channels():
    module = MODELS.build({'type': 'FocalCustomLoss', 'num_classes': 2})
    assert module.get_cls_channels(2) == 2
    assert module.get_activation(LOGITS)[:, 2].tolist() == [0, 0, 0]
    assert module.get_accuracy(LOGITS, LABELS)['acc_classes'].item() == 100
    with pytest.raises(ValueError, match='80'):
        module.get_cls_channels(80)
    softmax = MODELS.build({'type': 'CrossEntropyCustomLoss', 'num_classes': 1})
    assert softmax.get_cls_channels(1) == 2
    torch.testing.assert_close(softmax.get_activation(LOGITS), LOGITS.softmax(1))


def test_generalized_focal():
    quality = MODELS.build({'type': 'QualityFocalLoss'})
    score = T([0.7, 0.0, 0.2])
    at = lambda x, y: abs(y - sigmoid(x)) ** 2 * (softplus(x) - x * y)
    expected = T([at(2.0, 0.7) + at(-1.0, 0), at(0.5, 0) + at(1.0, 0), at(-1.0, 0) + at(0.0, 0.2)])
    torch.testing.assert_close(quality(LOGITS, (LABELS, score), reduction_override='none'), expected)
    dense = T([[0.7, 0.0], [0.0, 0.0], [0.0, 0.2]])
    torch.testing.assert_close(quality(LOGITS, dense, reduction_override='none'), expected)
    activated = MODELS.build({'type': 'QualityFocalLoss', 'activated': True})
    torch.testing.assert_close(activated(LOGITS.sigmoid(), dense, reduction_override='none'), expected)

    logits = T([[0.0, 1.0, 2.0]])
    log_softmax = logits.log_softmax(1)[0]
    loss = MODELS.build({'type': 'DistributionFocalLoss'})(logits, T([0.25]))
    torch.testing.assert_close(loss, -(0.75 * log_softmax[0] + 0.25 * log_softmax[1]))


def test_varifocal():
    target = T([[0.8, 0.0]])
    loss = MODELS.build({'type': 'VarifocalLoss'})(T([[1.0, -1.0]]), target, reduction_override='none')
    torch.testing.assert_close(loss, T([[0.8 * (softplus(1.0) - 0.8), 0.75 * sigmoid(-1.0) ** 2 * softplus(-1.0)]]))


def test_varifocal_with_constant_scales():
    logits = T([[0.5, -1.0]]).requires_grad_()
    module = MODELS.build({'type': 'VarifocalLoss', 'detach_scale': True})
    module(logits, T([[0.0, 0.0]]), reduction_override='sum').backward()
    torch.testing.assert_close(logits.grad, T([[0.75 * sigmoid(x) ** 3 for x in (0.5, -1.0)]]))


def test_matchability():
    logits, target = T([[1.0, -1.0]]).requires_grad_(), T([[0.64, 0.0]])
    loss = MODELS.build({'type': 'MatchabilityAwareLoss'})(logits, target, reduction_override='none')
    aim = 0.8**3
    torch.testing.assert_close(loss, T([[softplus(1.0) - aim, sigmoid(-1.0) ** 1.5 * softplus(-1.0)]]))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, T([[sigmoid(1.0) - aim, sigmoid(-1.0) ** 2.5]]))


def test_iou_aware_entropy():
    logits, target = T([[1.0, -1.0]]), T([[0.5, 0.0]])
    loss = MODELS.build({'type': 'IoUAwareBCELoss'})(logits, target, reduction_override='none')
    aim = sigmoid(1.0) ** 0.25 * 0.5**0.75
    positive = -aim * math.log(sigmoid(1.0)) - (1 - aim) * math.log(sigmoid(-1.0))
    torch.testing.assert_close(loss, T([[positive, sigmoid(-1.0) ** 2 * softplus(-1.0)]]))


def test_gaussian_focal():
    pred, target = T([[0.7, 0.4], [0.2, 0.1]]), T([[1.0, 0.5], [0.0, 0.0]])
    module = MODELS.build({'type': 'GaussianFocalLoss', 'pos_weight': 2.0, 'neg_weight': 3.0})
    positive = -math.log(0.7) * 0.3**2
    negative = lambda p, t: -math.log(1 - p) * p**2 * (1 - t) ** 4
    negatives = negative(0.4, 0.5) + negative(0.2, 0) + negative(0.1, 0)
    torch.testing.assert_close(module(pred, target, avg_factor=2), T((2 * positive + 3 * negatives) / 2))
    indexed = module(pred, target, T([0, 0, 1]), T([0, 0, 1]), avg_factor=2, pos_mask=T([True, True, False]))
    torch.testing.assert_close(indexed, T((4 * positive + 3 * negatives) / 2))


def test_dice():
    pred, target = T([[0.5, 1.0]]), T([[1.0, 0.0]])
    squared = MODELS.build({'type': 'DiceLoss', 'activate': False, 'eps': 0.25})
    assert squared(pred, target).item() == pytest.approx(1 - 1.0 / (1.25 + 1 + 0.5))
    naive = MODELS.build({'type': 'DiceLoss', 'activate': False, 'naive_dice': True, 'eps': 1.0})
    assert naive(pred, target).item() == pytest.approx(1 - 2.0 / (1.5 + 1 + 1))


@pytest.mark.parametrize('activate', [True, False])
@pytest.mark.parametrize('kind', [torch.uint8, torch.bool, torch.float32])
def test_the_gradient_of_dice_is_that_of_its_formula(activate, kind):
    torch.manual_seed(0)
    pred, target, weight = torch.rand(3, 4, 5, requires_grad=True), (torch.rand(3, 4, 5) > 0.5).to(kind), T([1.0, 2, 3])
    module = MODELS.build({'type': 'DiceLoss', 'activate': activate})
    p, t = pred.sigmoid() if activate else pred, target.float()
    total = p.square().sum((1, 2)) + t.square().sum((1, 2)) + 2e-3
    expected = (weight * (1 - 2 * (p * t).sum((1, 2)) / total)).sum()
    found = module(pred, target, weight, reduction_override='sum')
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, pred)[0] for loss in (found, expected)))


def test_distillation():
    module = MODELS.build({'type': 'KnowledgeDistillationKLDivLoss', 'T': 2})
    p, q = T([1.0, 0.0]).softmax(0), T([0.0, 0.0]).softmax(0)
    loss = module(T([[0.0, 0.0]]), T([[2.0, 0.0]]))
    torch.testing.assert_close(loss, (p * (p / q).log()).mean() * 4)


def test_ghmc_by_bins():
    """Every occupied bin weighs total / count / number of occupied bins; the average moves only where occupied."""
    module = MODELS.build({'type': 'GHMC', 'bins': 2, 'momentum': 0.5})
    logits = T([[-3.0], [-2.0], [3.0]])  # targets 0: gradients 0.05, 0.12, 0.95
    labels, weight = T([1, 1, 1]), T([1.0, 1.0, 1.0])
    loss = module(logits, labels, weight)
    assert module.acc_sum.tolist() == [1.0, 0.5]
    weights = [3 / 1.0 / 2, 3 / 1.0 / 2, 3 / 0.5 / 2]
    expected = sum(w * softplus(x) for w, x in zip(weights, (-3.0, -2.0, 3.0))) / 3
    assert loss.item() == pytest.approx(expected)
    module(logits[:1], labels[:1], weight[:1])
    assert module.acc_sum.tolist() == [1.0, 0.5]
    module(logits, labels, T([0.0, 0.0, 1.0]))
    assert module.acc_sum.tolist() == [1.0, 0.75]
    assert list(module.state_dict()) == ['edges', 'acc_sum']


def test_seesaw():
    module = MODELS.build({'type': 'SeesawLoss', 'num_classes': 2, 'p': 0.8, 'q': 2.0})
    assert module.get_cls_channels(2) == 4
    cls_score = T([[1.0, 2.0, 0.3, -0.3], [0.5, 0.0, 0.1, 0.2]])
    labels = T([0, 2])
    loss = module(cls_score, labels)
    assert module.cum_samples.tolist() == [1, 0, 1]
    ratio = math.exp(2.0) / math.exp(1.0)  # of the other class's score to the own: compensation ratio ** 2
    expected = math.log(1 + ratio**2 * math.exp(1.0))
    assert loss['loss_cls_classes'].item() == pytest.approx(expected, rel=1e-5)
    objectness = softplus(-0.6) + softplus(-0.1)
    assert loss['loss_cls_objectness'].item() == pytest.approx(objectness / 2, rel=1e-5)
    module.cum_samples.copy_(T([99.0, 10.0, 0.0]))
    loss = module(cls_score, labels)  # class 1 is rare: its penalty falls by (10 / 100) ** 0.8
    assert loss['loss_cls_classes'].item() == pytest.approx(math.log(1 + 0.1**0.8 * ratio**2 * math.e), rel=1e-5)
    scores = module.get_activation(cls_score)
    torch.testing.assert_close(scores.sum(1), torch.ones(2))
    assert set(module.get_accuracy(cls_score, labels)) == {'acc_objectness', 'acc_classes'}


def test_associative_embedding():
    module = MODELS.build({'type': 'AssociativeEmbeddingLoss', 'pull_weight': 1.0, 'push_weight': 1.0})
    first, second = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    first[0, 0] = T([[1.0, 2.0], [0.0, 0.0]])
    second[0, 0] = T([[0.0, 0.0], [3.0, 2.5]])
    match = [[[[0, 0], [1, 0]], [[0, 1], [1, 1]]], []]
    # tags (1, 3) and (2, 2.5): means 2 and 2.25; pull (2 + 0.125) / 2; push twice 0.75 over 2 pairs
    pull, push = module(first, second, match)
    assert pull.item() == pytest.approx(2.125 / 2) and push.item() == pytest.approx(0.75)
    pull, push = module(first, second, [[], []])
    assert pull == 0 and push == 0


def test_arcface():
    module = MODELS.build({'type': 'ArcFaceLoss', 'num_classes': 2, 'in_channels': 2, 'scale': 2.0, 'margin': 0.5})
    module.weight.data.copy_(T([[1.0, 0.0], [0.0, 3.0]]))
    embedding = 5 * T([[math.cos(0.3), math.sin(0.3)]])
    own, other = 2 * math.cos(0.8), 2 * math.sin(0.3)
    assert module(embedding, T([0])).item() == pytest.approx(softplus(other - own), rel=1e-5)
    assert module(embedding, T([2])).item() == 0


def test_triplet():
    module = MODELS.build({'type': 'TripletLoss', 'margin': 0.5})
    # anchors at 0, 1 (identity 0) and 1.2 (identity 1): terms 1 - 1.2 + 0.5, 1 - 0.2 + 0.5, 0 - 0.2 + 0.5
    loss = module(T([[0.0], [1.0], [1.2]]), T([0, 0, 1]))
    assert loss.item() == pytest.approx((0.3 + 1.3 + 0.3) / 3, abs=1e-5)
    assert module(T([[0.0], [1.0]]), T([0, 0])) == 0


def test_margin_l2():
    pred = T([0.9, 0.3, 0.8, 0.05, 0.5])
    target, weight = T([1.0, 0.0, 0.0, 0.0, 0.0]), T([1.0, 1.0, 1.0, 1.0, 0.0])
    hard = MODELS.build({'type': 'MarginL2Loss', 'neg_pos_ub': 2, 'neg_margin': 0.1, 'hard_mining': True})
    # the two hardest negatives: 0.8 and 0.3, each less the margin
    assert hard(pred, target, weight).item() == pytest.approx((0.01 + 0.49 + 0.04) / 3, rel=1e-5)
    drawn = MODELS.build({'type': 'L2Loss', 'neg_pos_ub': 2})
    _, kept, count = drawn.update_weight(pred, target, weight, None)
    assert count == 3 and kept[0] == 1 and kept[4] == 0


def test_multi_positive():
    loss = MODELS.build({'type': 'MultiPosCrossEntropyLoss'})(
        T([[1.0, 2.0, 0.5, 0.0], [3.0, 1.0, 1.0, 1.0]]), T([[1, 1, 0, 0], [0, 0, 0, 0]])
    )
    pairs = sum(math.exp(n - p) for p in (1.0, 2.0) for n in (0.5, 0.0))
    assert loss.item() == pytest.approx(math.log1p(pairs), rel=1e-5)


def test_eqlv2_first_step():
    module = MODELS.build({'type': 'EQLV2Loss', 'num_classes': 1})
    logits = T([[1.0, 2.0], [0.0, -1.0]])
    # pos_neg starts at 100: balance 1, so that positives and negatives weigh 1
    expected = softplus(-1.0) + softplus(-2.0) + softplus(0.0) + softplus(-1.0)
    assert module(logits, T([0, 1])).item() == pytest.approx(expected / 2, rel=1e-5)
    assert module.pos_grad.item() == pytest.approx(1 - sigmoid(1.0)) and module.neg_grad.item() == pytest.approx(0.5)


def test_accuracy():
    pred = T([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
    target = T([1, 1, 0])
    top1, top2 = accuracy(pred, target, topk=(1, 2))
    assert top1.tolist() == pytest.approx([100 / 3]) and top2.tolist() == pytest.approx([200 / 3])
    assert accuracy(pred, target, thresh=0.8).item() == 0
    assert accuracy(pred, target, mask=T([True, False, False])).item() == 100
    assert accuracy(pred[:0], target[:0]).item() == 0
    with pytest.raises(ValueError, match='number of classes, 3'):
        accuracy(pred, target, topk=4)


class Identity:
    """A coder whose deltas are boxes."""

    def decode(self, rois, deltas):
        return deltas


def test_carl():
    scores = T([[0.0, 0.0], [math.log(3.0), 0.0], [5.0, 5.0]])
    pred = T([[1.0] * 4, [2.0] * 4, [9.0] * 4])
    loss = carl_loss(scores, T([0, 0, 2]), pred, torch.zeros(3, 4), losses.L1Loss(), num_class=2)
    # scores 0.5 and 0.75: weights 0.6 and 0.8, scaled to a sum of 2; the third is background
    expected = (0.6 * 4 + 0.8 * 8) * 2 / 1.4 / 3
    assert loss['loss_carl'].tolist() == pytest.approx([expected], rel=1e-5)
    nothing = carl_loss(scores, T([2, 2, 2]), pred, torch.zeros(3, 4), losses.L1Loss(), num_class=2)
    assert nothing['loss_carl'].tolist() == [0]


def test_isr_p():
    """Two ground truths of one class; the best of each comes before the second of the first."""
    box = T([0.0, 0.0, 10.0, 10.0])
    targets = box.repeat(4, 1)
    pred = targets.clone()
    pred[:, 2] = T([9.0, 8.0, 5.0, 1.0])  # IoU 0.9, 0.8 for the first, 0.5 for the second ground truth
    labels, weights = T([0, 0, 0, 1]), torch.ones(4)
    result = [SimpleNamespace(pos_assigned_gt_inds=T([0, 0, 1]), num_gts=2)]
    cls_score = torch.zeros(4, 2)
    new = isr_p(
        cls_score,
        pred,
        (labels, weights, targets, targets),
        pred,
        result,
        losses.CrossEntropyLoss(),
        Identity(),
        num_class=1,
    )
    importance = T([1.0, 1 / 3, 2 / 3]) ** 2
    torch.testing.assert_close(new[1], torch.cat([importance * 3 / importance.sum(), T([1.0])]))
    no_positive = (T([1, 1, 1, 1]), weights, targets, targets)
    empty = [SimpleNamespace(pos_assigned_gt_inds=T([], dtype=torch.long), num_gts=0)]
    new = isr_p(cls_score, pred, no_positive, pred, empty, losses.CrossEntropyLoss(), Identity(), num_class=1)
    assert torch.equal(new[1], weights)
