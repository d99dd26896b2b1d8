"""What every loss has in common; the numbers are in ``test_values.py``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet.registry import MODELS

N, C = 6, 3


@dataclass
class Case:
    """A loss, and what it is called with on N samples."""

    config: dict[str, Any]
    kind: str
    weight_shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        return '-'.join(str(value) for value in self.config.values() if not isinstance(value, dict))

    def pred(self, n: int) -> torch.Tensor:
        shape = {
            'boxes': (n, 4),
            'values': (n, 4),
            'masks': (n, C, 2, 3),
            'seesaw': (n, C + 2),
            'channels': (n, C + 1),
        }.get(self.kind, (n, C))
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        if self.kind == 'boxes':
            return torch.cat([x[:, :2], x[:, :2] + 2 + x[:, 2:].abs()], 1)
        if self.kind in ('probabilities', 'heatmap', 'dice'):
            return x.sigmoid()
        return x

    def target(self, n: int) -> Any:
        generator = torch.Generator().manual_seed(4)
        uniform = lambda *shape: torch.rand(shape, generator=generator, dtype=torch.float64)
        labels = torch.arange(n) % (C + 1)
        if self.kind == 'boxes':
            corner = uniform(n, 2)
            return torch.cat([corner, corner + 1 + uniform(n, 2)], 1)
        return {
            'values': uniform(n, 4),
            'labels': labels,
            'probabilities': labels,
            'classes': labels % C,
            'softmax': labels % C,
            'seesaw': labels,
            'channels': labels,
            'quality': (labels, uniform(n)),
            'distances': uniform(n) * (C - 1.01),
            'dense': uniform(n, C) * (uniform(n, C) > 0.5),
            'binary': (uniform(n, C) > 0.5).double(),
            'heatmap': uniform(n, C) * 0.9,
            'dice': (uniform(n, C) > 0.5).double(),
            'masks': (uniform(n, 2, 3) > 0.5).double(),
        }[self.kind]

    def weight(self, n: int, value: float = 1.0) -> torch.Tensor:
        return torch.full((n, *self.weight_shape), value, dtype=torch.float64)


def case(type: str, kind: str, weight_shape: tuple[int, ...] = (), **options: Any):
    built = Case({'type': type, **options}, kind, weight_shape)
    return pytest.param(built, id=str(built))


ELEMENTWISE = [
    case('L1Loss', 'values', (4,)),
    case('SmoothL1Loss', 'values', (4,), beta=0.3),
    case('MSELoss', 'values', (4,)),
    case('BalancedL1Loss', 'values', (4,)),
    case('IoULoss', 'boxes', (4,)),
    case('IoULoss', 'boxes', mode='linear'),
    case('IoULoss', 'boxes', mode='square'),
    case('BoundedIoULoss', 'boxes', (4,)),
    case('GIoULoss', 'boxes', (4,)),
    case('DIoULoss', 'boxes', (4,)),
    case('CIoULoss', 'boxes'),
    case('EIoULoss', 'boxes', (4,)),
    case('SIoULoss', 'boxes', (4,)),
    case('SIoULoss', 'boxes', neg_gamma=True),
    case('CrossEntropyLoss', 'softmax'),
    case('CrossEntropyLoss', 'softmax', avg_non_ignore=True, ignore_index=1),
    case('CrossEntropyLoss', 'labels', use_sigmoid=True),
    case('CrossEntropyLoss', 'labels', use_sigmoid=True, class_weight=[1.0, 2.0, 3.0], avg_non_ignore=True),
    case('CrossEntropyLoss', 'binary', (C,), use_sigmoid=True),
    case('CrossEntropyCustomLoss', 'labels', use_sigmoid=True, num_classes=C),
    case('FocalLoss', 'labels'),
    case('FocalLoss', 'labels', (C,), gamma=1.5, alpha=0.4),
    case('FocalLoss', 'dense', (C,)),
    case('FocalLoss', 'probabilities', activated=True),
    case('FocalCustomLoss', 'labels', num_classes=C),
    case('QualityFocalLoss', 'quality'),
    case('QualityFocalLoss', 'dense'),
    case('DistributionFocalLoss', 'distances'),
    case('IoUAwareBCELoss', 'dense'),
    case('MatchabilityAwareLoss', 'dense'),
    case('VarifocalLoss', 'dense'),
    case('VarifocalLoss', 'dense', detach_scale=True),
    case('VarifocalLoss', 'dense', (C,), iou_weighted=False),
    case('GaussianFocalLoss', 'heatmap', (C,)),
    case('DiceLoss', 'binary'),
    case('DiceLoss', 'dice', activate=False, naive_dice=True, eps=1.0),
    case('KnowledgeDistillationKLDivLoss', 'dense', T=2),
    case('ArcFaceLoss', 'labels', num_classes=C, in_channels=C, scale=4.0),
    case('MultiPosCrossEntropyLoss', 'binary'),
]
OTHERS = [
    case('CrossEntropyLoss', 'masks', use_mask=True),
    case('GHMC', 'labels', momentum=0.7),
    case('GHMC', 'binary', (C,), bins=5),
    case('GHMR', 'values', (4,), momentum=0.7),
    case('SeesawLoss', 'seesaw', num_classes=C, return_dict=False),
    case('EQLV2Loss', 'channels', num_classes=C),
    case('L2Loss', 'binary', (C,), pos_margin=0.1, neg_margin=0.1, neg_pos_ub=1),
    case('MarginL2Loss', 'binary', (C,), neg_pos_ub=3, pos_margin=0, neg_margin=0.1, hard_mining=True),
    case('TripletLoss', 'softmax'),
]


def compute(case: Case, module, pred, n: int, weight=None, **kwargs):
    kind, name = case.kind, case.config['type']
    target = case.target(n)
    if name == 'TripletLoss':
        return module(pred, target)
    if kind == 'masks':
        sample_weight = None if weight is None else weight
        return module(pred, target, torch.arange(n) % C, sample_weight=sample_weight, **kwargs)
    if name in ('GHMC', 'GHMR') and weight is None:
        weight = case.weight(n)
    if name == 'GaussianFocalLoss':
        return module(pred, target, weight=weight, **kwargs)
    return module(pred, target, weight, **kwargs)


def build(case: Case):
    torch.manual_seed(0)
    return MODELS.build(case.config).double()


@pytest.mark.parametrize('case', [*ELEMENTWISE, *OTHERS])
def test_gradient_and_empty(case):
    module = build(case)
    pred = case.pred(N).requires_grad_()
    loss = compute(case, module, pred, N)
    loss.sum().backward()
    assert loss.isfinite().all() and loss.sum() > 0
    assert pred.grad.isfinite().all() and pred.grad.abs().sum() > 0

    none = case.pred(0).requires_grad_()
    loss = compute(case, build(case), none, 0).sum()
    loss.backward()
    assert loss == 0 and none.grad.shape == none.shape


@pytest.mark.parametrize('case', [p for p in (*ELEMENTWISE, *OTHERS) if p.values[0].config['type'] != 'TripletLoss'])
def test_zero_weight_is_a_finite_zero_with_gradient(case):
    module = build(case)
    pred = case.pred(N).requires_grad_()
    loss = compute(case, module, pred, N, weight=case.weight(N, 0.0)).sum()
    loss.backward()
    assert loss == 0
    assert torch.equal(pred.grad, torch.zeros_like(pred))


@pytest.mark.parametrize('case', ELEMENTWISE)
def test_reductions_agree(case):
    module = build(case)
    pred, weight = case.pred(N), case.weight(N) * 0.5
    elements = compute(case, module, pred, N, weight=weight, reduction_override='none')
    total = compute(case, module, pred, N, weight=weight, reduction_override='sum')
    torch.testing.assert_close(elements.sum(), total)
    for avg_factor in (7.0, torch.tensor(7.0)):
        mean = compute(case, module, pred, N, weight=weight, avg_factor=avg_factor)
        torch.testing.assert_close(mean, total / 7, atol=0, rtol=1e-6)
    none = compute(case, module, pred, N, weight=weight, avg_factor=0.0)
    torch.testing.assert_close(none, total / torch.finfo(torch.float32).eps)
    with pytest.raises(ValueError, match='avg_factor'):
        compute(case, module, pred, N, weight=weight, reduction_override='sum', avg_factor=2.0)
    with pytest.raises(ValueError, match='median'):
        compute(case, module, pred, N, reduction_override='median')
    module.loss_weight = 3.0
    torch.testing.assert_close(compute(case, module, pred, N, weight=weight, reduction_override='sum'), 3.0 * total)


@pytest.mark.parametrize('case', [p for p in ELEMENTWISE if p.values[0].kind != 'heatmap'] + [OTHERS[0]])
def test_gradcheck(case):
    module = build(case)
    weight = case.weight(N) * torch.linspace(0.5, 1, N).double().reshape(N, *(1,) * len(case.weight_shape))
    if case.config['type'] in ('CIoULoss', 'IoUAwareBCELoss', 'MatchabilityAwareLoss') or case.config.get(
        'detach_scale'
    ):
        pytest.skip('the trade-off factor of CIoU, or the scale of negatives, is a constant by definition')
    assert torch.autograd.gradcheck(
        lambda pred: compute(case, module, pred, N, weight=weight), case.pred(N).requires_grad_()
    )


@pytest.mark.parametrize('case', [*ELEMENTWISE, *OTHERS])
def test_no_step_depends_on_data(case):
    """A fake tensor has no values: reading one, or an operator whose output size depends on them, raises."""
    with FakeTensorMode():
        module = MODELS.build(case.config)
        pred = case.pred(N).detach().requires_grad_()
        weight = case.weight(N)
        compute(case, module, pred, N, weight=weight).sum().backward()
        if case in [p.values[0] for p in ELEMENTWISE]:
            compute(case, module, pred, N, weight=weight, avg_factor=torch.tensor(2.0)).sum().backward()


@pytest.mark.parametrize(
    'name', ['IoULoss', 'BoundedIoULoss', 'GIoULoss', 'DIoULoss', 'CIoULoss', 'EIoULoss', 'SIoULoss']
)
def test_box_losses_are_finite_everywhere(name):
    """Masked elements may hold anything finite: points, inverted boxes, equal and far boxes."""
    boxes = torch.tensor(
        [[0, 0, 0, 0], [5, 5, 2, 2], [0, 0, 1e4, 1e4], [3, 3, 3, 8], [-7, 2, 9, 1], [1e4, 1e4, 1e4 + 1, 1e4 + 1]]
    ).float()
    pred = boxes.repeat_interleave(len(boxes), 0).requires_grad_()
    loss = MODELS.build({'type': name})(pred, boxes.repeat(len(boxes), 1), reduction_override='none')
    loss.sum().backward()
    assert loss.isfinite().all() and pred.grad.isfinite().all()


def test_wrong_options_are_named():
    for config, text in [
        ({'type': 'IoULoss', 'mode': 'cubic'}, 'cubic'),
        ({'type': 'L1Loss', 'reduction': 'avg'}, 'avg'),
        ({'type': 'FocalLoss', 'use_sigmoid': False}, 'use_sigmoid'),
        ({'type': 'CrossEntropyLoss', 'use_sigmoid': True, 'use_mask': True}, 'exclude'),
        ({'type': 'ArcFaceLoss', 'num_classes': 2, 'in_channels': 2, 'margin': math.pi}, 'angle'),
        ({'type': 'FocalCustomLoss'}, 'num_classes'),
    ]:
        with pytest.raises(ValueError, match=text):
            MODELS.build(config)


@pytest.mark.parametrize('name', ['L1Loss', 'SmoothL1Loss', 'MSELoss', 'BalancedL1Loss'])
def test_shapes_do_not_broadcast(name):
    with pytest.raises(ValueError, match=r'\(3, 1\) and targets \(3,\)'):
        MODELS.build({'type': name})(torch.zeros(3, 1), torch.zeros(3))
