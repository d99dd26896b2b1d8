"""Both backends against the packages whose numbers they must give, on the cases of ``coco_cases``."""

import contextlib
import copy
import io
import json
import logging

import numpy as np
import pytest
from coco_cases import CASES, ID_CASES, make_case
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval as PlainCOCOeval

from mmdet.datasets.api_wrappers import COCOeval, COCOevalMP, cocoeval
from mmdet.errors import UserError, UserKeyError
from mmdet.evaluation.functional.coco_eval import evaluate_coco, load_coco
from mmdet.evaluation.functional.lvis_eval import evaluate_lvis, summarize_lvis

BACKENDS = ('hotcoco', 'pycocotools')
OPTIONS = {
    'default': {},
    'agnostic': dict(use_cats=False),
    'few detections': dict(max_dets=(2, 5, 20)),
    'thresholds': dict(iou_thrs=[0.3, 0.55, 0.75]),
    'a part': dict(cat_ids=[16, 2], img_ids=[19, 10]),
}
ARRAYS = ('precision', 'recall', 'scores')


def of_type(found, iou_type):
    """Results with masks alone or boxes alone; a box beside a mask would set the area."""
    other = 'segmentation' if iou_type == 'bbox' else 'bbox'
    return [{key: value for key, value in entry.items() if key != other} for entry in found]


