"""The kernel of the focal loss gives the numbers of the way that is taken without one."""

import pytest
import torch

from mmdet.ops.focal_loss import focal_loss_sum

CASES = [
    # rows, classes, kind of weight, gamma
    (1, 1, None, 2.0),
    (70, 80, 'row', 2.0),
    (257, 17, 'element', 2.0),
    (33, 5, 'row', 1.5),
    (33, 5, None, 0.0),
]


def case(rows, classes, kind, device='cpu', dtype=torch.float32):
    generator = torch.Generator().manual_seed(rows)
    logits = (torch.randn(rows, classes, generator=generator) * 6).to(device, dtype)
    labels = torch.randint(-1, classes + 2, (rows,), generator=generator).to(device)
    shape = dict(row=(rows,), element=(rows, classes)).get(kind)
    weight = None if shape is None else torch.rand(shape, generator=generator).to(device)
    return logits, labels, weight


def expected(logits, labels, weight, gamma):
    """Sum and gradient in double precision."""
    logits = logits.detach().double().cpu().requires_grad_()
    total = focal_loss_sum(logits, labels.cpu(), None if weight is None else weight.double().cpu(), gamma, 0.25)
    total.backward()
    return total.detach(), logits.grad


def assert_close(total, grad, want):
    torch.testing.assert_close(total.double().cpu(), want[0], rtol=1e-5, atol=1e-6)
    tolerance = dict(rtol=1e-4, atol=1e-6) if grad.dtype == torch.float32 else dict(rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(grad.double().cpu(), want[1], **tolerance)


INTERPRETED = """
from test_focal_loss_kernel import CASES, assert_close, case, expected
from mmdet.ops.focal_loss_kernel import launch
for rows, classes, kind, gamma in CASES:
    data = case(rows, classes, kind)
    total, grad = launch(*data, gamma, 0.25)
    assert_close(total, grad, expected(*data, gamma))
"""


def test_the_kernel_in_the_interpreter(interpret):
    interpret(INTERPRETED)


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('rows, classes, kind, gamma', CASES)
def test_the_kernel_on_a_gpu(rows, classes, kind, gamma, dtype):
    logits, labels, weight = case(rows, classes, kind, 'cuda', dtype)
    logits.requires_grad_()
    total = focal_loss_sum(logits, labels, weight, gamma, 0.25)
    total.backward()
    assert_close(total.detach(), logits.grad, expected(logits, labels, weight, gamma))
