from __future__ import annotations

from collections.abc import Sequence

import torch

from mmdet.registry import DATA_SAMPLERS

from .sampler_of_parts import SamplerOfParts


@DATA_SAMPLERS.register_module()
class MultiDataSampler(SamplerOfParts):
    """Draws, with replacement, from the parts of a ``ConcatDataset`` in a given ratio.

    Args:
        dataset: A ``ConcatDataset``.
        dataset_ratio: Share of each part; the length of an epoch stays that of the dataset.
        seed: The same on all ranks; shared by rank 0 when ``None``.
        round_up: Repeat samples so that all ranks have as many.
    """

    def __init__(self, dataset, dataset_ratio: Sequence[int], seed: int | None = None, round_up: bool = True) -> None:
        super().__init__(dataset, dataset_ratio, 'dataset_ratio', seed, round_up)
        self.dataset_ratio = dataset_ratio
        self._deal(len(dataset))
        parts = [torch.full((size,), ratio / size) for size, ratio in zip(self.sizes, dataset_ratio, strict=True)]
        self.weights = torch.cat(parts)

    def samples_of_epoch(self) -> list[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        return torch.multinomial(self.weights, len(self.weights), replacement=True, generator=generator).tolist()
