import importlib.util
import json
import pickle
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask
import pytest

from mmdet.evaluation import CocoOccludedSeparatedMetric

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'coco_occluded_separated_recall.py'


def code(x1, x2):
    mask = np.zeros((10, 20), np.uint8, order='F')
    mask[:, x1:x2] = 1
    return coco_mask.encode(mask)


@pytest.fixture
def lists(tmp_path):
    """A person in the left half, a cat in the right one, and a person of a picture that nobody tests."""
    left, right = (
        ['person', 1, 'a.jpg', [0, 0, 10, 10], code(0, 10)],
        ['cat', 2, 'a.jpg', [10, 0, 20, 10], code(10, 20)],
    )
    elsewhere = ['person', 3, 'b.jpg', [0, 0, 10, 10], code(0, 10)]
    (tmp_path / 'occluded.pkl').write_bytes(pickle.dumps([left, right, elsewhere]))
    (tmp_path / 'separated.pkl').write_bytes(pickle.dumps([right]))
    content = dict(
        images=[dict(id=1, file_name='a.jpg', width=20, height=10)],
        annotations=[
            dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 10, 10], area=100, iscrowd=0),
            dict(id=2, image_id=1, category_id=17, bbox=[10, 0, 10, 10], area=100, iscrowd=0),
        ],
        categories=[dict(id=1, name='person'), dict(id=17, name='cat')],
    )
    for ann in content['annotations']:
        x = ann['bbox'][0]
        ann['segmentation'] = [[x, 0, x + 10, 0, x + 10, 10, x, 10]]
    (tmp_path / 'ann.json').write_text(json.dumps(content))
    return tmp_path


def sample(spans, scores, labels):
    boxes = np.array([[x1, 0, x2, 10] for x1, x2 in spans], dtype=np.float32).reshape(-1, 4)
    pred = dict(bboxes=boxes, scores=np.array(scores), labels=np.array(labels, dtype=int))
    return dict(
        img_id=1, img_path='x/a.jpg', ori_shape=(10, 20), pred_instances=pred | dict(masks=[code(*s) for s in spans])
    )


def build(folder, **more):
    files = {f'{name}_ann': str(folder / f'{name}.pkl') for name in ('occluded', 'separated')}
    metric = CocoOccludedSeparatedMetric(ann_file=str(folder / 'ann.json'), **{**files, **more})
    metric.dataset_meta = dict(classes=('person', 'cat'))
    return metric


@pytest.mark.parametrize(
    ('spans', 'scores', 'labels', 'recalls'),
    [
        ([(0, 10), (10, 20)], [0.9, 0.8], [0, 1], (100, 100)),
        ([(0, 8), (10, 20)], [0.9, 0.2], [0, 1], (50, 0)),  # IoU 0.8; a score that is too low
        ([(0, 7), (10, 20)], [0.9, 0.8], [0, 0], (0, 0)),  # IoU 0.7; another class
        ([(0, 5), (0, 10)], [0.9, 0.4], [0, 0], (50, 0)),  # the second of two
        ([], [], [], (0, 0)),
    ],
)
def test_recall(lists, spans, scores, labels, recalls):
    metric = build(lists)
    metric.process({}, [sample(spans, scores, labels)])
    numbers = metric.evaluate(1)
    assert (numbers['coco/occluded_recall'], numbers['coco/separated_recall']) == recalls
    assert 'coco/segm_mAP' in numbers and 'coco/bbox_mAP' in numbers


def test_overlap_of_masks_in_any_form(lists):
    metric = build(lists)
    plain = coco_mask.decode(code(0, 10))
    counts = dict(size=[10, 20], counts=[0, 80, 120])  # columns 0 to 8
    for one in (plain, code(0, 10), plain.astype(bool)):
        assert metric.mask_iou(one, counts) == pytest.approx(0.8)


def test_mistakes(lists):
    with pytest.raises(FileNotFoundError, match=r'lost\.pkl: No such file'):
        build(lists, occluded_ann=str(lists / 'lost.pkl'))
    with pytest.raises(ValueError, match=r'ann\.json is no list of objects'):
        build(lists, separated_ann=str(lists / 'ann.json'))
    (lists / 'separated.pkl').write_bytes(pickle.dumps([['cat', 2, 'c.jpg', [0, 0, 1, 1], code(0, 1)]]))
    metric = build(lists)
    metric.process({}, [sample([(0, 10)], [0.9], [0])])
    with pytest.raises(ValueError, match=r"has an object of the list separated_ann, whose pictures are .c\.jpg'"):
        metric.evaluate(1)
    metric = build(lists, metric='bbox')
    without = sample([(0, 10)], [0.9], [0])
    del without['pred_instances']['masks']
    metric.process({}, [without])
    with pytest.raises(ValueError, match=r'a\.jpg: the detections have no masks'):
        metric.evaluate(1)


def test_tool(lists, capsys, monkeypatch):
    spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr('mmdet.utils.class_names.COCO_CLASSES', ('person', 'cat'))
    (lists / 'pred.pkl').write_bytes(pickle.dumps([sample([(0, 10), (10, 20)], [0.9, 0.8], [0, 1])]))
    files = [f'--{name}={lists / f"{name}.pkl"}' for name in ('occluded', 'separated')]
    out = lists / 'out.json'
    tool.main(tool.parse_args([str(lists / 'pred.pkl'), '--ann', str(lists / 'ann.json'), '--out', str(out), *files]))
    assert 'coco/occluded_recall: 100.0000' in capsys.readouterr().out
    assert json.loads(out.read_text())['coco/separated_recall'] == 100
