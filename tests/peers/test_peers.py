"""Other projects that call MMDetection, run against this package unchanged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hub_server import hub
from mmengine.config import Config

import mmdet
from mmdet.apis import Detector, inference_detector, init_detector
from mmdet.testing import get_detector_cfg

pytestmark = pytest.mark.usefixtures('default_scope')

CLASSES = ('cat', 'dog', 'owl')
CONFIGS = {
    'boxes': 'retinanet/retinanet_r18_fpn_1x_coco.py',
    'masks': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
}


@pytest.fixture(scope='module', params=CONFIGS)
def detector(request, tmp_path_factory):
    """A config and random weights in files, and whether there are masks."""
    masks = request.param == 'masks'
    folder = tmp_path_factory.mktemp(request.param)
    model = get_detector_cfg(CONFIGS[request.param])
    model.backbone.update(depth=18, init_cfg=None, base_channels=8)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=8)
    if masks:
        model.rpn_head.update(in_channels=8, feat_channels=8)
        model.roi_head.bbox_roi_extractor.out_channels = model.roi_head.mask_roi_extractor.out_channels = 8
        model.roi_head.bbox_head.update(in_channels=8, fc_out_channels=16, num_classes=3)
        model.roi_head.mask_head.update(in_channels=8, conv_out_channels=8, num_classes=3)
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    else:
        model.bbox_head.update(in_channels=8, feat_channels=8, num_classes=3)
        model.test_cfg.update(score_thr=0.0, max_per_img=5)
    pipeline = [
        dict(type='LoadImageFromFile', backend_args=None),
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=masks),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
    ]
    loader = dict(dataset=dict(type='CocoDataset', metainfo=dict(classes=CLASSES), pipeline=pipeline))
    cfg = Config(dict(model=model, train_dataloader=loader, test_dataloader=loader, default_scope='mmdet'))
    cfg.dump(str(folder / 'config.py'))
    torch.manual_seed(0)
    built = init_detector(str(folder / 'config.py'), device='cpu')
    torch.save(dict(state_dict=built.state_dict(), meta=dict(dataset_meta=dict(classes=CLASSES))), folder / 'w.pth')
    cv2.imwrite(str(folder / 'picture.png'), np.random.RandomState(0).randint(0, 255, (60, 90, 3)).astype(np.uint8))
    return folder, masks


def test_sahi(detector):
    pytest.importorskip('sahi')
    from sahi import AutoDetectionModel
    from sahi.predict import get_prediction, get_sliced_prediction

    folder, masks = detector
    model = AutoDetectionModel.from_pretrained(
        model_type='mmdet',
        model_path=str(folder / 'w.pth'),
        config_path=str(folder / 'config.py'),
        confidence_threshold=0.0,
        device='cpu',
    )
    assert model.category_names == CLASSES and model.has_mask is masks
    picture = str(folder / 'picture.png')
    whole = get_prediction(picture, model).object_prediction_list
    assert whole and {found.category.name for found in whole} <= set(CLASSES)
    assert all((found.mask is not None) is masks for found in whole)
    sliced = get_sliced_prediction(picture, model, slice_height=40, slice_width=50, verbose=0).object_prediction_list
    assert sliced and max(found.bbox.maxx for found in sliced) > 50, 'boxes of the second column are moved'
    own = inference_detector(init_detector(str(folder / 'config.py'), str(folder / 'w.pth'), device='cpu'), picture)
    scores = sorted(found.score.value for found in whole)
    np.testing.assert_allclose(scores, own.pred_instances.scores.sort().values, atol=1e-4)


def test_supervision(detector):
    supervision = pytest.importorskip('supervision')
    folder, masks = detector
    model = init_detector(str(folder / 'config.py'), str(folder / 'w.pth'), device='cpu')
    result = inference_detector(model, str(folder / 'picture.png'))
    detections = supervision.Detections.from_mmdetection(result)
    assert len(detections) == len(result.pred_instances) > 0
    np.testing.assert_allclose(detections.xyxy, result.pred_instances.bboxes.numpy())
    np.testing.assert_array_equal(detections.class_id, result.pred_instances.labels.numpy())
    assert (detections.mask is not None) is masks
    if masks:
        assert detections.mask.shape == (len(detections), 60, 90)


def child(code, folder, **environment):
    """Run Python in a folder, with settings that its libraries read when they are imported."""
    given = os.environ | dict(PYTHONPATH=str(Path(mmdet.__file__).parents[1]), OMP_NUM_THREADS='1') | environment
    command = [sys.executable, '-c', code]
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_fiftyone(detector, tmp_path):
    """Its own classes take what is found, in parts of the sides."""
    fiftyone = pytest.importorskip('fiftyone')
    folder, masks = detector
    result = Detector(folder / 'config.py', str(folder / 'w.pth')).predict(folder / 'picture.png', threshold=0.0)[0]
    found = result.to_fiftyone()
    assert isinstance(found, fiftyone.Detections) and len(found.detections) == len(result) > 0
    for entry, name, score, (x1, y1, x2, y2) in zip(found.detections, result.names, result.scores, result.boxes):
        assert entry.label == name and entry.confidence == pytest.approx(float(score))
        assert entry.bounding_box == pytest.approx([x1 / 90, y1 / 60, (x2 - x1) / 90, (y2 - y1) / 60], abs=1e-6)
        assert (entry.mask is not None) is masks


PUSH = """
from mmdet import Detector
detector = Detector('config.py', 'w.pth', device='cpu')
print(detector.push_to_hub('me/mine', token='t'))
again = Detector('hf://me/mine', device='cpu')
first, second = (each.predict('picture.png', threshold=0.0)[0] for each in (detector, again))
assert len(first) and first.boxes.tolist() == second.boxes.tolist() and first.names == second.names
from mmdet.errors import UserError
try:
    Detector('hf://me/other').network
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_hub_on_this_machine(detector, tmp_path):
    """What is pushed there is the same detector when it comes back; without the hub it comes out of the cache."""
    pytest.importorskip('huggingface_hub')
    folder, _ = detector
    settings = dict(HF_HOME=str(tmp_path), HF_HUB_DISABLE_XET='1', HF_HUB_DISABLE_TELEMETRY='1')
    with hub() as (address, files):
        shown = child(PUSH, folder, HF_ENDPOINT=address, **settings)
    assert 'hf://me/mine' in shown and 'hf://me/other cannot be had' in shown
    assert sorted(set(files['me/mine']) - {'.gitattributes'}) == ['README.md', 'config.json', 'model.safetensors']
    assert json.loads(files['me/mine']['config.json'])['id2label'] == {str(i): name for i, name in enumerate(CLASSES)}
    cached = "from mmdet import Detector; print(len(Detector('hf://me/mine', device='cpu').predict('picture.png')))"
    child(cached, folder, HF_ENDPOINT=address, MMDET_OFFLINE='1', **settings)


