"""A panoptic detector on pictures: what the inferencer and the function return, draw and write."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.evaluation.functional.panoptic import id2rgb, rgb2id

CONFIG = Path(__file__).parents[2] / 'configs' / 'quickstart' / 'panoptic-fpn_r18_shapes.py'


@pytest.fixture(scope='module')
def cfg():
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.update(base_channels=8)
    cfg.model.neck.update(in_channels=[8, 16, 32, 64])
    cfg.model.test_cfg.panoptic.stuff_area_limit = 1
    return cfg


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    return tmp_path / 'a.png'


def test_inferencer(cfg, picture, tmp_path):
    torch.manual_seed(0)
    inferencer = DetInferencer(cfg, device='cpu', show_progress=False)
    assert inferencer.model.dataset_meta['classes'][5:] == ('grass', 'sand', 'water')
    segments = inferencer.model.test_step  # a map of a cross, of grass and of void
    made = np.full((1, 48, 64), 5)
    made[:, :20], made[:, 40:] = 4 + 3 * 1000, 8

    def predict(data):
        samples = segments(data)
        assert samples[0].pred_panoptic_seg.sem_seg.shape == (1, 48, 64)
        samples[0].pred_panoptic_seg.sem_seg = torch.tensor(made)
        return samples

    inferencer.model.test_step = predict
    result = inferencer(str(picture), return_vis=True)
    wanted = np.where(made[0] == 8, 0, made[0])
    found = result['predictions'][0]['panoptic_seg']
    assert found.dtype == np.uint8 and (rgb2id(found) == wanted).all()
    drawn, before = result['visualization'][0], cv2.imread(str(picture))[..., ::-1]
    assert (drawn[42:, :20] == before[42:, :20]).all() and (drawn[:39] != before[:39]).any(-1).mean() > 0.9

    result = inferencer(str(picture), out_dir=str(tmp_path / 'out'), no_save_pred=False)
    path = result['predictions'][0]['panoptic_seg_path']
    assert Path(path) == tmp_path / 'out/preds/a_panoptic_seg.png'
    assert (cv2.imread(path)[..., ::-1] == id2rgb(wanted)).all()
    assert json.loads((tmp_path / 'out/preds/a.json').read_text()) == dict(panoptic_seg_path=path)
    assert cv2.imread(str(tmp_path / 'out/vis/a.png')).shape == (48, 64, 3)


def test_function(cfg, picture):
    model = init_detector(cfg, device='cpu')
    one, two = inference_detector(model, [str(picture)] * 2)
    assert one.pred_panoptic_seg.sem_seg.shape == (1, 48, 64)
    assert (one.pred_panoptic_seg.sem_seg == two.pred_panoptic_seg.sem_seg).all()
