import numpy as np
import pytest
from coco_cases import make_case

from mmdet.errors import UserImportError, UserValueError
from mmdet.evaluation.functional import calibration, confusion_matrix, error_types, precision_recall_curves
from mmdet.evaluation.functional.coco_eval import average_precision, evaluate_coco, load_coco

CAT, DOG = 0, 'dog'  # ids


def box(x, y=0):
    return [20.0 * x, 20.0 * y, 10.0, 10.0]


@pytest.fixture
def evaluator():
    """Three cats, two dogs and a crowd of dogs, with one detection of each kind."""
    objects = [(CAT, box(0)), (CAT, box(1)), (CAT, box(2)), (DOG, box(3)), (DOG, box(4)), (DOG, box(8))]
    annotations = [
        dict(id=i, image_id='a', category_id=category, bbox=xywh, area=100.0, iscrowd=int(i == 5))
        for i, (category, xywh) in enumerate(objects)
    ]
    found = [
        (CAT, box(0), 0.9),  # right
        (CAT, box(0), 0.8),  # twice
        (DOG, box(1), 0.7),  # wrong class
        (CAT, [45.0, 0, 10, 10], 0.6),  # IoU 1 / 3 with a cat
        (DOG, [85.0, 0, 10, 10], 0.55),  # the same with a dog
        (CAT, [65.0, 0, 10, 10], 0.5),  # the same, and the wrong class
        (DOG, box(9, 9), 0.4),  # on nothing
    ]
    truth = dict(
        images=[dict(id='a', width=200, height=200)],
        categories=[dict(id=CAT, name='cat'), dict(id=DOG, name='dog')],
        annotations=annotations,
    )
    results = [dict(image_id='a', category_id=c, bbox=xywh, score=score) for c, xywh, score in found]
    return evaluate_coco(load_coco(truth), results)


def test_kinds_of_errors(evaluator):
    found = error_types(evaluator)
    assert found['counts'] == dict(Cls=1, Loc=2, Both=1, Dupe=1, Bkg=1, Miss=1)
    assert found['ap'] == pytest.approx(average_precision(evaluator, 0.5))
    assert set(found['cost']) == {*found['counts'], 'FP', 'FN'}
    assert found['cost']['Loc'] > found['cost']['Bkg'] == 0
    with pytest.raises(UserValueError, match=r'0\.33'):
        error_types(evaluator, 0.33)


def test_confusions(evaluator):
    #                                              cat dog background
    assert confusion_matrix(evaluator).tolist() == [[1, 1, 1], [0, 0, 2], [3, 2, 0]]
    assert confusion_matrix(evaluator, score_thr=0.75).tolist() == [[1, 0, 2], [0, 0, 2], [1, 0, 0]]
    assert confusion_matrix(evaluator, iou_thr=0.3).tolist() == [[2, 1, 0], [1, 1, 0], [1, 1, 0]]


def test_calibration(evaluator):
    found = calibration(evaluator)
    # one of seven is right; each is alone in its bin but for 0.5 and 0.55
    assert found['error'] == pytest.approx((0.1 + 0.8 + 0.7 + 0.6 + 2 * 0.525 + 0.4) / 7)
    assert found['largest'] == pytest.approx(0.8)
    assert found['classes'] == pytest.approx(dict(cat=(0.1 + 0.8 + 0.6 + 0.5) / 4, dog=(0.7 + 0.55 + 0.4) / 3))
    assert [entry['count'] for entry in found['bins']] == [0, 0, 0, 0, 1, 2, 1, 1, 1, 1]
    assert found['bins'][-1] == dict(low=pytest.approx(0.9), high=1, score=pytest.approx(0.9), right=1, count=1)


def test_curves(evaluator):
    curves = precision_recall_curves(evaluator)
    assert curves['recall'].shape == (101,) and curves['precision'].shape == curves['scores'].shape == (2, 101)
    assert curves['precision'][0] == pytest.approx([1] * 34 + [0] * 67)  # one of three cats
    assert curves['scores'][0, 0] == pytest.approx(0.9)
    assert not curves['precision'][1].any()  # no dog
    truth, found = make_case('random')
    curves = precision_recall_curves(evaluate_coco(load_coco(truth), found))
    assert np.isnan(curves['precision'][3]).all()  # a class without objects
    assert not np.isnan(curves['precision'][:3]).any()


def test_only_hotcoco_has_them():
    truth, found = make_case('random')
    evaluator = evaluate_coco(load_coco(truth), found, faster='pycocotools')
    for function in (confusion_matrix, error_types, calibration):
        with pytest.raises(UserImportError, match='pip install hotcoco'):
            function(evaluator)
