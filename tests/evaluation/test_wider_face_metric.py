import numpy as np
import pytest
import torch

from mmdet.evaluation import WIDERFaceMetric
from mmdet.evaluation.metrics.wider_face_metric import count_image

FACES = {'a': [[0, 0, 60, 60], [100, 100, 140, 140], [200, 200, 220, 220]], 'b': [[10, 10, 30, 30]], 'c': []}


def sample(name, dets):
    dets = np.array(dets, dtype=np.float32).reshape(-1, 5)
    pred = dict(bboxes=torch.tensor(dets[:, :4]), scores=torch.tensor(dets[:, 4]))
    instances = [dict(bbox=box, bbox_label=0, ignore_flag=0) for box in FACES[name]]
    return dict(img_path=f'WIDER_val/images/0--Parade/{name}.jpg', pred_instances=pred, instances=instances)


def evaluate(samples, **options):
    metric = WIDERFaceMetric(**options)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def perfect():
    return [sample(name, [[*box, 0.9 - 0.1 * i] for i, box in enumerate(boxes)]) for name, boxes in FACES.items()]


def reference(dets, boxes, counted, num):
    """The kit's loops, one detection and one threshold after the other."""
    found, wrong_or_right, recall = np.zeros(len(boxes)), np.ones(len(dets)), np.zeros(len(dets))
    for h, det in enumerate(dets):
        ious = []
        for box in boxes:
            w = min(det[2], box[2]) - max(det[0], box[0]) + 1
            h_ = min(det[3], box[3]) - max(det[1], box[1]) + 1
            inter = max(w, 0) * max(h_, 0)
            areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (det, box)]
            ious.append(inter / (sum(areas) - inter))
        best = int(np.argmax(ious))
        if ious[best] >= 0.5:
            if not counted[best]:
                found[best], wrong_or_right[h] = -1, -1
            elif found[best] == 0:
                found[best] = 1
        recall[h] = (found == 1).sum()
    counts = np.zeros((num, 2))
    for t in range(num):
        kept = np.flatnonzero(dets[:, 4] >= 1 - (t + 1) / num)
        if len(kept):
            counts[t] = (wrong_or_right[: kept[-1] + 1] == 1).sum(), recall[kept[-1]]
    return counts


def test_counts_equal_the_loops_of_the_kit():
    rng = np.random.default_rng(0)
    for _ in range(20):
        boxes = rng.uniform(0, 60, (6, 4))
        boxes[:, 2:] = boxes[:, :2] + rng.uniform(5, 40, (6, 2))
        near = np.concatenate([boxes, boxes + 2, rng.uniform(0, 30, (3, 4))])
        near[-3:, 2:] += near[-3:, :2]
        dets = np.concatenate([near, np.sort(rng.random(len(near)))[::-1, None]], 1)
        counted = rng.random(6) < 0.6
        np.testing.assert_array_equal(count_image(dets, boxes, counted, 0.5, 50), reference(dets, boxes, counted, 50))


def test_settings_by_height():
    numbers = evaluate(perfect())
    assert numbers == {f'wider_face/{setting}_AP': pytest.approx(1.0) for setting in ('easy', 'medium', 'hard')}
    # only the large face: one of one easy, of two medium, of four hard; its double is wrong
    numbers = evaluate([sample('a', [[0, 0, 60, 60, 0.9], [2, 0, 60, 60, 0.5]]), sample('b', []), sample('c', [])])
    assert list(numbers.values()) == pytest.approx([1, 1 / 2, 1 / 4])
    # detections of faces that a setting leaves out do not harm it; those of nothing do where there are faces
    extra = [*perfect()[:2], sample('c', [[0, 0, 9, 9, 1.0]])]
    assert evaluate(extra)['wider_face/easy_AP'] == pytest.approx(1.0)
    extra = [sample('a', [[0, 0, 60, 60, 0.9], [300, 0, 350, 50, 1.0]]), *perfect()[1:]]
    assert evaluate(extra)['wider_face/easy_AP'] == pytest.approx(0.5)
    assert evaluate([sample('c', [])])['wider_face/hard_AP'] == -1
    assert evaluate(perfect(), min_heights=dict(large=55.0)) == {'wider_face/large_AP': pytest.approx(1.0)}


def cells(values):
    array = np.empty((len(values), 1), dtype=object)
    for i, value in enumerate(values):
        array[i, 0] = value
    return array


def test_official_lists(tmp_path):
    savemat = pytest.importorskip('scipy.io').savemat
    xywh = {
        name: np.array([[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes], dtype=float).reshape(-1, 4)
        for name, boxes in FACES.items()
    }
    names = dict(event_list=cells(['0--Parade']), file_list=cells([cells(list(FACES))]))
    savemat(tmp_path / 'wider_face_val.mat', dict(names, face_bbx_list=cells([cells(list(xywh.values()))])))
    lists = dict(easy=[[1], [], []], medium=[[1, 3], [], []], hard=[[1, 2, 3], [1], []])
    with pytest.raises(FileNotFoundError, match=r'wider_easy_val\.mat'):
        WIDERFaceMetric(str(tmp_path))
    for setting, kept in lists.items():
        columns = [np.array(indices, dtype=float).reshape(-1, 1) for indices in kept]
        savemat(tmp_path / f'wider_{setting}_val.mat', dict(names, gt_list=cells([cells(columns)])))
    options = dict(gt_dir=str(tmp_path), outfile_prefix=str(tmp_path / 'out'))
    assert list(evaluate(perfect(), **options).values()) == pytest.approx([1, 1, 1])
    text = (tmp_path / 'out' / '0--Parade' / 'b.txt').read_text()
    assert text == 'b\n1\n10.00 10.00 20.00 20.00 0.90000\n'
    # the images that were not tested do not count
    assert list(evaluate(perfect()[:1], **options).values()) == pytest.approx([1, 1, 1])
    with pytest.raises(ValueError, match='the first is z'):
        FACES['z'] = []
        try:
            evaluate([sample('z', [])], **options)
        finally:
            del FACES['z']