TRAIN = """
import sys
from mmdet.cli.main import main
sys.exit(main(['train', 'own', '--model', 'retinanet_r18', '--scratch', '--epochs', '1', '--batch', '2', '--size', '64',
               '--workers', '0', '--work-dir', 'run', '--log', '{}']))
"""


@pytest.fixture
def own(tmp_path):
    """Six pictures of one disc each, as YOLO."""
    for number in range(6):
        picture = np.full((64, 64, 3), 90, np.uint8)
        cv2.circle(picture, (20 + 4 * number, 32), 12, (0, 0, 250), -1)
        for kind in ('images', 'labels'):
            (tmp_path / 'own' / kind).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / 'own' / 'images' / f'{number}.png'), picture)
        line = f'0 {(20 + 4 * number) / 64} 0.5 0.375 0.375'
        (tmp_path / 'own' / 'labels' / f'{number}.txt').write_text(line)
    (tmp_path / 'own' / 'data.yaml').write_text('train: images\nnames: [disc]\n')
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize('tracker', ['wandb', 'mlflow', 'tensorboard'])
def test_trackers_get_the_numbers(own, tracker):
    """Without a network: each writes into the folder of the run, and the run ends well."""
    pytest.importorskip('torch.utils.tensorboard' if tracker == 'tensorboard' else tracker)
    settings = dict(WANDB_MODE='offline', WANDB_SILENT='true', MLFLOW_ALLOW_FILE_STORE='true')
    child(TRAIN.replace('{}', tracker), own, **settings)
    if tracker == 'wandb':
        (log,) = own.rglob('offline-run-*/run-*.wandb')
        assert b'bbox_mAP' in log.read_bytes()
    elif tracker == 'mlflow':
        names = {path.name for path in own.rglob('metrics/*')} | {p.name for p in own.rglob('metrics/coco/*')}
        databases = [path.read_bytes() for path in own.rglob('*.db')]
        assert 'bbox_mAP' in names or any(b'coco/bbox_mAP' in content for content in databases)
    else:
        (log, *_) = own.rglob('events.out.tfevents.*')
        assert b'coco/bbox_mAP' in log.read_bytes()