def plain(truth, found, iou_type, cat_ids=None, img_ids=None, iou_thrs=None, max_dets=(1, 10, 100), use_cats=True):
    """pycocotools without us."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copy.deepcopy(truth)
        gt.createIndex()
        dt = COCO()
        dt.dataset = {**gt.dataset, 'annotations': []}
        dt.createIndex()
        evaluator = PlainCOCOeval(gt, gt.loadRes(copy.deepcopy(found)) if found else dt, iou_type)
        evaluator.params.catIds = cat_ids or evaluator.params.catIds
        evaluator.params.imgIds = img_ids or evaluator.params.imgIds
        evaluator.params.iouThrs = np.array(iou_thrs or evaluator.params.iouThrs)
        evaluator.params.maxDets, evaluator.params.useCats = list(max_dets), int(use_cats)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


@pytest.mark.parametrize('option', OPTIONS)
@pytest.mark.parametrize('iou_type', ['bbox', 'segm'])
@pytest.mark.parametrize('case', [case for case in CASES if case not in ID_CASES])
def test_every_array_is_that_of_pycocotools(case, iou_type, option, capfd):
    if option == 'a part' and case == 'one image':
        return
    for seed in range(2):
        truth, found = make_case(case, seed)
        found = of_type(found, iou_type)
        expected = plain(truth, found, iou_type, **OPTIONS[option])
        for backend in BACKENDS:
            evaluator = evaluate_coco(load_coco(truth), found, iou_type, **OPTIONS[option], faster=backend)
            for key in ARRAYS:
                np.testing.assert_allclose(evaluator.eval[key], expected.eval[key], atol=1e-9, rtol=0)
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('case', ID_CASES)
def test_ids_change_no_number(case, backend):
    for seed in range(3):
        truth, found = make_case('random', seed)
        expected = plain(truth, of_type(found, 'bbox'), 'bbox')
        lvis = evaluate_lvis(load_coco(truth), found, faster=backend)
        truth, found = make_case(case, seed)
        evaluator = evaluate_coco(load_coco(truth), of_type(found, 'bbox'), faster=backend)
        for key in ARRAYS:
            np.testing.assert_allclose(evaluator.eval[key], expected.eval[key], atol=1e-9, rtol=0)
        assert evaluator.params.catIds == [category['id'] for category in truth['categories']]
        assert summarize_lvis(evaluate_lvis(load_coco(truth), found, faster=backend)) == summarize_lvis(lvis)


@pytest.mark.parametrize('iou_type', ['bbox', 'segm'])
@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', [COCOeval, COCOevalMP])
def test_it_is_used_as_pycocotools_is(name, backend, iou_type, capsys):
    truth, found = make_case('crowd', 3)
    found = of_type(found, iou_type)
    expected = plain(truth, found, iou_type)
    gt = load_coco(truth)
    evaluator = name(gt, gt.loadRes(copy.deepcopy(found)), iou_type, backend=backend)
    assert evaluator.params.imgIds == gt.getImgIds()
    capsys.readouterr()
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    assert capsys.readouterr().out.count('Average') == 12
    np.testing.assert_allclose(evaluator.stats, expected.stats, atol=1e-9)
    assert len(evaluator.evalImgs) == len(expected.evalImgs)
    for ours, theirs in zip(evaluator.evalImgs, expected.evalImgs, strict=True):
        assert (ours is None) == (theirs is None)
        for key in theirs or ():
            np.testing.assert_allclose(ours[key], theirs[key])
    evaluator.params.maxDets = [1, 2, 3]
    evaluator.accumulate(evaluator.params)
    expected = plain(truth, found, iou_type, max_dets=(1, 2, 3))
    np.testing.assert_allclose(evaluator.eval['precision'], expected.eval['precision'], atol=1e-9)


def test_steps_of_a_subclass_are_taken():
    class Strict(COCOeval):
        def computeIoU(self, imgId, catId):
            return np.asarray(super().computeIoU(imgId, catId)) / 2

    truth, found = make_case('crowd', 1)
    found = of_type(found, 'bbox')
    gt = load_coco(truth)
    for iou_thr, iou_thrs in ((0.3, [0.6]), (0.45, [0.9])):
        evaluator = Strict(gt, gt.loadRes(copy.deepcopy(found)), 'bbox')
        evaluator.params.iouThrs = np.array([iou_thr])
        evaluator.evaluate()
        evaluator.accumulate()
        expected = plain(truth, found, 'bbox', iou_thrs=iou_thrs)
        np.testing.assert_allclose(evaluator.eval['precision'], expected.eval['precision'], atol=1e-9)
        assert len(evaluator.evalImgs) == len(expected.evalImgs)


@pytest.mark.parametrize('wanted', ['cocoeval-9000', 'hotcoco'])
def test_a_backend_that_is_not_there_is_replaced_with_one_warning(wanted, monkeypatch):
    messages = []
    monkeypatch.setattr(cocoeval, 'print_log', lambda text, logger, level: messages.append((text, level)))
    monkeypatch.setattr(cocoeval.importlib.util, 'find_spec', lambda name: name == 'pycocotools' or None)
    cocoeval.backend_name.cache_clear()
    truth, found = make_case('random')
    expected = plain(truth, of_type(found, 'bbox'), 'bbox')
    for _ in range(2):
        evaluator = evaluate_coco(load_coco(truth), found, faster=wanted)
        np.testing.assert_allclose(evaluator.eval['precision'], expected.eval['precision'], atol=1e-9)
    cocoeval.backend_name.cache_clear()
    assert len(messages) == 1 and wanted in messages[0][0] and messages[0][1] == logging.WARNING


@pytest.mark.parametrize('max_dets', [300, 10])
@pytest.mark.parametrize('iou_type', ['bbox', 'segm'])
@pytest.mark.parametrize('case', [case for case in CASES if case not in ID_CASES])
def test_lvis_numbers_are_those_of_lvis(case, iou_type, max_dets, tmp_path, monkeypatch):
    lvis = pytest.importorskip('lvis')
    monkeypatch.setattr(np, 'float', float, raising=False)  # a name that numpy 1.24 has dropped
    for seed in range(2):
        truth, found = make_case(case, seed)
        found = of_type(found, iou_type)
        (tmp_path / 'truth.json').write_text(json.dumps(truth))
        gt = lvis.LVIS(str(tmp_path / 'truth.json'))
        if found:
            dt = lvis.LVISResults(gt, copy.deepcopy(found), max_dets=max_dets)
            evaluator = lvis.LVISEval(gt, dt, iou_type)
            evaluator.params.max_dets = max_dets
            evaluator.run()
        for backend in BACKENDS:
            ours = evaluate_lvis(load_coco(truth), found, iou_type, max_dets=max_dets, faster=backend)
            numbers = summarize_lvis(ours)
            if found:
                assert numbers == pytest.approx(evaluator.results, abs=1e-9)
                np.testing.assert_allclose(ours.eval['precision'][..., 0], evaluator.eval['precision'], atol=1e-9)
                np.testing.assert_allclose(ours.eval['recall'][..., 0], evaluator.eval['recall'], atol=1e-9)
            else:
                assert numbers['AP'] == (-1 if case == 'nothing' else 0)


@pytest.mark.parametrize('backend', BACKENDS)
def test_what_is_no_number_counts_as_nothing(backend):
    truth, found = make_case('random', 1)
    expected = evaluate_coco(load_coco(truth), found, faster=backend).eval['precision']
    worst = dict(image_id=truth['images'][0]['id'], category_id=truth['categories'][0]['id'], bbox=[np.nan] * 4)
    found += [dict(worst, score=score) for score in (np.nan, -1.0)]
    np.testing.assert_array_equal(evaluate_coco(load_coco(truth), found, faster=backend).eval['precision'], expected)


@pytest.mark.parametrize('box', [None, [], [1.0, 2, 3]])
def test_an_object_without_what_is_evaluated_is_named(box):
    truth, found = make_case('random')
    truth['annotations'][1]['bbox'] = box
    with pytest.raises(UserKeyError, match=r"annotation 2 of image 10 has no 'bbox' but"):
        evaluate_coco(load_coco(truth), of_type(found, 'bbox'))
    evaluate_coco(load_coco(truth), of_type(found, 'segm'), 'segm')
    truth['annotations'][1]['segmentation'] = []
    with pytest.raises(UserKeyError, match=r"annotation 2 of image 10 has no 'segmentation' but \[\]"):
        evaluate_coco(load_coco(truth), of_type(found, 'segm'), 'segm')


SQUARE_CODE = dict(size=[6, 8], counts=[9, 3, 36])


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(
    'mask, words',
    [
        (dict(size=[6, 8], counts=[9, 3]), 'end after 12 pixels'),
        (dict(size=[6, 8], counts='93'), 'end after 12 pixels'),
        (dict(size=[8, 6], counts=[9, 3, 36]), r'of size \[8, 6\], but the picture is \[6, 8\]'),
        (dict(size=[6, 1 << 40], counts=[9, 3, 36]), 'no .height, width.'),
        ([[0, 0, 2e8, 0, 5, 5]], 'the coordinate 200000000.0'),
        ([[0, 0, float('nan'), 0, 5, 5]], 'the coordinate nan'),
    ],
)
@pytest.mark.parametrize('side', ['truth', 'found'])
def test_masks_without_meaning_are_named_and_not_evaluated(backend, mask, words, side):
    """Of code in C, the first never ends, and the polygons take all memory."""
    object_of = lambda mask: dict(image_id=1, category_id=1, bbox=[1, 3, 3, 1], segmentation=mask)
    truth = dict(
        images=[dict(id=1, height=6, width=8)],
        categories=[dict(id=1, name='a')],
        annotations=[object_of(mask if side == 'truth' else SQUARE_CODE) | dict(id=5, area=3, iscrowd=0)],
    )
    found = [object_of(mask if side == 'found' else SQUARE_CODE) | dict(score=0.5)]
    name = 'annotation 5' if side == 'truth' else 'result 0'
    with pytest.raises(UserError, match=f'{name} of image 1 .*{words}'):
        evaluate_coco(load_coco(truth), found, 'segm', faster=backend)


@pytest.mark.parametrize('backend', BACKENDS)
def test_repaired_and_empty_masks_are_evaluated(backend):
    objects = [
        dict(id=i, image_id=1, category_id=1, bbox=[1, 3, 3, 1], area=3, iscrowd=0, segmentation=mask)
        for i, mask in enumerate(([SQUARE_CODE], [[1, 2, 3, 4]]))
    ]
    truth = dict(images=[dict(id=1, height=6, width=8)], categories=[dict(id=1, name='a')], annotations=objects)
    found = [dict(image_id=1, category_id=1, bbox=[1, 3, 3, 1], segmentation=SQUARE_CODE, score=0.5)]
    precision = evaluate_coco(load_coco(truth), found, 'segm', faster=backend).eval['precision']
    assert precision[0, 0, 0, 0, 0] == pytest.approx(1)
