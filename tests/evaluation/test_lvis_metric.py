import json

import numpy as np
import pytest
import torch

from mmdet.evaluation import LVISFixedAPMetric, LVISMetric

CLASSES = ('rare', 'common', 'frequent')


def dataset(**image):
    return dict(
        images=[dict(id=1, width=100, height=100, neg_category_ids=[], not_exhaustive_category_ids=[], **image)],
        annotations=[dict(id=1, image_id=1, bbox=[0, 0, 50, 50], area=2500, category_id=1)],
        categories=[dict(id=i + 1, name=name, frequency=name[0]) for i, name in enumerate(CLASSES)],
    )


def evaluate(tmp_path, truth, dets, faster=False, **options):
    path = tmp_path / 'lvis.json'
    path.write_text(json.dumps(truth))
    metric = LVISMetric(str(path), use_faster_coco_eval=faster, **options)
    metric.dataset_meta = dict(classes=CLASSES)
    dets = np.array(dets, dtype=np.float32).reshape(-1, 6)
    pred = dict(bboxes=dets[:, :4], scores=dets[:, 4], labels=dets[:, 5].astype(int))
    pred = {key: torch.from_numpy(value) for key, value in pred.items()}
    metric.process({}, [dict(img_id=1, ori_shape=(100, 100), pred_instances=pred)])
    return metric.evaluate(1)


@pytest.mark.parametrize('faster', [False, True])
def test_only_known_classes_count(tmp_path, faster):
    right, wrong = [0, 0, 50, 50, 0.5, 0], [60, 60, 90, 90, 0.9, 0]
    truth = dataset()
    numbers = evaluate(tmp_path, truth, [right, wrong], faster)
    assert numbers['lvis/bbox_AP'] == numbers['lvis/bbox_APr'] == pytest.approx(0.5)
    assert numbers['lvis/bbox_APc'] == -1
    # nobody knows whether there is one of the others
    assert evaluate(tmp_path, truth, [right, [*wrong[:5], 1]], faster)['lvis/bbox_AP'] == 1
    # objects of the class may lack an annotation
    truth['images'][0]['not_exhaustive_category_ids'] = [1]
    assert evaluate(tmp_path, truth, [right, wrong], faster)['lvis/bbox_AP'] == 1


@pytest.mark.parametrize('faster', [False, True])
def test_the_limit_of_detections_is_that_of_the_image(tmp_path, faster):
    right = [0, 0, 50, 50, 0.1, 0]
    many = [[60, 60, 90, 90, 0.9, 2]] * 300
    assert evaluate(tmp_path, dataset(), [right, *many], faster)['lvis/bbox_AP'] == 0
    assert evaluate(tmp_path, dataset(), [right, *many[1:]], faster)['lvis/bbox_AP'] == 1
    for extra, recall in ((many, 0), (many[1:], 1)):
        numbers = evaluate(tmp_path, dataset(), [right, *extra], faster, metric='proposal', proposal_nums=(1, 10, 1000))
        assert numbers['lvis/AR@300'] == numbers['lvis/ARm@300'] == recall
        assert set(numbers) == {f'lvis/AR{size}@300' for size in ('', 's', 'm', 'l')}


def test_names_of_the_numbers(tmp_path):
    numbers = evaluate(tmp_path, dataset(), [[0, 0, 50, 50, 0.5, 0]], classwise=True)
    overall = [f'lvis/bbox_{name}' for name in ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'APr', 'APc', 'APf')]
    assert list(numbers) == overall + [f'lvis/{name}_precision' for name in CLASSES]
    with pytest.raises(KeyError, match='APx'):
        evaluate(tmp_path, dataset(), [], metric_items=['APx'])
    with pytest.raises(ValueError, match='ann_file'):
        LVISMetric()


