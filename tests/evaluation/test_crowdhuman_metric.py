"""The numbers of CrowdHuman against tables worked by hand and loops that follow the definitions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.evaluation import CrowdHumanMetric
from mmdet.evaluation.functional import crowd_eval
from mmdet.evaluation.functional.overlaps import bbox_overlaps
from mmdet.evaluation.metrics.crowdhuman_metric import Image

SIZE = (100, 120)


def person(x, y, w, h, **more):
    return dict(tag='person', fbox=[x, y, w, h], hbox=[x, y, 4, 4], vbox=[x, y, w, h], extra={}) | more


# Two people and an ignored region; one person whose box leaves the picture; nobody.
TRUTH = {
    'a': [person(0, 0, 10, 20), person(50, 0, 10, 20), person(80, 0, 20, 20, tag='mask')],
    'b': [person(110, 40, 30, 20, extra=dict(ignore=0))],
    'c': [person(0, 0, 50, 50, extra=dict(ignore=1))],
}
FOUND = {
    'a': [
        ([0, 0, 10, 20], 0.9375),  # right
        ([0, 2, 10, 20], 0.75),  # the same person again: a false alarm
        ([82, 2, 90, 10], 0.6875),  # in the region
        ([50, 0, 60, 20], 0.84375),  # right
    ],
    'b': [([0, 0, 20, 20], 0.875)],
    'c': [([1, 1, 30, 30], 0.99)],
}


def write(tmp_path, truth=TRUTH):
    path = tmp_path / 'annotation_val.odgt'
    path.write_text('\n'.join(json.dumps(dict(ID=key, gtboxes=boxes)) for key, boxes in truth.items()) + '\n')
    return str(path)


def samples(found=FOUND, **more):
    out = []
    for key, rows in found.items():
        pred = InstanceData(
            bboxes=torch.tensor([box for box, _ in rows], dtype=torch.float32).reshape(-1, 4),
            scores=torch.tensor([score for _, score in rows]),
            labels=torch.zeros(len(rows), dtype=torch.long),
        )
        out.append(dict(img_id=key, ori_shape=SIZE, pred_instances=pred, **more))
    return out


def numbers(metric, data=None):
    metric.process({}, samples() if data is None else data)
    found = metric.evaluate(len(metric.results))
    return {name.partition('/')[2]: value for name, value in found.items()}


def test_a_table_by_hand(tmp_path):
    """In the order of scores: right, wrong (b), right, wrong (again), of 3 objects; c's only detection is ignored.

    Recall is 1/3, 1/3, 2/3, 2/3 at precision 1, 1/2, 2/3, 1/2: the only step in recall has the area 1/3 (1/2 + 2/3)/2.
    False alarms of 3 pictures are 0, 1/3, 1/3, 2/3: up to 0.3162 the miss rate is 2/3 (the second detection), at 0.5623
    it is 1/3 (the fourth), and at 1, which is not reached, that of the end, 1/3.
    Above 0.8, a has 2 pairs of 2 and 2 and b none of 1 and 1; c has nothing that counts: (1 + 0) / 2. At lower
    thresholds a has one detection more without a partner: 2 / 3.
    """
    found = numbers(CrowdHumanMetric(write(tmp_path)))
    assert list(found) == ['mAP', 'mMR', 'JI']
    assert found['mAP'] == pytest.approx(7 / 36)
    assert found['mMR'] == pytest.approx((2 / 3) ** (7 / 9) * (1 / 3) ** (2 / 9))
    assert found['JI'] == pytest.approx(1 / 2, abs=1e-6)
    # 10^-4 to 10^-0: eight points up to 0.3162, one at 1
    found = numbers(CrowdHumanMetric(write(tmp_path), 'MR', mr_ref='CALTECH_-4'))
    assert found == {'mMR': pytest.approx((2 / 3) ** (8 / 9) * (1 / 3) ** (1 / 9))}


def test_boxes_are_clipped_to_the_picture(tmp_path):
    truth = dict(b=TRUTH['b'])  # 110..140 of 120 columns
    path = write(tmp_path, truth)
    exact = samples(dict(b=[([110, 40, 120, 60], 0.5)]))
    assert numbers(CrowdHumanMetric(path), exact) == dict(mAP=0, mMR=0, JI=pytest.approx(1, abs=1e-5))


def test_heads_and_the_matching_of_voc(tmp_path):
    truth = dict(a=[person(0, 0, 10, 20, hbox=[2, 0, 6, 6]), person(40, 0, 10, 20, head_attr=dict(ignore=1))])
    path = write(tmp_path, truth)
    rows = [([2, 0, 8, 6], 0.9), ([40, 0, 44, 4], 0.8)]
    heads = numbers(CrowdHumanMetric(path, 'JI', eval_mode=1), samples(dict(a=rows)))
    assert heads == dict(JI=pytest.approx(1, abs=1e-5))  # the second lies in a region without a visible head
    # The IoU of the first with the region is 0.3, but it lies in it: VOC asks for the IoU, Caltech for the share.
    truth = dict(a=[person(0, 0, 10, 20), person(40, 0, 20, 20, extra=dict(ignore=1))])
    rows = [([40, 0, 52, 10], 0.9), ([0, 0, 10, 20], 0.8), ([0, 0, 10, 19], 0.7)]
    path = write(tmp_path, truth)
    image = Image(0)
    image.load(dict(ID='a', gtboxes=truth['a']), 'box', None, ['background', 'person'], True)
    image.dt_boxes = np.array([[*box, score] for box, score in rows])
    assert image.compare_caltech(0.5).tolist() == [[0.8, 1], [0.7, 0]]
    assert image.compare_voc(0.5).tolist() == [[0.9, 0], [0.8, 1], [0.7, 0]]
    assert (image.gt_num, image.ign_num, image.dt_num) == (2, 1, 3)
    found = numbers(CrowdHumanMetric(path, 'AP', compare_matching_method='VOC'), samples(dict(a=rows)))
    assert found['mAP'] == pytest.approx((0 + 1 / 2) / 2)


def caltech_loop(boxes, scores, objects, ignored, threshold):
    """As its definition has it, one pair at a time."""
    iou, covered = bbox_overlaps(boxes, objects), bbox_overlaps(boxes, ignored, mode='iof')
    flags, taken = [0] * len(boxes), set()
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        place, best = None, threshold
        for j in range(len(objects)):
            if j not in taken and iou[i, j] > best:
                place, best = j, iou[i, j]
        if place is not None:
            flags[i] = 1
            taken.add(place)
        elif any(covered[i, j] > threshold for j in range(len(ignored))):
            flags[i] = -1
    return flags


def pairs_by_augmenting(allowed):
    """Size of a greatest matching: for each row a path to a free column."""
    partner = {}

    def find(i, seen):
        for j in np.flatnonzero(allowed[i]):
            if j not in seen:
                seen.add(j)
                if j not in partner or find(partner[j], seen):
                    partner[j] = i
                    return True
        return False

    return sum(find(i, set()) for i in range(len(allowed)))


def crowd(rng, count, spread):
    corner = rng.uniform(0, spread, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(15, 25, (count, 2))], 1)


@pytest.mark.parametrize('seed', range(8))
def test_loops(seed):
    rng = np.random.default_rng(seed)
    boxes, objects, ignored = crowd(rng, 40, 60), crowd(rng, 12 * (seed > 0), 60), crowd(rng, 3 * (seed % 3), 60)
    scores = rng.random(40)
    flags = crowd_eval.match_caltech(boxes, scores, objects, ignored, 0.5)
    assert flags.tolist() == caltech_loop(boxes, scores, objects, ignored, 0.5)
    pairs = crowd_eval.most_pairs(boxes, objects, 0.4)
    allowed = bbox_overlaps(boxes, objects) >= 0.4
    assert len(pairs) == pairs_by_augmenting(allowed) and all(allowed[i, j] for i, j in pairs)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    right = rng.random(50) < 0.5
    area = missed = 0.0
    curve = []
    for k in range(1, 51):
        found = int(right[:k].sum())
        curve.append((found / 60, found / k, (k - found) / 20))
    for (r0, p0, _), (r1, p1, _) in zip(curve, curve[1:]):
        area += (r1 - r0) * (p0 + p1) / 2
    assert crowd_eval.average_precision(right, 60) == pytest.approx(area)
    points = crowd_eval.MISS_RATE_POINTS['CALTECH_-2']
    for point in points:
        place = next((k for k, row in enumerate(curve) if row[2] >= point), len(curve) - 1)
        missed += np.log(1 - curve[place][0])
    assert crowd_eval.log_average_miss_rate(right, 60, 20, points) == pytest.approx(np.exp(missed / 9))


def test_pictures_count_once_and_only_those_tested(tmp_path):
    path = write(tmp_path)
    marks = dict(ann_file=path)
    found = numbers(CrowdHumanMetric(path), samples(**marks) + samples(**marks)[:2])
    assert found == numbers(CrowdHumanMetric(path))
    one = numbers(CrowdHumanMetric(path), samples(dict(a=FOUND['a']), **marks))
    assert one['mAP'] == pytest.approx(1 / 2)  # of two objects, both before the false alarm
    nothing = numbers(CrowdHumanMetric(path), samples(dict(a=[], b=[])))
    assert nothing == dict(mAP=0, mMR=1, JI=0)
    assert numbers(CrowdHumanMetric(path), samples(dict(c=FOUND['c']))) == dict(mAP=-1, mMR=-1, JI=-1)
    with pytest.raises(ValueError, match="no picture 'z'"):
        numbers(CrowdHumanMetric(path), samples(dict(z=[])))


def test_a_file_of_detections(tmp_path):
    metric = CrowdHumanMetric(write(tmp_path), format_only=True, outfile_prefix=str(tmp_path / 'out'))
    assert numbers(metric) == {}
    lines = [json.loads(line) for line in (tmp_path / 'out.json').read_text().splitlines()]
    assert [line['ID'] for line in lines] == ['a', 'b', 'c'] and (lines[0]['height'], lines[0]['width']) == SIZE
    assert lines[0]['dtboxes'][3] == dict(box=[50, 0, 10, 20], score=0.84375)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(metric='AR'), 'AP'),
        (dict(format_only=True), 'outfile_prefix'),
        (dict(eval_mode=2), '0 for bodies'),
        (dict(compare_matching_method='COCO'), 'CALTECH'),
        (dict(mr_ref='CALTECH_-3'), 'mr_ref'),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises((ValueError, KeyError), match=message):
        CrowdHumanMetric('x.odgt', **given)


def test_data_set_and_metric_of_the_published_config(tmp_path, default_scope):
    """Objects that the data set gives as its own predictions: all found, and ignored ones do not count."""
    import cv2

    from mmdet.config import load_config
    from mmdet.datasets.walk import build
    from mmdet.evaluation.evaluator import build_evaluator

    path = Path(__file__).parents[2] / 'configs' / 'crowddet' / 'crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman.py'
    cfg = load_config(str(path))
    (tmp_path / 'Images').mkdir()
    for name in ('a', 'c'):
        cv2.imwrite(str(tmp_path / 'Images' / f'{name}.jpg'), np.zeros((*SIZE, 3), np.uint8))
    write(tmp_path, {name: TRUTH[name] for name in ('a', 'c')})
    dataset = cfg.val_dataloader.dataset
    dataset.data_root = f'{tmp_path}/'
    dataset = build(dataset)
    evaluator = build_evaluator(cfg.val_evaluator | dict(ann_file=dataset.ann_file))
    evaluator.dataset_meta = dataset.metainfo
    data = []
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        assert tuple(sample.img_shape) == (800, 960)
        # The annotations are loaded behind Resize: their boxes are those of the picture.
        boxes = torch.cat([sample.gt_instances.bboxes.tensor, sample.ignored_instances.bboxes.tensor])
        labels = torch.zeros(len(boxes), dtype=torch.long)
        sample.pred_instances = InstanceData(bboxes=boxes, scores=torch.full((len(boxes),), 0.95), labels=labels)
        data.append(sample)
    evaluator.process(data)
    assert evaluator.evaluate(len(dataset)) == {
        'crowd_human/mAP': pytest.approx(1 / 2),  # from the recall of the first detection on
        'crowd_human/mMR': 0,
        'crowd_human/JI': pytest.approx(1, abs=1e-5),
    }
