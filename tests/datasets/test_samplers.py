from collections import Counter
from itertools import islice

import numpy as np
import pytest
from mmengine.dataset import DefaultSampler

from mmdet.datasets.samplers import (
    AspectRatioBatchSampler,
    ClassAwareSampler,
    CustomSampleSizeSampler,
    GroupMultiSourceSampler,
    MultiDataAspectRatioBatchSampler,
    MultiDataSampler,
    MultiSourceSampler,
)


class Toy:
    """``sizes`` is a string of p (portrait) and l (landscape); ``labels`` one list per image."""

    def __init__(self, sizes, labels=None):
        self.sizes, self.labels = sizes, labels
        self.metainfo = dict(classes=('a', 'b', 'c'))

    def __len__(self):
        return len(self.sizes)

    def get_data_info(self, index):
        return dict(width=1 if self.sizes[index] == 'p' else 2, height=2 if self.sizes[index] == 'p' else 1)

    def get_cat_ids(self, index):
        return self.labels[index]


class Several(Toy):
    def __init__(self, *parts):
        super().__init__(''.join(part.sizes for part in parts))
        self.datasets = parts
        self.cumulative_sizes = [sum(len(p) for p in parts[: i + 1]) for i in range(len(parts))]

    def _get_ori_dataset_idx(self, index):
        source = sum(index >= size for size in self.cumulative_sizes)
        return source, index - [0, *self.cumulative_sizes][source]


class Numbered(int):
    """An index that knows more than its number."""


@pytest.mark.parametrize(
    'sizes, drop_last, batches',
    [
        ('llll', False, [[0, 1], [2, 3]]),
        ('lplp', False, [[0, 2], [1, 3]]),
        ('lpllp', False, [[0, 2], [1, 4], [3]]),
        ('lpppl', False, [[1, 2], [0, 4], [3]]),
        ('lppp', False, [[1, 2], [3, 0]]),  # the rest: portrait first
        ('lpppl', True, [[1, 2], [0, 4]]),
        ('lppp', True, [[1, 2], [3, 1]]),  # no batch of both, though two images are left
        ('lp', True, [[1, 1]]),
        ('lpl', True, [[0, 2]]),
    ],
)
def test_aspect_ratio_batches(sizes, drop_last, batches):
    sampler = AspectRatioBatchSampler(DefaultSampler(Toy(sizes), shuffle=False), 2, drop_last)
    assert list(sampler) == batches == list(sampler)
    assert len(sampler) == len(batches)


def test_indices_are_passed_on_as_they_come():
    class Source(DefaultSampler):
        def __iter__(self):
            return map(Numbered, super().__iter__())

    sampler = AspectRatioBatchSampler(Source(Toy('lplpl'), shuffle=False), 2)
    assert {type(index) for batch in sampler for index in batch} == {Numbered}


@pytest.mark.parametrize('args, error', [((None, 2), TypeError), ((DefaultSampler(Toy('l')), 0), ValueError)])
def test_wrong_arguments(args, error):
    with pytest.raises(error):
        AspectRatioBatchSampler(*args)


def test_batches_of_one_source():
    dataset = Several(Toy('llplp'), Toy('llll'))
    sampler = MultiDataAspectRatioBatchSampler(DefaultSampler(dataset, shuffle=False), [2, 3], 2, drop_last=True)
    assert list(sampler) == [[0, 1], [2, 4], [5, 6, 7]]
    sampler = MultiDataAspectRatioBatchSampler(DefaultSampler(dataset, shuffle=False), 2, 2, drop_last=False)
    assert list(sampler) == [[0, 1], [2, 4], [5, 6], [7, 8], [3]]
    assert len(sampler) == 5


def test_class_aware():
    dataset = Toy('l' * 12, [[0]] * 10 + [[1], []])
    sampler = ClassAwareSampler(dataset, seed=3)
    drawn = [dataset.labels[i][0] for i in sampler]
    assert len(drawn) == len(sampler) == 12 and Counter(drawn) == {0: 6, 1: 6}
    assert list(sampler) == list(sampler)
    before = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != before
    with pytest.raises(ValueError, match='no image of the dataset has a box'):
        ClassAwareSampler(Toy('l', [[]]), seed=0)


