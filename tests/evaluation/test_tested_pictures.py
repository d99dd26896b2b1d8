"""Numbers are those of the pictures that were tested, whatever their ids and whatever their data sets are wrapped in.

In all tables an image has one object; a detection on it is exact, and one beside it is a false alarm. Of n objects of
which k are found before any false alarm, precision is 1 up to the recall k / n: AP is (floor(100 k / n) + 1) / 101.
"""

import copy
import json

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.fileio import dump, load
from mmengine.structures import InstanceData

from mmdet.datasets import ConcatDataset, RepeatDataset
from mmdet.datasets.walk import build
from mmdet.evaluation import CocoMetric, DumpDetResults, DumpProposals, LVISMetric, VOCMetric, WIDERFaceMetric
from mmdet.evaluation.evaluator import MultiDatasetsEvaluator, build_evaluator

PIPELINE = [dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]
FOUND, BESIDE = [10, 10, 40, 40], [60, 10, 70, 20]
HALF, THIRD = 51 / 101, 34 / 101


def folder(root, name, ids=(1, 2), classes=('cat',), first=1, **changes):
    """A data set of images with these ids, each with one object; its annotation ids count from ``first``."""
    path = root / name
    path.mkdir(exist_ok=True)
    images = [dict(id=i, file_name=f'{n}.jpg', width=80, height=60) for n, i in enumerate(ids)]
    for image in images:
        image.update(neg_category_ids=[], not_exhaustive_category_ids=[])
    content = dict(
        images=images,
        annotations=[
            dict(id=first + n, image_id=i, category_id=0, bbox=[10, 10, 30, 30], area=900, iscrowd=0)
            for n, i in enumerate(ids)
        ],
        categories=[dict(id=n, name=c, frequency='f') for n, c in enumerate(classes)],
    )
    (path / 'ann.json').write_text(json.dumps(content))
    options = dict(type='CocoDataset', ann_file=str(path / 'ann.json'), data_prefix=dict(img=str(path)), test_mode=True)
    return options | dict(metainfo=dict(classes=classes), pipeline=PIPELINE) | changes


def results(dataset, missed=(), label=0):
    """A detection on the object of each sample, or beside it at a lower score for those in ``missed``."""
    samples = []
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        sample.set_metainfo(dict(ori_shape=(60, 80)))  # there are no pictures to read
        miss = index in missed
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([BESIDE if miss else FOUND], dtype=torch.float32),
            scores=torch.tensor([0.5 if miss else 0.9]),
            labels=torch.tensor([label]),
        )
        samples.append(sample)
    return samples


def numbers_of(evaluator, dataset, samples, size=None):
    evaluator = build_evaluator(evaluator)
    evaluator.dataset_meta = dataset.metainfo
    evaluator.process(samples)
    return evaluator.evaluate(size or len(dataset))


def mean_ap(metric, dataset, samples):
    return {name: value for name, value in numbers_of(metric, dataset, samples).items() if name.endswith('mAP')}


@pytest.fixture(autouse=True)
def _scope(default_scope):
    pass


@pytest.mark.parametrize('backend', ['hotcoco', 'pycocotools'])
@pytest.mark.parametrize('subset', [dict(indices=3), dict(indices=[7, 8, 9])])
def test_a_part_of_the_file(tmp_path, subset, backend):
    """Of ten images three are tested and all found: 1, where the whole file would make it 31 / 101."""
    dataset = build(folder(tmp_path, 'a', range(10), **subset))
    metric = CocoMetric(dataset.ann_file, ['bbox', 'proposal_fast'], use_faster_coco_eval=backend)
    numbers = numbers_of(metric, dataset, results(dataset))
    assert numbers['coco/bbox_mAP'] == 1 and numbers['coco/AR@100'] == 1
    assert mean_ap(metric, dataset, results(dataset, missed=[1, 2])) == {
        'coco/bbox_mAP': pytest.approx(THIRD, abs=1e-9)
    }
    lvis = LVISMetric(dataset.ann_file, use_faster_coco_eval=backend)
    assert numbers_of(lvis, dataset, results(dataset))['lvis/bbox_AP'] == 1


