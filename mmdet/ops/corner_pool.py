from __future__ import annotations

from torch import Tensor, nn

from mmdet.errors import UserValueError

_MODES = {'bottom': (2, False), 'left': (3, True), 'right': (3, False), 'top': (2, True)}  # dimension, from the end


def corner_pool(x: Tensor, mode: str) -> Tensor:
    """Running maximum towards one side of a map (B, C, H, W) (CornerNet, arXiv:1808.01244, Eq. 6 and 7).

    ``'top'`` gives every cell the maximum of itself and all below, ``'left'`` of itself and all to the right;
    ``'bottom'`` and ``'right'`` look the other way.
    """
    if mode not in _MODES:
        raise UserValueError(f'mode={mode!r} of corner_pool is none of {", ".join(map(repr, _MODES))}.')
    dim, backwards = _MODES[mode]
    if not x.numel():
        return x
    return x.flip(dim).cummax(dim).values.flip(dim) if backwards else x.cummax(dim).values


class CornerPool(nn.Module):
    """See :func:`corner_pool`."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        if mode not in _MODES:
            raise UserValueError(f'mode={mode!r} of CornerPool is none of {", ".join(map(repr, _MODES))}.')
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """As :func:`corner_pool`."""
        return corner_pool(x, self.mode)

    def extra_repr(self) -> str:
        return f'mode={self.mode!r}'
