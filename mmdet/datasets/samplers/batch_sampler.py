from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any, Protocol, cast

from torch.utils.data import BatchSampler, Sampler

from mmdet.datasets.walk import data_info
from mmdet.errors import UserTypeError, UserValueError
from mmdet.registry import DATA_SAMPLERS


class DatasetSampler(Protocol):
    """A sampler that knows its dataset and its length."""

    dataset: Any

    def __iter__(self) -> Iterator[int]: ...

    def __len__(self) -> int: ...


@DATA_SAMPLERS.register_module()
class AspectRatioBatchSampler(BatchSampler):
    """Batches of images that are all portrait or all landscape, so that little of a batch is padding.

    Indices are passed on as they come (they may carry their epoch). The rest of an epoch, portrait before landscape,
    forms the last batches, of which one may hold both. With ``drop_last`` none does: where the rest would make one more
    whole batch, as ``len`` says, that is the larger part of it and the first images of its orientation again.
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False) -> None:
        if not isinstance(sampler, Sampler):
            raise UserTypeError(f'sampler must be a torch.utils.data.Sampler, not {type(sampler).__name__}')
        if not isinstance(batch_size, int) or batch_size <= 0:
            raise UserValueError(f'batch_size must be a positive integer, not {batch_size!r}')
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    @property
    def source(self) -> DatasetSampler:
        """The sampler, as what it has to be by the time of the first batch."""
        return cast(DatasetSampler, self.sampler)

    def group_of(self, index: int) -> int:
        """The bucket of an index: 0 portrait (width < height), 1 landscape."""
        info = data_info(self.source.dataset, index)
        return 0 if info['width'] < info['height'] else 1

    num_groups = 2

    def __iter__(self) -> Iterator[list[int]]:
        buckets: list[list[int]] = [[] for _ in range(self.num_groups)]
        firsts: list[list[int]] = [[] for _ in range(self.num_groups)]
        for index in self.sampler:
            group = self.group_of(index)
            bucket = buckets[group]
            bucket.append(index)
            if len(firsts[group]) < self.batch_size:
                firsts[group].append(index)
            if len(bucket) == self.batch_size:
                yield bucket[:]
                bucket.clear()
        if self.drop_last:
            if sum(map(len, buckets)) >= self.batch_size:
                largest = max(buckets, key=len)
                again = cycle(firsts[buckets.index(largest)])
                yield largest + list(islice(again, self.batch_size - len(largest)))
            return
        rest = [index for bucket in buckets for index in bucket]
        yield from (rest[start : start + self.batch_size] for start in range(0, len(rest), self.batch_size))

    def __len__(self) -> int:
        whole, rest = divmod(len(self.source), self.batch_size)
        return whole if self.drop_last or not rest else whole + 1


@DATA_SAMPLERS.register_module()
class MultiDataAspectRatioBatchSampler(AspectRatioBatchSampler):
    """Batches of one orientation and one source dataset of a ``ConcatDataset``.

    Args:
        batch_size: One size for each source, or one for all.
        num_datasets: How many sources the ``ConcatDataset`` has.
    """

    def __init__(
        self, sampler: Sampler, batch_size: int | Sequence[int], num_datasets: int, drop_last: bool = True
    ) -> None:
        sizes = [batch_size] * num_datasets if isinstance(batch_size, int) else list(batch_size)
        if len(sizes) != num_datasets:
            raise UserValueError(f'batch_size {sizes} must have one entry for each of the {num_datasets} datasets')
        super().__init__(sampler, max(sizes), drop_last)
        self.sizes = sizes
        self.batch_size = sizes  # type: ignore[assignment]  # its name in 3.x
        self.num_groups = 2 * num_datasets

    def group_of(self, index: int) -> int:
        place = getattr(self.source.dataset, '_get_ori_dataset_idx', lambda i: i)(index)
        if not isinstance(place, tuple):
            kind = type(self.source.dataset).__name__
            raise UserTypeError(f'MultiDataAspectRatioBatchSampler needs a ConcatDataset, not {kind}')
        return 2 * place[0] + super().group_of(index)

    def __iter__(self) -> Iterator[list[int]]:
        buckets: list[list[int]] = [[] for _ in range(self.num_groups)]
        for index in self.sampler:
            group = self.group_of(index)
            bucket = buckets[group]
            bucket.append(index)
            if len(bucket) == self.sizes[group // 2]:
                yield bucket[:]
                bucket.clear()
        if self.drop_last:
            return
        for source, size in enumerate(self.sizes):
            rest = buckets[2 * source] + buckets[2 * source + 1]
            yield from (rest[start : start + size] for start in range(0, len(rest), size))

    def __len__(self) -> int:
        sizes = self.sizes[:1] if len(set(self.sizes)) == 1 else self.sizes
        shares = self._source_shares() if len(sizes) > 1 else [len(self.source)]
        if self.drop_last:
            return sum(share // size for share, size in zip(shares, sizes, strict=True))
        return sum(-(-share // size) for share, size in zip(shares, sizes, strict=True))

    def _source_shares(self) -> list[int]:
        lengths = [len(dataset) for dataset in self.source.dataset.datasets]
        return [len(self.source) * length // sum(lengths) for length in lengths]
