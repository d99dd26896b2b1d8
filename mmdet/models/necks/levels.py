"""Which feature maps a neck takes."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError


def check_maps(neck: nn.Module, inputs: Sequence[Tensor], count: int) -> None:
    """Refuse another number of feature maps than ``count``."""
    if len(inputs) != count:
        raise UserValueError(f'{type(neck).__name__} was made for {count} feature maps, got {len(inputs)}')
    check_map_channels(neck, [x.shape[1] for x in inputs])


def check_map_channels(neck: nn.Module, channels: Sequence[int]) -> None:
    """Refuse maps whose ``channels`` are not the ``in_channels`` of the neck, in the levels that it uses.

    A neck of several takes the maps with its first one; one that says no ``in_channels`` takes any. One that is
    ``coarsest_first`` lists its ``in_channels`` in the other order.
    """
    neck = neck[0] if isinstance(neck, nn.Sequential) else neck
    wanted = getattr(neck, 'in_channels', None)
    if not isinstance(wanted, (list, tuple)):
        return
    wanted = wanted[::-1] if getattr(neck, 'coarsest_first', False) else wanted
    used = slice(getattr(neck, 'start_level', 0), getattr(neck, 'backbone_end_level', None))
    if len(channels) != len(wanted) or list(channels[used]) != list(wanted[used]):
        raise UserValueError(
            f'{type(neck).__name__} was made for maps of {list(wanted)} channels, and the backbone gives '
            f'{list(channels)}: set in_channels of the neck to the latter'
        )


def check_channels(in_channels: Sequence[int]) -> None:
    """Refuse one number in place of one for each input."""
    if isinstance(in_channels, int):
        raise UserValueError(f'in_channels must be a list with the channels of each input, got {in_channels}')


def check_scales(num_scales: int, in_channels: Sequence[int], out_channels: Sequence[int]) -> None:
    """Refuse channels that are not given for each of ``num_scales`` scales."""
    if not num_scales == len(in_channels) == len(out_channels):
        raise UserValueError(
            f'in_channels {in_channels} and out_channels {out_channels} must name each of the {num_scales} scales'
        )


class Pyramid(BaseModule):
    """A neck that makes ``num_outs`` maps of ``out_channels`` from maps of ``in_channels``, finest first."""

    def _describe(self, in_channels: Sequence[int], out_channels: int, num_outs: int) -> None:
        check_channels(in_channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.num_ins = len(in_channels)
        self.num_outs = num_outs

    def _use_levels(self, start_level: int, end_level: int) -> tuple[Sequence[int], int]:
        """The channels of the inputs that are used, and how many outputs come on top; see :func:`used_levels`."""
        self.start_level = start_level
        self.end_level = end_level
        self.backbone_end_level, num_extra = used_levels(self.num_ins, self.num_outs, start_level, end_level)
        return self.in_channels[start_level : self.backbone_end_level], num_extra


def used_levels(num_ins: int, num_outs: int, start_level: int, end_level: int) -> tuple[int, int]:
    """One past the last input that is used, and how many outputs come on top.

    Raises:
        ValueError: if the outputs do not suffice for the inputs, or ``end_level`` is set and they are more.
    """
    if end_level in (-1, num_ins - 1):
        num_extra = num_outs - (num_ins - start_level)
        if num_extra < 0:
            raise UserValueError(
                f'num_outs={num_outs} is too few for inputs {start_level} to {num_ins - 1}; set end_level to use less'
            )
        return num_ins, num_extra
    if not start_level <= end_level < num_ins or num_outs != end_level - start_level + 1:
        raise UserValueError(
            f'with start_level={start_level} and end_level={end_level} of {num_ins} inputs, num_outs must be '
            f'{end_level - start_level + 1}, got {num_outs}'
        )
    return end_level + 1, 0
