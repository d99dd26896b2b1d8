from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmdet.datasets.walk import data_info
from mmdet.errors import UserTypeError, UserValueError
from mmdet.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class MultiSourceSampler(Sampler):
    """Endless indices of which each run of ``batch_size`` has a fixed number from each part of a ``ConcatDataset``.

    What it gives is a function of the seed and the rank, each time it is started.

    Args:
        dataset: A ``ConcatDataset``, for example of labelled and unlabelled images.
        batch_size: Batch size of one rank.
        source_ratio: Share of each part in a batch; the first part takes what rounding leaves.
        shuffle: Shuffle the parts.
        seed: The same on all ranks; shared by rank 0 when ``None``.
    """

    infinite = True  # training loops count its passes by iterations

    def __init__(
        self, dataset, batch_size: int, source_ratio: list[int | float], shuffle: bool = True, seed: int | None = None
    ) -> None:
        if not hasattr(dataset, 'cumulative_sizes'):
            raise UserTypeError(f'{type(self).__name__} needs a ConcatDataset, not {type(dataset).__name__}')
        if not isinstance(batch_size, int) or batch_size <= 0:
            raise UserValueError(f'batch_size must be a positive integer, not {batch_size!r}')
        if len(source_ratio) != len(dataset.cumulative_sizes):
            raise UserValueError(
                f'source_ratio {source_ratio} must have one entry for each dataset of the ConcatDataset'
            )
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.cumulative_sizes = [0, *dataset.cumulative_sizes[:-1]]
        self.batch_size = batch_size
        self.source_ratio = source_ratio
        self.num_per_source = [int(batch_size * ratio / sum(source_ratio)) for ratio in source_ratio]
        self.num_per_source[0] = batch_size - sum(self.num_per_source[1:])
        self.seed = sync_random_seed() if seed is None else seed
        self.shuffle = shuffle

    def _infinite_indices(self, sample_size: int, stream: int = 0) -> Iterator[int]:
        """Endless passes through ``range(sample_size)``, each in an own order if ``shuffle``."""
        generator = torch.Generator()
        generator.manual_seed(self.seed + stream)
        while True:
            yield from torch.randperm(sample_size, generator=generator).tolist() if self.shuffle else range(sample_size)

    def _indices_of_rank(self, sample_size: int, stream: int = 0) -> Iterator[int]:
        """What this rank takes of them."""
        return itertools.islice(self._infinite_indices(sample_size, stream), self.rank, None, self.world_size)

    def _endless(self, indices: list[int], stream: int) -> Iterator[int]:
        """This rank's share of an endless shuffle of ``indices``."""
        return (indices[i] for i in self._indices_of_rank(len(indices), stream))

    @property
    def source2inds(self) -> dict[int, Iterator[int]]:
        """What each part gives to this rank, from the start: indices within the part."""
        sizes = map(len, self.dataset.datasets)
        return {number: self._indices_of_rank(size, number) for number, size in enumerate(sizes)}

    def _sources(self) -> list[list[int]]:
        sizes = [len(part) for part in self.dataset.datasets]
        return [list(range(start, start + size)) for start, size in zip(self.cumulative_sizes, sizes, strict=True)]

    def __iter__(self) -> Iterator[int]:
        streams = [self._endless(indices, number) for number, indices in enumerate(self._sources())]
        while True:
            for stream, count in zip(streams, self.num_per_source, strict=True):
                yield from itertools.islice(stream, count)

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        """There are no epochs in an endless stream."""


@DATA_SAMPLERS.register_module()
class GroupMultiSourceSampler(MultiSourceSampler):
    """:class:`MultiSourceSampler` whose batches are all portrait or all landscape.

    A part without images of the orientation gives images of the other one.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._get_source_group_info()

    def _get_source_group_info(self) -> None:
        self.groups = [self._split(indices) for indices in self._sources()]
        sizes = torch.tensor([[len(group) for group in pair] for pair in self.groups]).sum(0)
        self.group_ratio = (sizes / sizes.sum()).tolist()

    def _split(self, indices: list[int]) -> tuple[list[int], list[int]]:
        """Portrait (width < height) and landscape."""
        pair: tuple[list[int], list[int]] = ([], [])
        for index in indices:
            info = data_info(self.dataset, index)
            pair[int(info['width'] >= info['height'])].append(index)
        return pair

    def __iter__(self) -> Iterator[int]:
        choice = torch.Generator()
        choice.manual_seed(self.seed)
        streams = [
            [self._endless(group or pair[1 - side], 2 * number + side) for side, group in enumerate(pair)]
            for number, pair in enumerate(self.groups)
        ]
        while True:
            side = int(torch.rand((), generator=choice) >= self.group_ratio[0])
            for pair, count in zip(streams, self.num_per_source, strict=True):
                yield from itertools.islice(pair[side], count)
