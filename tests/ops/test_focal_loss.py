"""The sum of the focal loss that is made in blocks, beside the loss of each element."""

import pytest
import torch

from mmdet.ops import focal_loss

LAYERS, BATCH, ROWS, CLASSES = 3, 2, 7, 5


@pytest.fixture
def case(monkeypatch):
    """Logits of a part of the rows, as where others come first; labels, of which some are background."""
    monkeypatch.setattr(focal_loss, 'CPU_BLOCK', 2 * ROWS * CLASSES)
    generator = torch.Generator().manual_seed(1)
    whole = (torch.randn(LAYERS, BATCH, ROWS + 4, CLASSES, generator=generator) * 6).requires_grad_()
    labels = torch.randint(-1, CLASSES + 2, (LAYERS, BATCH, ROWS), generator=generator)
    return whole, labels, torch.rand(labels.shape, generator=generator)


def by_elements(logits, labels, weight):
    loss = focal_loss.sigmoid_focal_loss(logits.flatten(0, -2), labels.flatten(), 2.0, 0.25, reduction='none')
    return (loss.sum(1) * weight.flatten()).view(len(logits), -1).sum(1)


@pytest.mark.parametrize('gradient', [1.0, 0.5], ids=['of one', 'of less'])
@pytest.mark.parametrize('first', [0, 4], ids=['side by side', 'a part'])
def test_the_sums_of_layers(case, first, gradient):
    whole, labels, weight = case
    logits = whole[:, :, first : first + ROWS]
    logits = logits if first else logits.contiguous()
    found = focal_loss.focal_loss_sums(logits, labels, weight, 2.0, 0.25)
    want = by_elements(logits, labels.where(labels >= 0, CLASSES), weight)
    torch.testing.assert_close(found, want)
    grads = [torch.autograd.grad(sums.sum() * gradient, whole, retain_graph=True)[0] for sums in (found, found, want)]
    torch.testing.assert_close(grads[0], grads[2])
    assert torch.equal(grads[0], grads[1])  # what is kept for the gradient is not written over


def test_a_layer_has_the_sum_of_its_rows(case):
    whole, labels, weight = case
    found = focal_loss.focal_loss_sums(whole[:, :, 4:], labels, weight, 1.5, 0.25)
    for n, total in enumerate(found):
        rows = whole[n, :, 4:].flatten(0, 1), labels[n].flatten(), weight[n].flatten()
        torch.testing.assert_close(focal_loss.focal_loss_sum(*rows, 1.5, 0.25), total)


def test_rows_in_half_precision(case):
    whole, labels, weight = case
    half = whole.detach().bfloat16().requires_grad_()
    total = focal_loss.focal_loss_sums(half[:, :, 4:], labels, weight, 2.0, 0.25)
    total.sum().backward()
    whole = half.detach().float().requires_grad_()
    want = focal_loss.focal_loss_sums(whole[:, :, 4:], labels, weight, 2.0, 0.25)
    want.sum().backward()
    assert total.dtype == torch.float32 and half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(total, want)
    torch.testing.assert_close(half.grad.float(), whole.grad, rtol=1e-2, atol=5e-3)