def test_what_a_filter_leaves_at_test_time(tmp_path):
    """Two of four images are too small for ``min_size``, which a data set without ``test_mode`` applies."""
    config = folder(tmp_path, 'a', range(4), test_mode=False, filter_cfg=dict(min_size=50))
    content = load(config['ann_file'])
    for image in content['images'][:2]:
        image['height'] = 45
    dump(content, config['ann_file'])
    dataset = build(config)
    assert mean_ap(CocoMetric(dataset.ann_file), dataset, results(dataset)) == {'coco/bbox_mAP': 1}


@pytest.mark.parametrize('backend', ['hotcoco', 'pycocotools'])
@pytest.mark.parametrize('ann_file', [True, False])
@pytest.mark.parametrize(
    ('ids', 'first'),
    [((0, 1), 0), ((-1, -2), -1), (('x', 'y'), 1), ((0, 'a'), 0), (('10', '9'), 1), ((2**40, 0), 0)],
)
def test_ids_of_any_kind(tmp_path, ids, first, ann_file, backend):
    """Of two objects one is found; an annotation id 0, say, makes no difference. The written ids are those given."""
    dataset = build(folder(tmp_path, 'a', ids, first=first))
    metric = CocoMetric(
        dataset.ann_file if ann_file else None,
        ['bbox', 'proposal_fast'],
        outfile_prefix=str(tmp_path / 'out'),
        use_faster_coco_eval=backend,
    )
    numbers = numbers_of(metric, dataset, results(dataset, missed=[1]))
    assert numbers['coco/bbox_mAP'] == numbers['coco/bbox_mAP_50'] == pytest.approx(HALF, abs=1e-9)
    assert numbers['coco/AR@100'] == 0.5
    assert {entry['image_id'] for entry in load(str(tmp_path / 'out.bbox.json'))} == set(ids)


@pytest.mark.parametrize('backend', ['hotcoco', 'pycocotools'])
def test_metrics_of_their_own_data_sets(tmp_path, backend):
    """Equal ids in two data sets: each metric takes its own pictures. In the first all is found, in the second half."""
    dataset = build([folder(tmp_path, 'a', (1, 2, 3)), folder(tmp_path, 'b', (1, 2))])
    metrics = [
        CocoMetric(str(tmp_path / name / 'ann.json'), prefix=name, use_faster_coco_eval=backend) for name in 'ab'
    ]
    samples = results(dataset, missed=[3])
    assert mean_ap(Evaluator(metrics), dataset, samples) == {
        'a/bbox_mAP': 1,
        'b/bbox_mAP': pytest.approx(HALF, abs=1e-9),
    }
    # by any way to write the path, in any order, and with the same numbers when it evaluates again
    other = CocoMetric(str(tmp_path / 'a' / '..' / 'b' / 'ann.json'))
    for _ in range(2):
        assert mean_ap(other, dataset, samples[::-1]) == {'coco/bbox_mAP': pytest.approx(HALF, abs=1e-9)}
    assert mean_ap(CocoMetric(), dataset, samples) == {'coco/bbox_mAP': pytest.approx(81 / 101, abs=1e-9)}  # 4 of 5


def test_two_folders_with_one_annotation_file(tmp_path):
    """Clean and blurred pictures, say: in the first folder both are found, in the second none; 2 of 4."""
    clean = folder(tmp_path, 'a')
    dataset = build([clean, dict(clean, data_prefix=dict(img=str(tmp_path / 'blurred')))])
    samples = results(dataset, missed=[2, 3])
    for metric in (CocoMetric(clean['ann_file']), CocoMetric()):
        assert mean_ap(metric, dataset, samples) == {'coco/bbox_mAP': pytest.approx(HALF, abs=1e-9)}


def test_one_file_for_several_data_sets(tmp_path):
    """A file that is of none of the data sets is taken by ids, where these say which picture is meant."""
    dataset = build([folder(tmp_path, 'a', (1, 2)), folder(tmp_path, 'b', (3, 4))])
    merged = folder(tmp_path, 'merged', (1, 2, 3, 4, 5))['ann_file']
    assert mean_ap(CocoMetric(merged), dataset, results(dataset)) == {'coco/bbox_mAP': 1}
    same = build([folder(tmp_path, 'c', (1, 2)), folder(tmp_path, 'd', (2, 3))])
    with pytest.raises(
        ValueError, match=r'image id 2 is that of pictures of several data sets.*merged.*of none of them'
    ):
        mean_ap(CocoMetric(merged), same, results(same))
    with pytest.raises(ValueError, match='1 images that were tested are not in the annotation file'):
        mean_ap(
            CocoMetric(same.datasets[0].ann_file), dataset.datasets[1], results(build(folder(tmp_path, 'e', (2, 9))))
        )


