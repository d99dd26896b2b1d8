import numpy as np
import pytest

from mmdet.datasets import ClassBalancedDataset, CocoDataset, ConcatDataset, MultiImageMixDataset, RepeatDataset
from mmdet.registry import DATASETS

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]


@pytest.fixture
def config(coco_file):
    return dict(type='CocoDataset', **coco_file(), metainfo=dict(classes=('cat', 'dog', 'cow')), pipeline=LOAD)


def test_repeat(config):
    dataset = DATASETS.build(dict(type='RepeatDataset', dataset=config, times=3))
    assert isinstance(dataset, RepeatDataset) and len(dataset) == 9
    assert dataset[4]['img_id'] == 2 and dataset.get_cat_ids(7) == [1]


def test_class_balanced(config):
    """Three images; cat and dog in one each: f = 1/3, repeat factor sqrt(t / f)."""
    dataset = DATASETS.build(dict(type='ClassBalancedDataset', dataset=config, oversample_thr=3.0))
    assert isinstance(dataset, ClassBalancedDataset)
    assert [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))] == [1, 1, 1, 2, 2, 2, 3]


def test_concat(config):
    dataset = DATASETS.build(dict(type='ConcatDataset', datasets=[config, config]))
    assert isinstance(dataset, ConcatDataset) and len(dataset) == 6
    assert dataset[5]['img_id'] == 3 and dataset.get_dataset_source(3) == 1 and dataset.get_cat_ids(4) == [1]
    assert dataset.metainfo['classes'] == ('cat', 'dog', 'cow')


def test_concat_of_different_classes(config):
    other = dict(config, metainfo=dict(classes=('cat', 'dog')))
    with pytest.raises(ValueError, match=r"different classes:\n  dataset 0: \('cat', 'dog', 'cow'\)"):
        ConcatDataset([config, other])
    assert isinstance(ConcatDataset([config, other], ignore_keys='classes').metainfo, list)
    texts = [dict(x, return_classes=True) for x in (config, other)]
    assert [meta['classes'] for meta in ConcatDataset(texts).metainfo] == [('cat', 'dog', 'cow'), ('cat', 'dog')]


class Partner:
    """Asks for the sample after this one; gives up on image 1 unless the partner is image 3."""

    calls = 0

    def get_indices(self, dataset):
        self.calls += 1
        return [self.calls % len(dataset)]

    def __call__(self, results):
        partner = results['mix_results'][0]['img_id']
        return None if results['img_id'] == 1 and partner != 3 else dict(results, partner=partner)


def test_mix(config):
    transform = Partner()
    dataset = MultiImageMixDataset(config, [transform])
    assert len(dataset) == 3
    sample = dataset[0]  # partners 2, 3
    assert (sample['img_id'], sample['partner'], transform.calls) == (1, 3, 2)
    assert 'mix_results' not in sample
    dataset.update_skip_type_keys(['Partner'])
    assert 'partner' not in dataset[0]


def test_mix_that_never_works(config):
    with pytest.raises(RuntimeError, match=r'<lambda>|function gave nothing for .*1.jpg in 15 tries'):
        MultiImageMixDataset(config, [lambda results: None])[0]


def test_mosaic_from_a_config(config):
    np.random.seed(0)
    pipeline = [dict(type='Mosaic', img_scale=(40, 32)), dict(type='RandomAffine', border=(-20, -16))]
    dataset = DATASETS.build(
        dict(type='MultiImageMixDataset', dataset=config, pipeline=[*pipeline, dict(type='PackDetInputs')])
    )
    for i in range(3):
        assert dataset[i]['inputs'].shape == (3, 32, 40)


def test_mixed_samples_are_functions_of_seed_epoch_and_index(config):
    from mmdet.utils.randomness import EpochIndex, SeededFetch

    pipeline = [dict(type='Mosaic', img_scale=(40, 32)), dict(type='MixUp', img_scale=(40, 32))]
    pipeline += [dict(type='RandomAffine', border=(-20, -16)), dict(type='YOLOXHSVRandomAug')]
    fetch = SeededFetch(MultiImageMixDataset(config, pipeline), seed=5)
    first = [x['img'] for x in fetch([EpochIndex(0, 1), EpochIndex(1, 1)])]
    again = [x['img'] for x in fetch([EpochIndex(1, 1), EpochIndex(0, 1)])]
    other = [x['img'] for x in fetch([EpochIndex(0, 2), EpochIndex(1, 2)])]
    assert np.array_equal(first[0], again[1]) and np.array_equal(first[1], again[0])
    assert not np.array_equal(first[0], other[0])


def test_pipelines_do_not_depend_on_the_default_scope(config):
    names = [
        type(t).__module__ for t in CocoDataset(**{k: v for k, v in config.items() if k != 'type'}).pipeline.transforms
    ]
    assert names == ['mmdet.datasets.transforms.loading'] * 2
