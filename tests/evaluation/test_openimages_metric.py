"""Open Images' AP against tables worked by hand.

The classes are Animal, Cat, which is below it, and Car. Picture a has a cat and a group of cats, picture b a car. Cats
are found in a in this order: right 0.9, wrong 0.85, in the group 0.8, again in the group 0.7, which does not count. So
is a car of which nobody knows whether it is there, 0.95. In b the car is found, 0.5. Cats, and so animals, have recall
1/2, 1/2, 1 at precision 1, 1/2, 2/3: AP is (1 + 2/3) / 2.
"""

import numpy as np
import pytest
import torch

from mmdet.evaluation import OpenImagesMetric
from mmdet.evaluation.metrics.openimages_metric import RowsByClass

META = dict(classes=['Animal', 'Cat', 'Car'], RELATION_MATRIX=np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]))
ANIMAL, CAT, CAR = range(3)
OF_CATS = (1 + 2 / 3) / 2


def thing(label, *bbox, group=False):
    return dict(bbox=list(bbox), bbox_label=label, ignore_flag=0, is_group_of=group)


TRUTH = dict(a=[thing(CAT, 0, 0, 10, 10), thing(CAT, 50, 0, 90, 40, group=True)], b=[thing(CAR, 0, 0, 10, 10)])
FOUND = dict(
    a=[
        (CAT, 0.9, [0, 0, 10, 10]),
        (CAT, 0.7, [60, 2, 70, 10]),
        (CAT, 0.8, [52, 2, 60, 10]),
        (CAT, 0.85, [0, 50, 10, 60]),
        (CAR, 0.95, [0, 0, 10, 10]),
    ],
    b=[(CAR, 0.5, [0, 0, 10, 10])],
)


def samples(labels=None, found=FOUND, truth=TRUTH, **more):
    out = []
    for key, rows in found.items():
        pred = dict(
            bboxes=torch.tensor([box for _, _, box in rows], dtype=torch.float32).reshape(-1, 4),
            scores=torch.tensor([score for _, score, _ in rows]),
            labels=torch.tensor([label for label, _, _ in rows], dtype=torch.long),
        )
        sample = dict(img_id=key, img_path=f'{key}.jpg', instances=truth[key], pred_instances=pred, **more)
        if labels is not None:
            sample['image_level_labels'] = np.array(labels.get(key, []), dtype=np.int64)
        out.append(sample)
    return out


def evaluate(data, meta=META, **options):
    metric = OpenImagesMetric(**options)
    metric.dataset_meta = meta
    metric.process({}, data)
    return metric.evaluate(len(data))


def mean_ap(data, **options):
    return evaluate(data, **options)['openimages/mAP']


def test_groups_and_the_hierarchy():
    found = evaluate(samples())
    assert found == {
        'openimages/AP50': round((2 * OF_CATS + 1) / 3, 3),
        'openimages/mAP': pytest.approx((2 * OF_CATS + 1) / 3),
    }
    # The group as a plain object is not found: 1/2 at precision 1.
    assert mean_ap(samples(), use_group_of=False) == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    # Animals are no objects of their own; nobody says whether there are any, so that cats are left out.
    assert mean_ap(samples(), get_supercategory=False) == pytest.approx((0 + 1) / 2)
    # With all detections the car in a is wrong, and before the one in b.
    assert mean_ap(samples(), get_supercategory=False, filter_labels=False) == pytest.approx((OF_CATS + 1 / 2) / 2)


def test_labels_of_images():
    assert mean_ap(samples(dict(a=[CAR]))) == pytest.approx((2 * OF_CATS + 1 / 2) / 3)
    assert mean_ap(samples({})) == pytest.approx((2 * OF_CATS + 1) / 3)
    # b is known to have no cat: one found there is wrong, as a cat and as an animal, of which it has none either.
    found = dict(FOUND, b=[*FOUND['b'], (CAT, 0.99, [0, 0, 10, 10])])
    # 0, 1/2, 1/2, 1 at precision 0, 1/2, 1/3, 1/2: its envelope is 1/2
    assert mean_ap(samples(dict(b=[CAT, ANIMAL]), found)) == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert mean_ap(samples(dict(b=[CAT]), found)) == pytest.approx((2 * OF_CATS + 1) / 3)  # nothing is said of animals


def test_several_thresholds_and_sizes():
    found = evaluate(samples(), iou_thrs=[0.5, 0.75], ioa_thrs=[0.5, 0.99])
    assert list(found) == ['openimages/AP50', 'openimages/AP75', 'openimages/mAP']
    assert mean_ap(samples(), scale_ranges=[(0, 20), (20, 1000)]) > 0
    for options, message in (
        (dict(iou_thrs=[0.5, 0.75], ioa_thrs=[0.5]), 'as many ioa_thrs'),
        (dict(ioa_thrs=None), 'needs ioa_thrs'),
    ):
        with pytest.raises(ValueError, match=message):
            OpenImagesMetric(**options)


def test_pictures_count_once_and_any_may_be_missing():
    marks = dict(ann_file='boxes.csv')
    assert mean_ap(samples(**marks) + samples(**marks)) == mean_ap(samples())
    assert mean_ap(samples()[:1]) == pytest.approx(OF_CATS)
    nothing = samples(found=dict(a=[], b=[]))
    assert mean_ap(nothing) == 0 and evaluate([]) == {}


def test_what_the_samples_need():
    data = samples()
    del data[0]['instances']
    with pytest.raises(ValueError, match="'instances' among the meta_keys"):
        evaluate(data)
    with pytest.raises(ValueError, match='RELATION_MATRIX'):
        evaluate(samples(), meta=dict(classes=META['classes']))


def test_objects_are_left_as_they_are():
    data = samples()
    evaluate(data)
    assert len(data[0]['instances']) == 2 and data[0]['pred_instances']['labels'].tolist() == [1, 1, 1, 1, 2]


def test_rows_by_class():
    rows, labels = np.arange(20.0).reshape(4, 5), np.array([2, 0, 2, 3])
    cut = RowsByClass(rows, labels, 5)
    assert len(cut) == 5 and [part[:, 0].tolist() for part in cut] == [[5], [], [0, 10], [15], []]