def test_pictures_that_come_twice_count_once(tmp_path, monkeypatch):
    """As a wrapper repeats them, or as processes share them unevenly: three of them, in an order of their own."""
    inner = build(folder(tmp_path, 'a', (1, 2, 3)))
    dataset = RepeatDataset(inner, times=2)
    samples = results(dataset, missed=[2, 5])
    expected = {'coco/bbox_mAP': pytest.approx(67 / 101, abs=1e-9)}
    assert mean_ap(CocoMetric(inner.ann_file), dataset, samples) == expected
    assert numbers_of(VOCMetric(eval_mode='area'), dataset, samples)['pascal_voc/AP50'] == pytest.approx(
        2 / 3, abs=1e-3
    )
    # the padding of a loader is not at the end where batches are made by size: 1 1 | 3 2 for three pictures
    padded = [samples[i] for i in (0, 0, 2, 1)]
    metric = CocoMetric(inner.ann_file)
    assert mean_ap(metric, inner, padded) == expected
    assert numbers_of(VOCMetric(eval_mode='area'), inner, padded)['pascal_voc/AP50'] == pytest.approx(2 / 3, abs=1e-3)
    numbers_of(DumpDetResults(str(tmp_path / 'out.pkl')), inner, padded)
    assert sorted(result['img_id'] for result in load(str(tmp_path / 'out.pkl'))) == [1, 2, 3]
    wider = WIDERFaceMetric(min_heights=dict(all=1))
    assert numbers_of(wider, inner, padded) == numbers_of(wider, inner, samples[:3])


def test_a_metric_of_somebody_else_is_given_as_many_results_as_images(tmp_path):
    """One that computes by itself relies on what BaseMetric promises: the padding of the loader is cut off."""

    class Counting(CocoMetric):
        def compute_metrics(self, results):
            return dict(count=len(results))

    dataset = build(folder(tmp_path, 'a', (1, 2, 3)))
    samples = results(dataset)
    assert numbers_of(Counting(), dataset, [*samples, samples[0]]) == {'coco/count': 3}


def test_drawings_have_the_classes_of_their_data_set(tmp_path, monkeypatch):
    from mmdet.visualization import DetLocalVisualizer

    configs = [folder(tmp_path, name, classes=classes) for name, classes in (('a', ('cat', 'dog')), ('b', ('owl',)))]
    dataset = ConcatDataset(configs, ignore_keys='classes')
    visualizer, names = DetLocalVisualizer(), []
    visualizer.dataset_meta = dataset.metainfo
    monkeypatch.setattr(
        visualizer, '_draw_instances', lambda image, instances, classes, *args: names.append(classes) or image
    )
    for sample in results(dataset):
        visualizer.add_datasample('', np.zeros((60, 80, 3), np.uint8), sample, draw_gt=False)
    assert names == [('cat', 'dog')] * 2 + [('owl',)] * 2


def test_faces_of_equal_names_in_two_data_sets(tmp_path):
    """All four faces are found; by their names alone the two data sets would be one."""
    dataset = build([folder(tmp_path, 'a'), folder(tmp_path, 'b')])
    wider = WIDERFaceMetric(min_heights=dict(all=1))
    assert numbers_of(wider, dataset, results(dataset)) == {'wider_face/all_AP': pytest.approx(1)}
    assert numbers_of(wider, dataset, results(dataset, missed=[0, 1]))['wider_face/all_AP'] < 0.6
    with pytest.raises(ValueError, match='of several data sets, whose results would be one file'):
        same = [
            dict(
                img_path=f'{r}/x/0.jpg',
                img_id=0,
                instances=[],
                pred_instances=dict(bboxes=np.zeros((0, 4)), scores=np.zeros(0)),
            )
            for r in 'ab'
        ]
        wider = WIDERFaceMetric(outfile_prefix=str(tmp_path / 'faces'))
        wider.process({}, same)
        wider.evaluate(2)
    with pytest.raises(ValueError, match=r"are both 'x/0.jpg' in a file of proposals"):
        same = [
            dict(img_path=f'{r}/x/0.jpg', pred_instances=dict(bboxes=np.zeros((0, 4)), scores=np.zeros(0)))
            for r in 'ab'
        ]
        DumpProposals().process({}, same)


