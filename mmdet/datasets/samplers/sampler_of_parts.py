from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmdet.errors import UserTypeError, UserValueError


class SamplerOfParts(Sampler):
    """Deals the samples of an epoch, which come from the parts of a ``ConcatDataset``, to the ranks.

    A subclass calls :meth:`_deal` once and implements :meth:`samples_of_epoch`.

    Args:
        dataset: A ``ConcatDataset``.
        shares: Something for each of its parts, called ``name`` in errors.
        seed: The same on all ranks; shared by rank 0 when ``None``.
        round_up: Repeat samples so that all ranks have as many.
    """

    def __init__(self, dataset: Any, shares: Sequence, name: str, seed: int | None, round_up: bool) -> None:
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        if not hasattr(dataset, 'datasets'):
            raise UserTypeError(f'{type(self).__name__} needs a ConcatDataset, not {type(dataset).__name__}')
        self.sizes = [len(part) for part in dataset.datasets]
        if len(shares) != len(self.sizes):
            raise UserValueError(f'{name} {list(shares)} must have one entry for each of {len(self.sizes)} parts')
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        self.round_up = round_up

    def _deal(self, total: int) -> None:
        """Say how many samples an epoch has."""
        own = total if self.round_up else total - self.rank
        self.num_samples = math.ceil(own / self.world_size)
        self.total_size = self.num_samples * self.world_size if self.round_up else total

    def samples_of_epoch(self) -> list[int]:
        """All ranks' samples of ``self.epoch``, the same on each."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        indices = self.samples_of_epoch()
        if self.round_up:
            indices = (indices * (self.total_size // len(indices) + 1))[: self.total_size]
        return iter(indices[self.rank : self.total_size : self.world_size])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Go on to the samples of another epoch, which the seed and this number decide."""
        self.epoch = epoch