def test_multi_data_ratio():
    dataset = Several(Toy('l' * 900), Toy('l' * 100))
    indices = list(MultiDataSampler(dataset, [1, 3], seed=0))
    assert len(indices) == 1000
    assert 0.70 < sum(i >= 900 for i in indices) / 1000 < 0.80


def test_multi_source_counts():
    dataset = Several(Toy('l' * 7), Toy('l' * 50))
    sampler = MultiSourceSampler(dataset, batch_size=5, source_ratio=[1, 4], seed=0)
    first = list(islice(sampler, 100))
    for start in range(0, 100, 5):
        assert sum(i < 7 for i in first[start : start + 5]) == 1
    assert sorted([i for i in first if i < 7][:7]) == list(range(7))  # all come before one comes again
    assert first == list(islice(sampler, 100))  # a restart repeats it: a resumed run can skip


def test_groups_of_one_orientation():
    dataset = Several(Toy('pplll'), Toy('plplp'), Toy('ll'))
    sampler = GroupMultiSourceSampler(dataset, batch_size=4, source_ratio=[2, 1, 1], seed=1)
    kinds = Counter()
    for _, start in zip(range(30), range(0, 200, 4), strict=False):
        batch = list(islice(sampler, start, start + 4))
        kinds[''.join(sorted({dataset.sizes[i] for i in batch if i < 10}))] += 1
    assert set(kinds) == {'l', 'p'}


def test_sizes_may_be_numpy_numbers():
    class Measured(Several):
        def get_data_info(self, index):
            return {name: np.float64(value) for name, value in super().get_data_info(index).items()}

    sampler = GroupMultiSourceSampler(Measured(Toy('lplp'), Toy('pl')), 3, [1, 2], seed=0)
    batch = list(islice(sampler, 3))
    assert len({sampler.dataset.sizes[index] for index in batch}) == 1


def taken(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


def test_a_given_number_of_each_part():
    parts = Several(Toy('pppp'), Toy('lllllll'), Toy('pp'))
    sampler = CustomSampleSizeSampler(parts, [-1, 3, 0], seed=1)
    first = taken(sampler)
    assert len(sampler) == len(first) == 7
    assert {i for i in first if i < 4} == {0, 1, 2, 3} and sum(4 <= i < 11 for i in first) == 3
    # seven samples, three at a time: each comes once before any comes again
    passes = [i for epoch in range(7) for i in taken(sampler, epoch) if i >= 4]
    assert set(Counter(passes).values()) == {3}
    again = CustomSampleSizeSampler(parts, [-1, 3, 0], seed=1)
    assert taken(again, 5) == taken(sampler, 5) != taken(sampler, 4)
    assert taken(CustomSampleSizeSampler(parts, [-1, 3, 0], seed=2), 5) != taken(sampler, 5)


def test_shares_of_each_part():
    parts = Several(Toy('p' * 10), Toy('l' * 11))
    sampler = CustomSampleSizeSampler(parts, [0.5, 0.3], ratio_mode=True, seed=0)
    assert sampler.dataset_size == [5, 3] and len(taken(sampler)) == 8
    assert len(set(taken(sampler))) == 8


@pytest.mark.parametrize('round_up, lengths', [(True, [3, 3]), (False, [3, 2])])
def test_parts_on_several_ranks(monkeypatch, round_up, lengths):
    parts, found = Several(Toy('pppp'), Toy('lll')), []
    for rank in range(2):
        monkeypatch.setattr('mmdet.datasets.samplers.sampler_of_parts.get_dist_info', lambda rank=rank: (rank, 2))
        sampler = CustomSampleSizeSampler(parts, [2, -1], seed=3, round_up=round_up)
        found.append(taken(sampler, 2))
        assert len(sampler) == lengths[rank]
    assert list(map(len, found)) == lengths
    assert len(set(found[0]) | set(found[1])) == 5


@pytest.mark.parametrize(
    'sizes, ratio, words',
    [([1], False, 'one entry'), ([9, 1], False, 'has 4 samples'), ([1.5, 1], True, 'ratios'), ([0.5, 1], False, '0.5')],
)
def test_numbers_of_samples_that_do_not_fit(sizes, ratio, words):
    with pytest.raises(ValueError, match=words):
        CustomSampleSizeSampler(Several(Toy('pppp'), Toy('lll')), sizes, ratio_mode=ratio, seed=0)
    with pytest.raises(TypeError, match='ConcatDataset'):
        CustomSampleSizeSampler(Toy('pp'), [1], seed=0)
