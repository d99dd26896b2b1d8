import json

import numpy as np
import pytest
import torch

from mmdet.evaluation import LVISMetric

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
