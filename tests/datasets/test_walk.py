"""One way through wrappers: leaves, samples, transforms, and hooks that change these."""

import logging
from types import SimpleNamespace

import mmengine.dataset
import numpy as np
import pytest
import torch.utils.data
from torch import nn

from mmdet.checks.mixing import mixing_faults
from mmdet.datasets import ClassBalancedDataset, CocoDataset, ConcatDataset, MultiImageMixDataset, RepeatDataset
from mmdet.datasets.walk import (
    build,
    chains,
    data_info,
    leaves,
    locate,
    mixing_without_wrapper,
    needs_partners,
    pipeline_of,
    require_same_order,
)
from mmdet.engine.hooks import NumClassCheckHook, PipelineSwitchHook, YOLOXModeSwitchHook

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
PACK = dict(type='PackDetInputs')
MOSAIC = dict(type='Mosaic', img_scale=(40, 32))
CLASSES = ('cat', 'dog', 'cow')


@pytest.fixture
def leaf(coco_file):
    """Makes a data set of three pictures with the ids 1, 2 and 3."""

    def make(**changes):
        options = dict(type='CocoDataset', **coco_file(), metainfo=dict(classes=CLASSES), pipeline=[*LOAD, PACK])
        return options | changes

    return make


class Foreign:
    """A wrapper of another package: whatever holds a data set under ``dataset``."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index]

    def __getattr__(self, name):  # hands on all but what it has itself
        if name.startswith('__') or name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)


WRAPPED = {
    'none': (lambda d: d, [0, 1, 2]),
    'repeat': (lambda d: RepeatDataset(d, times=2), [0, 1, 2, 0, 1, 2]),
    "mmengine's repeat": (lambda d: mmengine.dataset.RepeatDataset(d, times=2), [0, 1, 2, 0, 1, 2]),
    'balanced': (lambda d: ClassBalancedDataset(d, oversample_thr=3.0), [0, 0, 0, 1, 1, 1, 2]),
    'mix': (lambda d: MultiImageMixDataset(d, []), [0, 1, 2]),
    'subset': (lambda d: torch.utils.data.Subset(d, [2, 0]), [2, 0]),
    'foreign': (Foreign, [0, 1, 2]),
    'slice': (lambda d: mmengine.runner.runner._SlicedDataset(d, 2), [0, 1]),
    'deep': (
        lambda d: RepeatDataset(Foreign(MultiImageMixDataset(RepeatDataset(d, times=2), [])), times=1),
        [0, 1, 2] * 2,
    ),
}


@pytest.mark.parametrize('name', WRAPPED)
def test_the_leaf_and_the_sample_behind_an_index(leaf, name):
    wrap, expected = WRAPPED[name]
    inner = build(leaf())
    dataset = wrap(inner)
    assert leaves(dataset) == [inner] and len(dataset) == len(expected)
    assert [locate(dataset, i) for i in range(len(dataset))] == [(inner, i) for i in expected]
    assert [data_info(dataset, i)['img_id'] for i in range(len(dataset))] == [i + 1 for i in expected]
    assert [sample['data_samples'].img_id for sample in map(dataset.__getitem__, range(len(dataset)))] == [
        i + 1 for i in expected
    ]


@pytest.mark.parametrize('kind', [ConcatDataset, torch.utils.data.ConcatDataset, list])
def test_several_in_one(leaf, kind):
    a, b = build(leaf()), build(leaf())
    dataset = kind([RepeatDataset(a, times=2), torch.utils.data.Subset(b, [2, 0])])
    assert leaves(dataset) == [a, b]
    assert [len(chain) for chain in chains(dataset)] == ([2, 2] if kind is list else [3, 3])
    found = [locate(dataset, i) for i in range(8)]
    assert found == [(a, 0), (a, 1), (a, 2), (a, 0), (a, 1), (a, 2), (b, 2), (b, 0)]
    with pytest.raises(IndexError, match='no sample 8'):
        locate(dataset, 8)


def test_concatenation_of_subsets(leaf):
    dataset = ConcatDataset([torch.utils.data.Subset(build(leaf()), [2, 0]), build(leaf(indices=1))])
    assert [dataset.get_data_info(i)['img_id'] for i in range(3)] == [3, 1, 1]
    assert dataset.metainfo['classes'] == CLASSES and dataset.metainfo['cumulative_sizes'] == [2, 3]
    assert [dataset[i]['data_samples'].dataset_index for i in range(3)] == [0, 0, 1]
    assert dataset[2]['data_samples'].ann_file.endswith('ann.json')


def test_a_list_in_a_config_is_a_concatenation(leaf):
    from mmdet.engine.runner import DetRunner

    config = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    loader = DetRunner.build_dataloader(
        dict(config, dataset=[leaf(), dict(type='RepeatDataset', dataset=[leaf()], times=2)])
    )
    assert isinstance(loader.dataset, ConcatDataset) and len(loader.dataset) == 9
    indices = [sample.dataset_index for batch in loader for sample in batch['data_samples']]
    assert indices == [0] * 3 + [1] * 6
    assert isinstance(build([leaf()]), CocoDataset)


def test_names_that_the_file_gives_reach_the_wrappers(leaf, coco_file):
    """A data set that reads late knows its classes late: what is around it must not keep those of before."""
    late = leaf(metainfo=dict(classes=None), lazy_init=True)
    repeat = RepeatDataset(late, times=2, lazy_init=True)
    repeat.full_init()
    assert repeat.metainfo['classes'] == CLASSES
    other = dict(late, ann_file=coco_file(categories=('dog', 'cat', 'cow'), name='other.json')['ann_file'])
    with pytest.raises(
        ValueError, match=r"different classes:\n  dataset 0: \('cat', 'dog', 'cow'\)\n  dataset 1: \('dog'"
    ):
        ConcatDataset([late, other])
    with pytest.raises(ValueError, match="label 0 is 'cat' in the training data and 'dog' in the validation data"):
        require_same_order(RepeatDataset(late, times=2), ConcatDataset([other]))
    require_same_order(RepeatDataset(late, times=2), Foreign(build(late)))


# --------------------------------------------------------------------------------------------------------------------
# Hooks
SMALL = [*LOAD, dict(type='Resize', scale=(40, 30), keep_ratio=True), PACK]


def runner_of(dataset, epoch=5, epochs=6, loop=mmengine.runner.EpochBasedTrainLoop, **loader):
    model = nn.Module()
    model.bbox_head = nn.Module()
    model.bbox_head.use_l1 = False
    return SimpleNamespace(
        model=model,
        train_dataloader=SimpleNamespace(dataset=dataset, **loader),
        train_loop=object.__new__(loop),
        epoch=epoch,
        max_epochs=epochs,
        logger=logging.getLogger('walk'),
    )


def switched(dataset, pipeline):
    hook, runner = PipelineSwitchHook(5, pipeline), runner_of(dataset)
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    return dataset


@pytest.mark.parametrize('name', [name for name in WRAPPED if name != 'slice'])
def test_switch_of_the_pipeline_in_a_wrapper(leaf, name):
    dataset = WRAPPED[name][0](build(leaf()))
    assert dataset[0]['inputs'].shape == (3, 60, 80)
    assert switched(dataset, SMALL)[0]['inputs'].shape == (3, 30, 40)


def test_switch_in_a_concatenation_and_a_mixing_wrapper(leaf):
    """Of two data sets one is mixed; afterwards neither is."""
    mixed = dict(type='MultiImageMixDataset', dataset=leaf(pipeline=LOAD), pipeline=[MOSAIC, PACK])
    dataset = build([leaf(), mixed])
    assert [tuple(dataset[i]['inputs'].shape[1:]) for i in (0, 3)] == [(60, 80), (64, 80)]
    switched(dataset, SMALL)
    assert [tuple(dataset[i]['inputs'].shape[1:]) for i in (0, 3)] == [(30, 40), (30, 40)]
    assert dataset.datasets[1].pipeline == [] and len(pipeline_of(dataset.datasets[1].dataset)) == 4
    # without loading, the outermost pipeline is replaced
    one = switched(build(mixed), [dict(type='Resize', scale=(20, 15), keep_ratio=True), PACK])
    assert one[0]['inputs'].shape == (3, 15, 20) and len(pipeline_of(one.dataset)) == 2
    # what mixes stays in the wrapper
    again = switched(build(mixed), [*LOAD, dict(MOSAIC, img_scale=(20, 15)), PACK])
    assert again[0]['inputs'].shape == (3, 30, 40) and len(pipeline_of(again.dataset)) == 2


def test_switches_that_could_not_take_effect_are_errors_before_training(leaf, caplog):
    dataset = build(leaf())
    for pipeline, words in (([MOSAIC, PACK], 'MultiImageMixDataset'), ([PACK], 'loads no picture')):
        with pytest.raises(ValueError, match=words):
            PipelineSwitchHook(5, pipeline).before_train(runner_of(dataset))
    by_iterations = runner_of(dataset, loop=mmengine.runner.IterBasedTrainLoop)
    for hook in (PipelineSwitchHook(5, SMALL), YOLOXModeSwitchHook()):
        with pytest.raises(ValueError, match='counts epochs, but train_cfg trains by iterations'):
            hook.before_train(by_iterations)
    PipelineSwitchHook(6, SMALL).before_train(runner_of(dataset))
    assert 'training ends after epoch 6, so switch_epoch=6 never comes' in caplog.text
    with pytest.raises(ValueError, match=r'training data set \(RepeatDataset\) has none inside'):
        YOLOXModeSwitchHook().before_train(runner_of(RepeatDataset(dataset, times=2)))


@pytest.mark.parametrize('around', ['none', 'repeat', 'foreign', 'slice', 'concat'])
def test_yolox_switch_in_wrappers(leaf, around):
    scoped = [dict(MOSAIC, type='mmdet.Mosaic'), PACK]
    mixed = MultiImageMixDataset(leaf(pipeline=LOAD), scoped)
    dataset = ConcatDataset([mixed, build(leaf())]) if around == 'concat' else WRAPPED[around][0](mixed)
    assert dataset[0]['inputs'].shape == (3, 64, 80)
    runner = runner_of(dataset)
    hook = YOLOXModeSwitchHook(num_last_epochs=1)
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    assert dataset[0]['inputs'].shape == (3, 60, 80) and runner.model.bbox_head.use_l1


@pytest.mark.slow
@pytest.mark.parametrize('hook', ['pipeline', 'yolox'])
def test_switches_reach_persistent_workers(leaf, hook):
    from mmdet.engine.runner import DetRunner

    mixed = dict(type='MultiImageMixDataset', dataset=leaf(pipeline=LOAD), pipeline=[MOSAIC, PACK])
    config = dict(batch_size=3, num_workers=1, persistent_workers=True, dataset=[mixed])
    loader = DetRunner.build_dataloader(dict(config, sampler=dict(type='DefaultSampler', shuffle=False)))
    hook = PipelineSwitchHook(1, SMALL) if hook == 'pipeline' else YOLOXModeSwitchHook(num_last_epochs=1)
    runner = runner_of(None, epochs=3)
    runner.train_dataloader = loader
    shapes = []
    for runner.epoch in range(3):
        hook.before_train_epoch(runner)
        shapes += [tuple(batch['inputs'][0].shape[1:]) for batch in loader]
    after = (30, 40) if isinstance(hook, PipelineSwitchHook) else (60, 80)
    assert shapes == [(64, 80), after, after]


@pytest.mark.parametrize('count', [2, 3])
def test_class_counts_inside_of_wrappers(leaf, count):
    model = nn.Module()
    model.bbox_head = nn.Module()
    model.bbox_head.num_classes = count
    datasets = [build(leaf()), build(leaf(metainfo=dict(classes=('cat', 'dog'))))]
    dataset = ConcatDataset(datasets[:1] if count == 3 else datasets, ignore_keys='classes')
    runner = SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=RepeatDataset(dataset, times=1)))
    if count == 3:
        NumClassCheckHook().before_train_epoch(runner)
        return
    with pytest.raises(ValueError, match=r'num_classes=2, but the train dataset has 3 classes: cat, dog, cow'):
        NumClassCheckHook().before_train_epoch(runner)


# --------------------------------------------------------------------------------------------------------------------
# Transforms that mix
class Choosy:
    """A mixing transform of another package."""

    def get_indexes(self, dataset):
        return 0

    def __call__(self, results):
        return results


MIXERS = {
    'Mosaic': MOSAIC,
    'MixUp': dict(type='MixUp', img_scale=(40, 32)),
    'CopyPaste': dict(type='CopyPaste'),
    'Choosy': Choosy(),
}


@pytest.mark.parametrize('name', MIXERS)
def test_mixing_transforms_without_their_wrapper(leaf, name):
    from mmdet.engine.runner import DetRunner

    broken = leaf(pipeline=[*LOAD, MIXERS[name], PACK])
    wrapped = dict(type='MultiImageMixDataset', dataset=leaf(pipeline=LOAD), pipeline=[MIXERS[name], PACK])
    assert mixing_without_wrapper(build(wrapped)) == []
    for dataset in (broken, [leaf(), dict(type='RepeatDataset', dataset=broken, times=2)]):
        with pytest.raises(ValueError, match=rf"{name} mixes several pictures.*type='MultiImageMixDataset'"):
            DetRunner.build_dataloader(dict(batch_size=1, dataset=dataset))
    if name == 'Choosy':
        return
    found = list(
        mixing_faults(dict(train_dataloader=dict(dataset=[leaf(), dict(type='RepeatDataset', dataset=broken)])))
    )
    assert [where for where, _ in found] == ['train_dataloader.dataset[1].dataset.pipeline[2]']
    assert list(mixing_faults(dict(train_dataloader=dict(dataset=wrapped)))) == []


def test_mixing_transforms_inside_of_others(leaf, default_scope):
    inside = dict(type='RandomApply', transforms=[MOSAIC], prob=0.5)
    wrapped = dict(type='MultiImageMixDataset', dataset=leaf(pipeline=LOAD), pipeline=[inside, PACK])
    (sentence,) = mixing_without_wrapper(build(wrapped))
    assert sentence.startswith('Mosaic inside of RandomApply gets no pictures to mix with')
    ((where, same),) = mixing_faults(dict(train_dataloader=dict(dataset=wrapped)))
    assert (where, same) == ('train_dataloader.dataset.pipeline[0]', sentence)


def test_transforms_with_a_cache_need_no_wrapper(leaf):
    from mmdet.datasets.transforms import CachedMixUp, CachedMosaic

    assert not needs_partners(CachedMosaic) and not needs_partners(CachedMixUp(img_scale=(40, 32)))
    assert mixing_without_wrapper(build(leaf(pipeline=[*LOAD, dict(MOSAIC, type='CachedMosaic'), PACK]))) == []


def test_hooks_of_a_config_that_miss_the_wrapper(leaf):
    hooks = [
        dict(type='YOLOXModeSwitchHook'),
        dict(type='PipelineSwitchHook', switch_epoch=1, switch_pipeline=[MOSAIC]),
    ]
    plain = dict(train_dataloader=dict(dataset=leaf()), custom_hooks=hooks)
    assert [where for where, _ in mixing_faults(plain)] == ['custom_hooks[0]', 'custom_hooks[1].switch_pipeline[0]']
    mixed = dict(type='MultiImageMixDataset', dataset=leaf(pipeline=LOAD), pipeline=[PACK])
    assert list(mixing_faults(dict(plain, train_dataloader=dict(dataset=[mixed])))) == []


def test_samples_know_their_file_under_test_time_augmentation(leaf, default_scope):
    flips = [[dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)], [PACK]]
    dataset = build([leaf(pipeline=[*LOAD, dict(type='TestTimeAug', transforms=flips)])] * 2)
    samples = dataset[3]['data_samples']
    assert [(s.dataset_index, s.ann_file) for s in samples] == [(1, dataset.datasets[1].ann_file)] * 2
    assert np.shape(dataset[3]['inputs'][0]) == (3, 60, 80)


@pytest.mark.parametrize(
    'around', [torch.utils.data.ConcatDataset, lambda parts: RepeatDataset(parts[0], times=1), Foreign]
)
def test_samplers_ask_through_wrappers(leaf, around):
    """Two of three pictures have objects, a cat and a dog."""
    from mmdet.datasets.samplers import AspectRatioBatchSampler, ClassAwareSampler

    inner = torch.utils.data.Subset(build(leaf()), [2, 0, 1])
    dataset = around(inner) if around is Foreign else around([inner])
    sampler = ClassAwareSampler(dataset, seed=0)
    assert sampler.cat_dict == {0: [1], 1: [2], 2: []}
    assert [len(batch) for batch in AspectRatioBatchSampler(sampler, 2)] == [2, 1]


def test_a_wrapper_that_hands_on_the_methods_of_what_it_wraps(leaf):
    """Images come three, three and one times; an index must not be looked up twice."""
    dataset = Foreign(ClassBalancedDataset(build(leaf()), oversample_thr=3.0))
    assert [locate(dataset, i)[1] for i in range(7)] == [0, 0, 0, 1, 1, 1, 2]


def test_samplers_that_need_a_concatenation_say_so(leaf):
    from mmdet.datasets.samplers import MultiDataAspectRatioBatchSampler, MultiDataSampler

    dataset = RepeatDataset(ConcatDataset([build(leaf())] * 2), times=1)
    with pytest.raises(TypeError, match='MultiDataSampler needs a ConcatDataset, not RepeatDataset'):
        MultiDataSampler(dataset, [1, 1])
    sampler = torch.utils.data.SequentialSampler(dataset)
    sampler.dataset = dataset
    with pytest.raises(TypeError, match='MultiDataAspectRatioBatchSampler needs a ConcatDataset, not RepeatDataset'):
        next(iter(MultiDataAspectRatioBatchSampler(sampler, 2, 2)))
