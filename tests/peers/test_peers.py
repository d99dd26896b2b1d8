"""Other projects that call MMDetection, run against this package unchanged."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdet.apis import inference_detector, init_detector
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
