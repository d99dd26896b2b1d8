"""Random streams as functions of counters: nothing has to be stored to continue them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

_MASK = 2**64 - 1


def mix(*values: int) -> int:
    """64 well-mixed bits of some integers (splitmix64 applied to each in turn)."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        state = (state ^ value) & _MASK
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def seed_all(seed: int) -> None:
    """Seed ``random``, numpy and torch, CUDA included where it is in use."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    # not torch.manual_seed: that walks over every accelerator, which costs twenty times as much
    torch.default_generator.manual_seed(seed & (2**63 - 1))
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed & (2**63 - 1))


class EpochIndex(int):
    """A dataset index that carries where in the run it is drawn, to the worker that loads it.

    Attributes:
        stream: The epoch, or the rank for samplers that have no epochs.
        turn: How often this index came before in the stream.
    """

    stream = 0
    turn = 0

    def __new__(cls, index: int, stream: int = 0, turn: int = 0) -> EpochIndex:
        self = super().__new__(cls, index)
        self.stream, self.turn = stream, turn
        return self

    def __reduce__(self) -> tuple:
        return EpochIndex, (int(self), self.stream, self.turn)


class SeededFetch:
    """Loads samples of a map-style dataset, each with its own random stream.

    What a sample's transforms draw is a function of (seed, epoch, index): the number of workers, their lifetime and
    the order of loading do not matter, and no epoch repeats another. torch's DataLoader calls it as the dataset's
    ``__getitems__``. Without workers it leaves the global generators as the last sample did; the training loop seeds
    them again before each step.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __call__(self, indices: list[int]) -> list:
        samples = []
        for index in indices:
            seed = mix(self.seed, 2, index, getattr(index, 'stream', 0), getattr(index, 'turn', 0))
            random.seed(seed)
            np.random.seed(seed & 0xFFFFFFFF)
            torch.default_generator.manual_seed(seed & (2**63 - 1))
            samples.append(self.dataset[int(index)])
        return samples


class ResumableBatches:
    """The batches of a batch sampler, which can leave out the first ``offset`` of the next pass.

    Skipped batches are drawn as lists of indices only, no image is read. Each index becomes an :class:`EpochIndex`.
    """

    def __init__(self, batch_sampler: Any, rank: int = 0) -> None:
        self.batch_sampler, self.rank, self.offset = batch_sampler, rank, 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'batch_sampler':
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)  # sampler, batch_size, drop_last, ...

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self):
        skip, self.offset = self.offset, 0
        stream = getattr(getattr(self.batch_sampler, 'sampler', None), 'epoch', None)
        stream = self.rank if stream is None else stream
        turns: dict[int, int] = {}
        for batch in self.batch_sampler:
            numbered = []
            for index in batch:
                turn = turns[index] = turns.get(index, -1) + 1
                numbered.append(EpochIndex(index, stream, turn))
            if skip:
                skip -= 1
            else:
                yield numbered