def test_no_ground_truth_is_minus_one(tmp_path):
    config = folder(tmp_path, 'a')
    content = load(config['ann_file'])
    dump(dict(content, annotations=[]), config['ann_file'])
    dataset = build(config)
    assert mean_ap(CocoMetric(dataset.ann_file), dataset, results(dataset)) == {'coco/bbox_mAP': -1}


# --------------------------------------------------------------------------------------------------------------------
# One metric for each data set
def test_multi_datasets_evaluator(tmp_path):
    dataset = build([folder(tmp_path, 'a', (1, 2, 3)), folder(tmp_path, 'b', (1, 2))])
    config = dict(
        type='MultiDatasetsEvaluator',
        metrics=[dict(type='CocoMetric', ann_file=str(tmp_path / name / 'ann.json')) for name in 'ab'],
        dataset_prefixes=['all', 'half'],
    )
    expected = {'all/coco/bbox_mAP': 1, 'half/coco/bbox_mAP': pytest.approx(HALF, abs=1e-9)}
    samples = results(dataset, missed=[4])
    assert mean_ap(config, dataset, samples) == expected
    assert mean_ap(config, dataset, samples[::-1]) == expected
    evaluator = build_evaluator(config)
    assert isinstance(evaluator, MultiDatasetsEvaluator)
    evaluator.metrics.append(DumpDetResults(str(tmp_path / 'all.pkl')))
    evaluator.dataset_meta = dataset.metainfo
    assert evaluator._get_cumulative_sizes() == [3, 5]
    assert evaluator.offline_evaluate(samples, chunk_size=2)['half/coco/bbox_mAP'] == expected['half/coco/bbox_mAP']
    marks = [(result['dataset_index'], result['img_id']) for result in load(str(tmp_path / 'all.pkl'))]
    assert marks == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]


def test_multi_datasets_evaluator_of_different_classes(tmp_path):
    """A label is a class of the data set it is of: label 0 is the cat in one and the dog in the other."""
    configs = [folder(tmp_path, name, classes=classes) for name, classes in (('a', ('cat', 'dog')), ('b', ('dog',)))]
    dataset = ConcatDataset(configs, ignore_keys='classes')
    metrics = [CocoMetric(config['ann_file'], classwise=True) for config in configs]
    evaluator = MultiDatasetsEvaluator(metrics, ('a', 'b'))
    numbers = numbers_of(evaluator, dataset, results(dataset, missed=[0]))
    assert numbers['a/coco/cat_precision'] == pytest.approx(HALF, abs=1e-9) and numbers['b/coco/dog_precision'] == 1
    # metrics of their own annotation files find their classes too
    for metric, name in zip(metrics, 'ab', strict=True):
        metric.prefix = name
    numbers = numbers_of(Evaluator(metrics), dataset, results(dataset, missed=[0]))
    assert numbers['a/cat_precision'] == pytest.approx(HALF, abs=1e-9) and numbers['b/dog_precision'] == 1
    with pytest.raises(ValueError, match='pictures of 2 data sets with different classes'):
        numbers_of(CocoMetric(), dataset, results(dataset))


def test_the_check_of_configs_knows_evaluators():
    from mmengine.config import Config

    from mmdet.checks import check_config

    metrics = [dict(type='CocoMetric'), dict(type='CocoMetrik')]
    evaluator = dict(type='MultiDatasetsEvaluator', metrics=metrics, dataset_prefixes=['a', 'b'])
    (finding,) = (each for each in check_config(Config(dict(test_evaluator=evaluator))) if each.level == 'error')
    assert finding.where == 'test_evaluator.metrics[1].type' and 'Did you mean CocoMetric' in finding.message