def crowded(rng, num_images=6, num_classes=5):
    """Ground truth with classes that are absent or not exhaustively annotated, and detections around it."""
    images, annotations, dets = [], [], []
    for i in range(num_images):
        lists = rng.permutation(num_classes) + 1
        missing, unsure = lists[:1].tolist(), lists[1:2].tolist()
        images.append(
            dict(id=i + 1, width=200, height=200, neg_category_ids=missing, not_exhaustive_category_ids=unsure)
        )
        rows = []
        for label in rng.integers(1, num_classes + 1, 12):
            x, y, w, h = *rng.uniform(0, 120, 2), *rng.uniform(5, 100, 2)
            if label not in missing:
                box = [float(v) for v in (x, y, w, h)]
                annotations.append(
                    dict(
                        id=len(annotations) + 1, image_id=i + 1, category_id=int(label), bbox=box, area=box[2] * box[3]
                    )
                )
            rows.append([x, y, x + w, y + h, rng.random(), label - 1])
            for _ in range(3):
                moved = np.array([x, y, x + w, y + h]) + rng.normal(0, 0.05 * max(w, h), 4)
                moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
                rows.append([*moved, rng.random(), rng.integers(num_classes) if rng.random() < 0.2 else label - 1])
        dets.append(np.array(rows, dtype=np.float32))
    names = [dict(id=c + 1, name=f'c{c}', frequency='rcf'[c % 3]) for c in range(num_classes)]
    return dict(images=images, annotations=annotations, categories=names), dets


@pytest.mark.parametrize(('seed', 'topk'), [(0, 10000), (1, 30), (2, 5)])
def test_fixed_ap_is_that_of_the_lvis_package(tmp_path, seed, topk, monkeypatch):
    lvis = pytest.importorskip('lvis')
    for name, kind in (('float', float), ('int', int), ('bool', bool)):  # which the package takes of an older numpy
        monkeypatch.setattr(np, name, getattr(np, name, kind), raising=False)
    truth, dets = crowded(np.random.default_rng(seed))
    for annotation in truth['annotations']:
        x, y, w, h = annotation['bbox']
        annotation['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    path = tmp_path / 'lvis.json'
    path.write_text(json.dumps(truth))
    entries = [
        dict(image_id=i + 1, category_id=int(row[5]) + 1, score=float(row[4]),
             bbox=[float(v) for v in (row[0], row[1], row[2] - row[0], row[3] - row[1])])
        for i, rows in enumerate(dets) for row in rows.astype(np.float64)
    ]  # fmt: skip
    kept = []
    for category in {entry['category_id'] for entry in entries}:
        own = [entry for entry in entries if entry['category_id'] == category]
        kept += sorted(own, key=lambda entry: -entry['score'])[:topk]
    api = lvis.LVIS(str(path))
    theirs = lvis.LVISEval(api, lvis.LVISResults(api, kept, max_dets=-1), iou_type='bbox')
    theirs.params.max_dets = -1
    theirs.run()
    metric = LVISFixedAPMetric(str(path), topk=topk)
    metric.dataset_meta = dict(classes=[f'c{c}' for c in range(5)])
    for i, rows in enumerate(dets):
        rows = torch.from_numpy(rows)
        pred = dict(bboxes=rows[:, :4], scores=rows[:, 4], labels=rows[:, 5].long())
        metric.process({}, [dict(img_id=i + 1, ori_shape=(200, 200), pred_instances=pred)])
    found = metric.evaluate(len(dets))
    expected = {f'lvis_fixed_ap/{key}': value for key, value in theirs.results.items() if key.startswith('AP')}
    assert found == pytest.approx(expected, abs=1e-9) and 0 < found['lvis_fixed_ap/AP'] < 1
    assert list(found) == list(expected)


def test_a_fixed_ap_has_no_limit_for_an_image(tmp_path):
    """Behind 400 detections of another class, of which 300 would fill the image."""
    truth = dataset()
    path = tmp_path / 'lvis.json'
    path.write_text(json.dumps(truth))
    rows = torch.tensor([[60.0, 60, 90, 90, 0.9, 2]] * 400 + [[0, 0, 50, 50, 0.1, 0]])
    pred = dict(bboxes=rows[:, :4], scores=rows[:, 4], labels=rows[:, 5].long())
    for topk, expected in ((10000, 1), (1, 1)):
        metric = LVISFixedAPMetric(str(path), topk=topk)
        metric.dataset_meta = dict(classes=CLASSES)
        metric.process({}, [dict(img_id=1, ori_shape=(100, 100), pred_instances=pred)])
        assert metric.evaluate(1)['lvis_fixed_ap/AP'] == expected
