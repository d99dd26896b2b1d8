"""The tools that look at dumped predictions and at models, on a dataset of two pictures."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.fileio import dump

FOLDER = Path(__file__).parents[2] / 'tools' / 'analysis_tools'
CLASSES = ('cat', 'dog')


def tool(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path, default_scope):
    """Paths of a config and of predictions: the first picture is found, in the second a dog is taken for a cat."""
    import cv2

    boxes = [[(10, 10, 30, 20, 1), (50, 10, 20, 20, 2)], [(5, 5, 40, 40, 2)], []]
    truth = dict(images=[], annotations=[], categories=[dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)])
    predictions = []
    for i, objects in enumerate(boxes):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((60, 80, 3), 120, dtype=np.uint8))
        truth['images'].append(dict(id=i, file_name=f'{i}.png', width=80, height=60))
        for x, y, w, h, category in objects:
            number = len(truth['annotations']) + 1
            truth['annotations'].append(
                dict(id=number, image_id=i, bbox=[x, y, w, h], area=w * h, iscrowd=0, category_id=category)
            )
        pred = dict(
            bboxes=torch.tensor([[x, y, x + w, y + h] for x, y, w, h, _ in objects]).float().reshape(-1, 4),
            scores=torch.full((len(objects),), 0.9),
            labels=torch.tensor([0, 1, 0][i : i + len(objects)] if i == 0 else [0] * len(objects), dtype=torch.long),
        )
        predictions.append(dict(img_id=i, ori_shape=(60, 80), pred_instances=pred))
    (tmp_path / 'ann.json').write_text(json.dumps(truth))
    dump(predictions, str(tmp_path / 'results.pkl'))
    config = tmp_path / 'config.py'
    config.write_text(
        f'root = {str(tmp_path)!r}\n'
        "test_dataloader = dict(dataset=dict(type='CocoDataset', data_root=root, ann_file='ann.json', test_mode=True,"
        f" data_prefix=dict(img=''), metainfo=dict(classes={CLASSES}), pipeline=[]))\n"
        "test_evaluator = dict(type='CocoMetric', ann_file=root + '/ann.json')\n"
    )
    return str(config), str(tmp_path / 'results.pkl')


def test_offline_evaluation(project, capsys):
    module = tool('eval_metric')
    config, results = project
    numbers = module.main(module.parse_args([config, results, '--class-thresholds']))
    # the cat is found, but a dog's box follows it at the same score; of two dogs one is found
    assert numbers['coco/bbox_mAP'] == pytest.approx((1 + 51 / 101) / 2, abs=1e-6)
    table = json.loads((Path(results).parent / 'class_thresholds.json').read_text())
    assert table['dog']['threshold'] == pytest.approx(0.9)
    options = ['--cfg-options', 'test_evaluator.type=VOCMetric', 'test_evaluator._delete_=True']
    numbers = module.main(module.parse_args([config, results, *options]))
    assert numbers['pascal_voc/mAP'] == pytest.approx((1 + 6 / 11) / 2), 'eleven points are the default'
    with pytest.raises(FileNotFoundError, match=r'none\.pkl'):
        module.main(module.parse_args([config, 'none.pkl']))


def test_confusion_matrix(project, tmp_path):
    module = tool('confusion_matrix')
    config, results = project
    module.main(module.parse_args([config, results, str(tmp_path / 'out')]))
    assert (tmp_path / 'out' / 'confusion_matrix.png').read_bytes().startswith(b'\x89PNG')
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]], dtype=np.float32)
    pred = dict(
        bboxes=np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [60, 0, 70, 10], [40, 40, 50, 50]]),
        scores=np.array([0.9, 0.8, 0.7, 0.6, 0.1]),
        labels=np.array([0, 0, 1, 1, 1]),
    )
    matrix = np.zeros((3, 3))
    module.count_image(matrix, boxes, np.array([0, 0, 1]), pred, score_thr=0.3)
    assert matrix.tolist() == [[2, 1, 1], [0, 0, 1], [0, 1, 0]]
    matrix[:] = 0
    module.count_image(matrix, boxes, np.array([0, 0, 1]), pred, score_thr=0.3, nms_iou_thr=0.5)
    assert matrix.tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 0]]


def test_best_and_worst_pictures(project, default_scope):
    from mmengine.fileio import load

    from mmdet.config import load_config
    from mmdet.registry import DATASETS

    module = tool('analyze_results')
    dataset = DATASETS.build(load_config(project[0]).test_dataloader.dataset)
    best, worst = module.rank(dataset, load(project[1]), 2)
    assert [(round(score, 6), index) for score, index, _ in best] == [(1, 2), (1, 0)]
    assert [(round(score, 6), index) for score, index, _ in worst] == [(0, 1), (1, 0)]


def test_pictures_are_drawn(project, tmp_path):
    import mmdet.visualization

    if not hasattr(mmdet.visualization, 'DetLocalVisualizer'):
        pytest.skip('there is no visualizer')
    module = tool('analyze_results')
    module.main(module.parse_args([*project, str(tmp_path / 'show'), '--topk', '1']))
    assert len(list((tmp_path / 'show' / 'good').iterdir())) == len(list((tmp_path / 'show' / 'bad').iterdir())) == 1


def test_flops_of_a_convolution():
    module = tool('get_flops')

    class Detector(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = torch.nn.Conv2d(3, 4, 3, padding=1)
            self.bbox_head = torch.nn.Sequential(torch.nn.Conv2d(4, 2, 1))

        def data_preprocessor(self, data):
            return dict(inputs=torch.stack(data['inputs']).float())

        def forward(self, inputs, mode):
            return self.bbox_head.forward(self.backbone(inputs))

    counts = module.count(Detector(), module.random_picture([8, 16]))
    assert counts == {'': 128 * (108 + 8), 'backbone': 128 * 108, 'bbox_head': 128 * 8}
    assert module.parse_args(['config.py', '--shape', '64']).shape == [64]


def test_errors_are_told_apart(tmp_path, capsys):
    module = tool('coco_error_analysis')
    categories = [('cat', 'pet'), ('dog', 'pet'), ('cup', 'thing')]
    places = [10, 60, 110, 160]
    truth = dict(
        images=[dict(id=1, width=250, height=100)],
        categories=[dict(id=i + 1, name=name, supercategory=kind) for i, (name, kind) in enumerate(categories)],
        annotations=[
            dict(id=i + 1, image_id=1, bbox=[x, 10, 40, 40], area=1600, iscrowd=0, category_id=category)
            for i, (x, category) in enumerate(zip(places, (1, 1, 2, 3), strict=True))
        ],
    )
    boxes = {'dog': [110, 10, 40, 40], 'cup': [160, 10, 40, 40], 'nothing': [205, 60, 40, 40]}
    boxes |= {'loose': [10, 10, 40, 24], 'exact': [60, 10, 40, 40]}  # IoU 0.6 and 1, the last one has the lowest score
    found = [dict(image_id=1, category_id=1, bbox=box, score=0.9 - i / 10) for i, box in enumerate(boxes.values())]
    (tmp_path / 'ann.json').write_text(json.dumps(truth))
    (tmp_path / 'found.json').write_text(json.dumps(found))
    arguments = [str(tmp_path / 'found.json'), str(tmp_path / 'out'), '--ann', str(tmp_path / 'ann.json')]
    module.main(module.parse_args([*arguments, '--extended']))
    assert '| cat' in capsys.readouterr().out
    assert {path.name for path in (tmp_path / 'out' / 'bbox').iterdir()} >= {
        'bbox-cat-all.png',
        'bbox-allclass-all.png',
    }
    names, table = module.analyze(truth, found, tmp_path / 'again')
    cat = dict(zip(module.KINDS, table[names.index('cat')], strict=True))
    half = 51 / 101  # recall up to one half
    assert cat['C75'] == pytest.approx(half / 5, abs=1e-6)
    assert cat['C50'] == cat['Loc'] == pytest.approx(2 / 5, abs=1e-6)
    assert cat['Sim'] == pytest.approx(2 / 4, abs=1e-6)
    assert cat['Oth'] == pytest.approx(2 / 3, abs=1e-6)
    assert cat['BG'] == cat['FN'] == 1
    assert dict(zip(module.KINDS, table[names.index('dog')], strict=True)) == dict.fromkeys(module.KINDS[:6], 0) | {
        'FN': 1
    }