def test_mistakes_with_the_multi_datasets_evaluator(tmp_path):
    metrics = [CocoMetric(), CocoMetric()]
    with pytest.raises(ValueError, match='has 2 metrics, but 1 dataset_prefixes: a'):
        MultiDatasetsEvaluator(metrics, ['a'])
    with pytest.raises(ValueError, match='not distinct: a, a'):
        MultiDatasetsEvaluator(metrics, ['a', 'a'])
    plain = build(folder(tmp_path, 'a'))
    with pytest.raises(KeyError, match='image 1 has no dataset_index: the data set must be a ConcatDataset'):
        numbers_of(MultiDatasetsEvaluator(metrics, 'ab'), plain, results(plain))
    three = build([folder(tmp_path, name) for name in 'abc'])
    with pytest.raises(ValueError, match='has 2 metrics for 3 data sets'):
        numbers_of(MultiDatasetsEvaluator(metrics, 'ab'), three, results(three))


# --------------------------------------------------------------------------------------------------------------------
# Dumped results
@pytest.fixture
def dumped(tmp_path):
    """A config with two data sets of equal ids, and results of which one in five is missed."""
    configs = [folder(tmp_path, 'a', (1, 2, 3)), folder(tmp_path, 'b', (1, 2))]
    dataset = build(configs)
    numbers_of(DumpDetResults(str(tmp_path / 'results.pkl')), dataset, results(dataset, missed=[4]))
    metrics = [
        dict(type='CocoMetric', ann_file=config['ann_file'], prefix=name)
        for config, name in zip(configs, 'ab', strict=True)
    ]
    path = tmp_path / 'config.py'
    path.write_text(f'test_dataloader = dict(dataset={configs!r})\ntest_evaluator = {metrics!r}\n')
    return str(path), str(tmp_path / 'results.pkl')


def tool(name):
    import importlib.util
    from pathlib import Path

    path = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    'lost', [(), ('ann_file',), ('ann_file', 'img_path'), ('ann_file', 'img_path', 'dataset_index')]
)
def test_a_dump_of_several_data_sets(dumped, lost):
    """Also of a version that wrote less into it: then by what is left, at last by the order."""
    config, path = dumped
    found = [{name: value for name, value in result.items() if name not in lost} for result in load(path)]
    dump(found, path)
    module = tool('eval_metric')
    numbers = module.main(module.parse_args([config, path]))
    assert numbers['a/bbox_mAP'] == 1 and numbers['b/bbox_mAP'] == pytest.approx(HALF, abs=1e-9)
    evaluator = dict(type='MultiDatasetsEvaluator', dataset_prefixes=['a', 'b'], metrics=[dict(type='CocoMetric')] * 2)
    with open(config, 'a') as file:
        file.write(f'test_evaluator = {evaluator!r}\n')
    numbers = module.main(module.parse_args([config, path]))
    assert numbers['a/coco/bbox_mAP'] == 1 and numbers['b/coco/bbox_mAP'] == pytest.approx(HALF, abs=1e-9)


def test_a_dump_that_does_not_say_which_picture_it_is_of(dumped):
    config, path = dumped
    dump(
        [dict(img_id=r['img_id'], ori_shape=(60, 80), pred_instances=r['pred_instances']) for r in load(path)][::-1],
        path,
    )
    module = tool('eval_metric')
    with pytest.raises(ValueError, match='several images of one id'):
        module.main(module.parse_args([config, path]))


def test_analysis_of_several_data_sets(dumped, tmp_path):
    """One of five cats is not found, and what is beside it is a cat on the background."""
    from mmdet.apis.offline import dataset_of, load_results
    from mmdet.config import load_config

    config, path = dumped
    cfg = load_config(config)
    dataset, found = dataset_of(cfg, test_mode=True), load_results(path)
    module = tool('confusion_matrix')
    assert module.calculate_confusion_matrix(dataset, found[::-1]).tolist() == [[4, 1], [1, 0]]
    with pytest.raises(ValueError, match='The dataset has 5 images, but there are results for 4'):
        module.calculate_confusion_matrix(dataset, found[1:])
    best, worst = tool('analyze_results').rank(dataset, copy.deepcopy(found), 1)
    assert worst[0][:2] == (0, 4) and best[0][0] == pytest.approx(1)
    module.main(module.parse_args([config, path, str(tmp_path / 'out')]))
    assert (tmp_path / 'out' / 'confusion_matrix.png').is_file()
