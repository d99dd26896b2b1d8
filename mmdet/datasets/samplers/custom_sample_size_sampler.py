from __future__ import annotations

from collections.abc import Sequence

import torch

from mmdet.errors import UserValueError
from mmdet.registry import DATA_SAMPLERS

from .sampler_of_parts import SamplerOfParts


@DATA_SAMPLERS.register_module()
class CustomSampleSizeSampler(SamplerOfParts):
    """Takes a given number of samples of each part of a ``ConcatDataset`` in an epoch, shuffled together.

    A part of which some are taken is gone through without repetition, from one epoch to the next. What is taken in an
    epoch is a function of the seed and its number, also after a restart.

    Args:
        dataset: A ``ConcatDataset``.
        dataset_size: Samples of each part in an epoch, -1 for all.
        ratio_mode: ``dataset_size`` are shares of the parts instead.
        seed: The same on all ranks; shared by rank 0 when ``None``.
        round_up: Repeat samples so that all ranks have as many.
    """

    def __init__(
        self,
        dataset,
        dataset_size: Sequence[int | float],
        ratio_mode: bool = False,
        seed: int | None = None,
        round_up: bool = True,
    ) -> None:
        super().__init__(dataset, dataset_size, 'dataset_size', seed, round_up)
        parts = self.sizes
        self.dataset_size = [self._taken(i, parts[i], size, ratio_mode) for i, size in enumerate(dataset_size)]
        total = sum(self.dataset_size)
        if not total:
            raise UserValueError(f'dataset_size {list(dataset_size)} takes no sample of parts with {parts}')
        self._deal(total)

    @staticmethod
    def _taken(number: int, length: int, size: int | float, ratio_mode: bool) -> int:
        taken = length if size == -1 else int(size * length) if ratio_mode else size
        if not isinstance(taken, int) or not 0 <= taken <= length:
            raise UserValueError(
                f'dataset_size[{number}] is {size!r}, but part {number} has {length} samples'
                + (' and ratios lie between 0 and 1' if ratio_mode else '')
            )
        return taken

    def _order(self, number: int, turn: int) -> torch.Tensor:
        """The order of a part in its ``turn``-th pass."""
        generator = torch.Generator()
        generator.manual_seed((self.seed * 1_000_003 + number * 7919 + turn) % 2**63)
        return torch.randperm(self.sizes[number], generator=generator)

    def _share(self, number: int) -> torch.Tensor:
        """What this epoch takes of a part: a window on its passes, one after another."""
        length, size = self.sizes[number], self.dataset_size[number]
        if not size:
            return torch.zeros(0, dtype=torch.long)
        start = self.epoch * size
        first, last = start // length, (start + size - 1) // length
        passes = torch.cat([self._order(number, turn) for turn in range(first, last + 1)])
        return passes[start - first * length :][:size]

    def samples_of_epoch(self) -> list[int]:
        offsets = [sum(self.sizes[:i]) for i in range(len(self.sizes))]
        taken = torch.cat([self._share(i) + offset for i, offset in enumerate(offsets)])
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        return taken[torch.randperm(len(taken), generator=generator)].tolist()
