"""Metrics of detectors that read, on tables worked by hand."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch

from mmdet.datasets import ODVGDataset
from mmdet.errors import UserError
from mmdet.evaluation import (
    COCOCaptionMetric,
    DODCocoMetric,
    DumpODVGResults,
    Flickr30kMetric,
    MultiDatasetsEvaluator,
    OVCocoMetric,
    RefExpMetric,
    RefSegMetric,
    gRefCOCOMetric,
)
from mmdet.evaluation.metrics.coco_caption_metric import evaluate_captions, save_result
from mmdet.evaluation.metrics.flickr30k_metric import RecallTracker
from mmdet.evaluation.metrics.grefcoco_metric import matched
from mmdet.structures.mask import BitmapMasks

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 40, 60, 60]
A_HALF = [0, 0, 10, 5]  # IoU 0.5 with A
A_LESS = [0, 0, 10, 4]  # 0.4
NOWHERE = [90, 90, 95, 95]


def found(*rows, **fields):
    """Rows are box, score and label."""
    boxes = torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4)
    scores = torch.tensor([row[1] for row in rows], dtype=torch.float32)
    labels = torch.tensor([row[2] if len(row) > 2 else 0 for row in rows], dtype=torch.long)
    return dict(fields, pred_instances=dict(bboxes=boxes, scores=scores, labels=labels))


def coco(tmp_path, boxes_by_image, names=('object',), images=None, name='ann.json'):
    """Boxes are xyxy with the number of their category, from 1 on."""
    annotations = []
    for image_id, boxes in boxes_by_image.items():
        for (x1, y1, x2, y2), category in boxes:
            box, area = [x1, y1, x2 - x1, y2 - y1], (x2 - x1) * (y2 - y1)
            annotations.append(
                dict(id=len(annotations) + 1, image_id=image_id, bbox=box, area=area, category_id=category, iscrowd=0)
            )
    images = images or [dict() for _ in boxes_by_image]
    images = [
        dict(id=own, file_name=f'{own}.jpg', height=100, width=100) | image
        for own, image in zip(boxes_by_image, images, strict=True)
    ]
    categories = [dict(id=i, name=each) for i, each in enumerate(names, 1)]
    (tmp_path / name).write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return str(tmp_path / name)


def numbers(metric, samples, **meta):
    metric.dataset_meta = meta or dict(classes=('object',))
    for sample in samples:  # one at a time, as a loader gives them
        metric.process({}, [sample])
    return {name.partition('/')[2]: value for name, value in metric.evaluate(len(samples)).items()}


# ----------------------------------------------------------------------------------------------------------------------
def test_precision_of_expressions(tmp_path):
    path = coco(
        tmp_path,
        {i: [(A, 1)] for i in (1, 2, 3, 4)},
        images=[dict(dataset_name=name) for name in ('refcoco', 'refcoco', 'refcoco', 'refcocog')],
    )
    samples = [
        found((A, 0.5), (B, 0.4), img_id=1),  # first
        found((B, 0.9), (A_HALF, 0.3), img_id=2),  # second
        found((A_LESS, 0.9), img_id=3),  # never
        found(img_id=4),
    ]
    assert numbers(RefExpMetric(path, topk=(1, 2)), samples) == pytest.approx(
        {
            'refcoco_precision@1': 1 / 3,
            'refcoco_precision@2': 2 / 3,
            'refcocog_precision@1': 0,
            'refcocog_precision@2': 0,
            'mean_precision': 1 / 4,
        }
    )
    assert numbers(RefExpMetric(path, topk=(1,), iou_thrs=0.4), samples)['refcoco_precision@1'] == pytest.approx(2 / 3)


def test_expressions_that_are_not_those_of_the_file(tmp_path):
    path = coco(tmp_path, {1: [(A, 1), (B, 1)]})
    with pytest.raises(UserError, match='image 1 has 2 annotations'):
        numbers(RefExpMetric(path), [found(img_id=1)])
    with pytest.raises(UserError, match='image 7 was tested'):
        numbers(RefExpMetric(path), [found(img_id=7)])
    with pytest.raises(UserError, match='needs ann_file'):
        RefExpMetric()
    with pytest.raises(UserError, match="must be 'bbox'"):
        gRefCOCOMetric(path, metric='segm')
    with pytest.raises(UserError, match='can count'):
        RefExpMetric(path).process({}, [found((A, float('nan')), img_id=1)])


@pytest.mark.parametrize(
    'overlaps, count',
    [
        (np.zeros((0, 2)), 0),
        ([[0.9, 0.8]], 1),
        ([[0.9, 0.8], [0.7, 0.2]], 1),  # greedy: the best pair leaves 0.2 to the others
        ([[0.6, 0.5], [0.5, 0.4]], 1),
        ([[0.4]], 0),
        ([[0.9, 0.1, 0], [0, 0.8, 0.7]], 2),
    ],
)
def test_greedy_matching(overlaps, count):
    assert matched(np.array(overlaps), 0.5) == count


def test_any_number_of_objects(tmp_path):
    path = coco(
        tmp_path,
        {1: [(A, 1), (B, 1)], 2: [(A, 1)], 3: [(A, 1)], 4: [([0, 0, 0, 0], -1)], 5: [([0, 0, 0, 0], -1)], 6: [(A, 1)]},
        names=('object',),
    )
    samples = [
        found((B, 0.9), (A_HALF, 0.8), (C, 0.6), img_id=1),  # both, and what is below the score does not count
        found((A, 0.9), (C, 0.7), img_id=2),  # one too many: F1 2/3
        found((A, 0.6), img_id=3),  # nothing
        found((A, 0.69), img_id=4),  # rightly nothing
        found((A, 0.7), img_id=5),
        found((B, 0.9), img_id=6),  # something else
    ]
    got = numbers(gRefCOCOMetric(path), samples)
    assert got == pytest.approx(dict(F1_score=2 / 6, T_acc=3 / 4, N_acc=1 / 2))
    assert numbers(gRefCOCOMetric(path, thresh_f1=0.6), samples)['F1_score'] == pytest.approx(3 / 6)
    assert numbers(gRefCOCOMetric(path), samples[:1]) == dict(F1_score=1, T_acc=1, N_acc=0)


# ----------------------------------------------------------------------------------------------------------------------
def test_recall_tracker():
    tracker = RecallTracker([1, 5])
    for k, hits in ((1, '101'), (5, '11')):
        for hit in hits:
            (tracker.add_positive if hit == '1' else tracker.add_negative)(k, 'people')
    tracker.add_negative(1, 'scene')
    assert tracker.report() == {1: {'people': 2 / 3, 'scene': 0}, 5: {'people': 1}}
    with pytest.raises(UserError, match='3 is not among'):
        tracker.add_positive(3, 'people')


def phrases(truth, *rows, **fields):
    """``truth`` are pairs of box and phrase."""
    gt = dict(bboxes=torch.tensor([box for box, _ in truth], dtype=torch.float32).reshape(-1, 4))
    return dict(found(*rows, **fields), gt_instances=gt, phrase_ids=[phrase for _, phrase in truth])


def test_recall_of_phrases():
    truth = [(A, 0), (B, 1), (C, 1)]
    samples = [
        phrases(truth, (A, 0.3, 0), (NOWHERE, 0.9, 0), (C, 0.8, 1), (A, 0.99, 1), img_id=1),  # both are second
        phrases([(A, 0)], (A, 0.9, 1), img_id=2),  # a box of another phrase
        phrases([(B, 0)], (B, 0.9, 0), (A, 0.1, 0), img_id=3),
        phrases([], (B, 0.9, 0), img_id=4),  # no phrase has boxes
    ]
    assert numbers(Flickr30kMetric(topk=(1, 2, -1)), samples) == pytest.approx(
        {'Recall@1': 1 / 4, 'Recall@2': 3 / 4, 'Recall@all': 3 / 4}
    )
    # B and C are one box (20, 0, 60, 60), which neither is
    merged = numbers(Flickr30kMetric(topk=(5,), merge_boxes=True), samples[:1])
    assert merged == {'Recall@5': 0.5}
    around = phrases(truth, (A, 0.9, 0), ([20, 0, 60, 60], 0.1, 1), img_id=1)
    assert numbers(Flickr30kMetric(topk=(5,), merge_boxes=True), [around]) == {'Recall@5': 1.0}
    with pytest.raises(UserError, match='phrase_ids'):
        Flickr30kMetric().process({}, [found(img_id=1)])


# ----------------------------------------------------------------------------------------------------------------------
def masks(*rows):
    return np.array([[[int(cell) for cell in row.ljust(4, '0')]] for row in rows], dtype=bool)  # (n, 1, 4)


@pytest.mark.parametrize('kind', [torch.from_numpy, lambda array: BitmapMasks(array.astype(np.uint8), 1, 4)])
def test_masks_of_expressions(kind):
    samples = [
        dict(img_id=1, pred_instances=dict(masks=kind(masks('1100'))), gt_masks=kind(masks('0110'))),  # 1 of 3
        dict(
            img_id=2,
            pred_instances=dict(masks=kind(masks('1', '0011'))),
            gt_instances=dict(masks=kind(masks('1', '1'))),
        ),
        dict(img_id=3, pred_instances=dict(masks=kind(masks('0'))), gt_masks=kind(masks('0'))),  # nothing, of nothing
    ]
    # the second picture: 1 + 0 of 1 + 3
    got = numbers(RefSegMetric(), samples)
    assert got == pytest.approx(dict(cIoU=100 * 2 / 7, mIoU=100 * (1 / 3 + 1 / 4) / 3))
    assert set(numbers(RefSegMetric('mIoU'), samples)) == {'mIoU'}


def test_masks_that_cannot_be_compared():
    with pytest.raises(UserError, match='cIoU, mIoU'):
        RefSegMetric('IoU')
    pred = dict(masks=torch.from_numpy(masks('1', '1')))
    with pytest.raises(UserError, match='the true masks'):
        RefSegMetric().process({}, [dict(img_id=1, pred_instances=pred)])
    with pytest.raises(UserError, match=r'shape \(2, 1, 4\), the truth of \(1, 1, 4\)'):
        RefSegMetric().process({}, [dict(img_id=1, pred_instances=pred, gt_masks=torch.from_numpy(masks('1')))])


# ----------------------------------------------------------------------------------------------------------------------
def test_descriptions_by_length(tmp_path):
    names = ('a red dog', 'a dog that is red', 'one two three four five six seven', ' '.join('abcdefghij'), 'no object')
    path = coco(tmp_path, {1: [(A, 1), (B, 2)], 2: [(C, 3), (A, 4)]}, names)
    samples = [
        found((A, 0.9, 1), (C, 0.8, 0), img_id=1, sent_ids=[1, 2]),  # A as that of B
        found((C, 0.9, 1), (A, 0.8, 0), (B, 0.7, 2), img_id=2, sent_ids=[4, 3, 5]),
    ]
    got = numbers(DODCocoMetric(path, outfile_prefix=str(tmp_path / 'out')), samples)
    # categories 1 and 2 are missed, 3 and 4 found
    wanted = dict(mAP=0.5, mAP_50=0.5, mAP_short=0, mAP_mid=0, mAP_long=1, mAP_very_long=1)
    assert got | wanted == pytest.approx(got)
    written = json.loads((tmp_path / 'out.bbox.json').read_text())
    assert [entry['category_id'] for entry in written] == [2, 1, 3, 4, 5]
    assert written[2]['bbox'] == [40, 40, 20, 20]
    assert numbers(DODCocoMetric(path), samples[:1])['mAP_long'] == -1  # of the pictures that were tested
    with pytest.raises(UserError, match='sent_ids'):
        DODCocoMetric(path).process({}, [found(img_id=1)])
    with pytest.raises(UserError, match='label 3'):
        DODCocoMetric(path).process({}, [found((A, 0.9, 3), img_id=1, sent_ids=[1])])


def test_base_and_novel_classes(tmp_path):
    path = coco(tmp_path, {1: [(A, 1), (B, 2), (C, 3)]}, ('cat', 'dog', 'cow', 'bird'))
    sample = found((A, 0.9, 0), (A, 0.9, 1), ([40, 40, 60, 52], 0.9, 2), img_id=1, ori_shape=(100, 100))  # IoU 0.6
    meta = dict(classes=('cat', 'dog', 'cow', 'bird'), base_classes=('cat', 'dog'), novel_classes=('cow', 'bird'))
    got = numbers(OVCocoMetric(path), [sample], **meta)
    # cow: a match at 0.5, 0.55 and 0.6 of ten thresholds
    wanted = dict(base_ap=0.5, base_ap50=0.5, novel_ap=0.3, novel_ap50=1.0, bbox_mAP_50=2 / 3)
    assert got | wanted == pytest.approx(got)
    nothing = numbers(OVCocoMetric(path), [sample], **meta | dict(novel_classes=('bird',)))
    assert nothing['novel_ap'] == -1
    with pytest.raises(UserError, match='base_classes'):
        numbers(OVCocoMetric(path), [sample], classes=meta['classes'])


# ----------------------------------------------------------------------------------------------------------------------
def shape(name='pictures/sub/1.jpg', **fields):
    return dict(fields, img_path=name, ori_shape=(100, 120), img_id=name)


def dumped(tmp_path, samples, meta=None, **kwargs):
    path = tmp_path / 'labels' / 'made.json'
    metric = DumpODVGResults(str(path), 'pictures', **kwargs)
    metric.dataset_meta = meta
    metric.process({}, samples)
    assert metric.evaluate(len(samples)) == {}
    return [json.loads(line) for line in path.read_text().splitlines()]


ROWS = (A, 0.9, 0), ([0, 0, 10, 9], 0.8, 0), (A, 0.7, 1), (B, 0.25, 1), (C, 0.05, 0)


def test_detections_as_labels(tmp_path):
    line, empty = dumped(
        tmp_path, [found(*ROWS, **shape(text=('cat', 'dog'))), found(**shape('elsewhere/2.jpg', text=['cat']))]
    )
    assert (line['filename'], line['height'], line['width']) == ('sub/1.jpg', 100, 120)
    assert line['detection']['instances'] == [
        dict(bbox=A, score=0.9, label=0, category='cat'),
        dict(bbox=A, score=0.7, label=1, category='dog'),
        dict(bbox=B, score=0.25, label=1, category='dog'),
    ]
    assert empty == dict(filename='elsewhere/2.jpg', height=100, width=120, detection=dict(instances=[]))


@pytest.mark.parametrize(
    'fields, meta, kwargs, categories',
    [
        (dict(text=['cat', 'dog']), None, dict(score_thr=0.75), ['cat']),
        (dict(text=['cat', 'dog']), None, dict(score_thr=dict(cat=0.95, dog=0.2)), ['dog', 'dog']),
        (dict(text=['cat', 'dog']), None, dict(score_thr=[0.0, 0.95], nms_thr=None), ['cat', 'cat', 'cat']),
        ({}, dict(classes=('a', 'b')), {}, ['a', 'b', 'b']),
        (dict(text='cat . dog .'), dict(classes=('a',)), {}, ['cat 0', 'dog 2', 'dog 3']),  # by names of the model
    ],
)
def test_thresholds_and_names_of_labels(tmp_path, fields, meta, kwargs, categories):
    sample = found(*ROWS, **shape(**fields))
    if isinstance(fields.get('text'), str):
        sample['pred_instances']['label_names'] = ['cat 0', 'cat 1', 'dog 2', 'dog 3', 'cat 4']
    (line,) = dumped(tmp_path, [sample], meta, **kwargs)
    assert [entry['category'] for entry in line['detection']['instances']] == categories


def test_phrases_as_labels(tmp_path):
    caption = 'a cat and a dog'
    spans = [[[2, 5]], [[12, 15]], [[0, 1], [10, 11]]]
    samples = [
        found(*ROWS, **shape(text=caption, tokens_positive=spans)),
        found((A, 0.9), **shape('pictures/2.jpg', text=caption, tokens_positive=-1)),
        found((A, 0.9, 1), **shape('pictures/3.jpg', text=caption, tokens_positive={1: [[12, 15]], 0: [[2, 5]]})),
    ]
    lines = dumped(tmp_path, samples, score_thr=0.1)
    assert lines[0]['grounding'] == dict(
        caption=caption,
        regions=[
            dict(phrase=['cat'], bbox=[A], score=[0.9], tokens_positive=[[2, 5]]),
            dict(phrase=['dog'], bbox=[A, B], score=[0.7, 0.25], tokens_positive=[[12, 15]]),
            dict(phrase=['a', 'a'], bbox=[], score=[], tokens_positive=[[0, 1], [10, 11]]),
        ],
    )
    assert lines[1]['grounding']['regions'] == [
        dict(phrase=[caption], bbox=[A], score=[0.9], tokens_positive=[[0, 15]])
    ]
    assert [region['bbox'] for region in lines[2]['grounding']['regions']] == [[], [A]]
    data = ODVGDataset(ann_file=str(tmp_path / 'labels' / 'made.json'), data_prefix=dict(img='p'), return_classes=True)
    assert [len(data.get_data_info(i)['instances']) for i in range(3)] == [3, 1, 1]


def test_labels_of_nothing_known(tmp_path):
    with pytest.raises(UserError, match='names of the classes'):
        dumped(tmp_path, [found(*ROWS, **shape())])


# ----------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def captions(tmp_path):
    rows = [(1, 'A cat sits on the mat.'), (1, 'There is a cat.'), (2, 'Two dogs run in the park.'), (3, 'unasked')]
    annotations = [dict(id=i, image_id=image, caption=text) for i, (image, text) in enumerate(rows)]
    path = tmp_path / 'captions.json'
    path.write_text(json.dumps(dict(images=[dict(id=i) for i in (1, 2, 3)], annotations=annotations)))
    return str(path)


@pytest.mark.skipif(shutil.which('java') is None, reason='the tokenizer of COCO needs Java')
def test_captions(captions):
    pytest.importorskip('pycocoevalcap')
    right = [
        dict(img_id=1, pred_caption='a cat sits on the mat'),
        dict(img_id=2, pred_caption='Two dogs run in the park!'),
    ]
    got = numbers(COCOCaptionMetric(captions), right)
    assert got | dict(Bleu_1=1.0, Bleu_4=1.0, ROUGE_L=1.0) == pytest.approx(got, abs=1e-6)
    assert got['METEOR'] > 0.8 and got['CIDEr'] > 2
    # 'two dogs run' of six words: every word is right, exp(1 - 6 / 3) for being short; of six and two words of one
    # caption the shorter has F = (1 + 1.2^2) P R / (R + 1.2^2 P) with P = 1, R = 1/2
    short = numbers(COCOCaptionMetric(captions), [dict(img_id=2, pred_caption='two dogs run')])
    assert short['Bleu_1'] == pytest.approx(np.exp(1 - 6 / 3), abs=1e-6)
    assert short['ROUGE_L'] == pytest.approx(2.44 * 0.5 / (0.5 + 1.44))


def test_captions_without_what_judges_them(captions, tmp_path, monkeypatch):
    metric = COCOCaptionMetric(captions)
    with pytest.raises(UserError, match='no pred_caption'):
        metric.process({}, [dict(img_id=1)])
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'pycocoevalcap', None)
        with pytest.raises(UserError, match='pip install pycocoevalcap'):
            numbers(metric, [dict(img_id=1, pred_caption='a')])
    monkeypatch.setattr('mmdet.evaluation.metrics.coco_caption_metric._scorers', lambda: ([], dict))
    with pytest.raises(UserError, match='image 9'):
        evaluate_captions([dict(image_id=9, caption='a')], [dict(image_id=1, caption='a')])
    path = save_result([dict(a=1, b=1), dict(a=1, b=2), dict(a=2, b=3)], str(tmp_path), 'out', remove_duplicate='a')
    assert json.loads((tmp_path / 'out.json').read_text()) == [dict(a=1, b=1), dict(a=2, b=3)] and path.endswith(
        '.json'
    )


# ----------------------------------------------------------------------------------------------------------------------
def test_each_data_set_has_its_metric(tmp_path):
    paths = [coco(tmp_path, {1: [(A, 1)]}, name=name) for name in ('a.json', 'b.json')]
    metrics = [dict(type='RefExpMetric', ann_file=paths[0], topk=(1,)), dict(type='gRefCOCOMetric', ann_file=paths[1])]
    evaluator = MultiDatasetsEvaluator(metrics, ['refcoco_val', 'grefcoco_val'])
    evaluator.dataset_meta = dict(cumulative_sizes=[1, 2])
    evaluator.process([found((A, 0.9), img_id=1, dataset_index=i) for i in range(2)])
    got = evaluator.evaluate(2)
    assert got['refcoco_val/refexp/refcoco_precision@1'] == 1 and got['grefcoco_val/grefcoco/F1_score'] == 1
