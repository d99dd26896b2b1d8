from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmdet.datasets.walk import classes_of, labels_of
from mmdet.errors import UserValueError
from mmdet.registry import DATA_SAMPLERS


class RandomCycleIter:
    """A shuffled list without end, shuffled anew after each pass."""

    def __init__(self, data: list, generator: torch.Generator | None = None) -> None:
        self.data, self.generator = data, generator
        self.order: list[int] = []

    def __iter__(self) -> RandomCycleIter:
        return self

    def __len__(self) -> int:
        return len(self.data)

    def __next__(self):
        if not self.order:
            self.order = torch.randperm(len(self.data), generator=self.generator).tolist()
        return self.data[self.order.pop()]


@DATA_SAMPLERS.register_module()
class ClassAwareSampler(Sampler):
    """Draws classes evenly and then images of the class (Sec. 4 of arXiv:1512.05830).

    Args:
        dataset: Needs ``get_cat_ids`` and ``metainfo['classes']``.
        seed: The same on all ranks; shared by rank 0 when ``None``.
        num_sample_class: Images drawn each time a class is drawn.
    """

    def __init__(self, dataset, seed: int | None = None, num_sample_class: int = 1) -> None:
        if not isinstance(num_sample_class, int) or num_sample_class <= 0:
            raise UserValueError(f'num_sample_class must be a positive integer, not {num_sample_class!r}')
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.seed = sync_random_seed() if seed is None else seed
        self.num_sample_class = num_sample_class
        self.epoch = 0
        self.cat_dict = self.get_cat2imgs()
        self.valid_cat_inds = [label for label, images in self.cat_dict.items() if images]
        if not self.valid_cat_inds:
            raise UserValueError('ClassAwareSampler: no image of the dataset has a box')
        self.num_samples = math.ceil(len(dataset) / self.world_size)
        self.total_size = self.num_samples * self.world_size

    def get_cat2imgs(self) -> dict[int, list[int]]:
        """Indices of the images with each label."""
        cat2imgs: dict[int, list[int]] = {label: [] for label in range(self._class_count())}
        for index in range(len(self.dataset)):
            for label in sorted(set(labels_of(self.dataset, index))):
                cat2imgs[label].append(index)
        return cat2imgs

    def _class_count(self) -> int:
        return max(len(classes) for _, classes in classes_of(self.dataset))

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.epoch + self.seed)
        labels = RandomCycleIter(self.valid_cat_inds, generator)
        images = {label: RandomCycleIter(self.cat_dict[label], generator) for label in self.valid_cat_inds}
        indices: list[int] = []
        while len(indices) < self.total_size:
            label = next(labels)
            indices += [next(images[label]) for _ in range(self.num_sample_class)]
        start = self.num_samples * self.rank
        return iter(indices[start : min(start + self.num_samples, self.total_size)])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Draw anew, by the seed and this number."""
        self.epoch = epoch
