from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmdet.errors import UserTypeError, UserValueError
from mmdet.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class MultiDataSampler(Sampler):
    """Draws, with replacement, from the parts of a ``ConcatDataset`` in a given ratio.

    Args:
        dataset: A ``ConcatDataset``.
        dataset_ratio: Share of each part; the length of an epoch stays that of the dataset.
        seed: The same on all ranks; shared by rank 0 when ``None``.
        round_up: Repeat samples so that all ranks have as many.
    """

    def __init__(self, dataset, dataset_ratio: Sequence[int], seed: int | None = None, round_up: bool = True) -> None:
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        if not hasattr(dataset, 'datasets'):
            raise UserTypeError(f'MultiDataSampler needs a ConcatDataset, not {type(dataset).__name__}')
        self.sizes = [len(part) for part in dataset.datasets]
        if len(dataset_ratio) != len(self.sizes):
            raise UserValueError(
                f'dataset_ratio {list(dataset_ratio)} must have one entry for each of {len(self.sizes)}'
            )
        self.dataset_ratio = dataset_ratio
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        self.round_up = round_up
        if round_up:
            self.num_samples = math.ceil(len(dataset) / self.world_size)
            self.total_size = self.num_samples * self.world_size
        else:
            self.num_samples = math.ceil((len(dataset) - self.rank) / self.world_size)
            self.total_size = len(dataset)
        parts = [torch.full((size,), ratio / size) for size, ratio in zip(self.sizes, dataset_ratio, strict=True)]
        self.weights = torch.cat(parts)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        indices = torch.multinomial(self.weights, len(self.weights), replacement=True, generator=generator).tolist()
        if self.round_up:
            indices = (indices * (self.total_size // len(indices) + 1))[: self.total_size]
        return iter(indices[self.rank : self.total_size : self.world_size])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Draw anew, by the seed and this number."""
        self.epoch = epoch
