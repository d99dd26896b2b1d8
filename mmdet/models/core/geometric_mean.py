"""The score of two predictions that have to agree (TOOD, arXiv:2108.07755, Eq. 4)."""

from __future__ import annotations

from torch import Tensor
from torch.autograd import Function


class SigmoidGeometricMean(Function):
    """``sqrt(sigmoid(x) * sigmoid(y))`` with a gradient that stays finite where both sigmoids vanish."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor) -> Tensor:
        """The root of the product of both sigmoids, of logits of one shape."""
        x, y = x.sigmoid(), y.sigmoid()
        mean = (x * y).sqrt()
        ctx.save_for_backward(x, y, mean)
        return mean

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both logits."""
        x, y, mean = ctx.saved_tensors
        half = grad_output * mean / 2
        return half * (1 - x), half * (1 - y)


sigmoid_geometric_mean = SigmoidGeometricMean.apply
