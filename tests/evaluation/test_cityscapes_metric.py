import importlib.util

import numpy as np
import pytest
import torch

from mmdet.evaluation import CityScapesMetric

needs_scripts = pytest.mark.skipif(
    importlib.util.find_spec('cityscapesscripts') is None, reason='cityscapesscripts is not installed'
)


def sample(*places, labels):
    masks = torch.zeros(len(places), 64, 64, dtype=torch.bool)
    for mask, (y1, y2) in zip(masks, places, strict=True):
        mask[y1:y2] = True
    pred = dict(masks=masks, labels=torch.tensor(labels), scores=torch.full((len(places),), 0.9))
    return dict(img_path='leftImg8bit/val/town/town_0_leftImg8bit.png', pred_instances=pred)


@needs_scripts
def test_average_precision(tmp_path):
    import cv2

    (tmp_path / 'gt' / 'town').mkdir(parents=True)
    truth = np.full((64, 64), 7, dtype=np.uint16)  # road
    truth[:20], truth[30:50] = 24000, 26000  # a person and a car
    file = tmp_path / 'gt' / 'town' / 'town_0_gtFine_instanceIds.png'
    cv2.imwrite(str(file), truth)
    for place, expected in (((30, 50), 1), ((50, 60), 0.5)):
        metric = CityScapesMetric(str(tmp_path / 'out'), str(tmp_path / 'gt'))
        metric.dataset_meta = dict(classes=('person', 'car'))
        metric.process({}, [sample((0, 20), place, labels=[0, 1])])
        numbers = metric.evaluate(1)
        assert numbers == {'cityscapes/mAP': pytest.approx(expected), 'cityscapes/AP@50': pytest.approx(expected)}
    file.unlink()
    with pytest.raises(FileNotFoundError, match='seg_prefix'):
        metric.process({}, [sample((0, 20), labels=[0])])


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='pip install cityscapesscripts'):
        CityScapesMetric(str(tmp_path))
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object())
    with pytest.raises(ValueError, match='seg_prefix'):
        CityScapesMetric(str(tmp_path))
    with pytest.raises(ValueError, match='outfile_prefix'):
        CityScapesMetric('')
