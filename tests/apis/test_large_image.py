"""Merging tiles of large pictures, pipelines for inference, and measurements of speed."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmdet.apis import DetInferencer
from mmdet.apis.inference import build_test_pipeline
from mmdet.apis.large_image import merge_results_by_nms, shift_predictions, shift_rbboxes
from mmdet.datasets.utils import get_loading_pipeline
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.testing import get_detector_cfg
from mmdet.utils.benchmark import DataLoaderBenchmark, DatasetBenchmark, InferenceBenchmark

PIPELINE = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='mmdet.Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]


@pytest.fixture
def cfg(tmp_path, default_scope):
    """A detector of 18 layers with three pictures of one object each."""
    for i in range(3):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.random.RandomState(i).randint(0, 255, (48, 64, 3)).astype(np.uint8))
    truth = dict(
        images=[dict(id=i, file_name=f'{i}.png', height=48, width=64) for i in range(3)],
        annotations=[dict(id=i, image_id=i, category_id=1, bbox=[4, 4, 20, 20], area=400, iscrowd=0) for i in range(3)],
        categories=[dict(id=1, name='person')],
    )
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    dataset = dict(
        type='CocoDataset',
        metainfo=dict(classes=('person',)),
        ann_file='truth.json',
        data_root=str(tmp_path),
        data_prefix=dict(img=''),
        pipeline=PIPELINE,
    )
    model = get_detector_cfg('retinanet/retinanet_r18_fpn_1x_coco.py')
    model.backbone.init_cfg = None
    loader = dict(batch_size=2, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False))
    return Config(dict(model=model, test_dataloader=loader, default_scope='mmdet'))


def test_speed(cfg, tmp_path):
    few = dict(max_iter=2, log_interval=1, num_warmup=1)
    weights = tmp_path / 'weights.pth'
    first = InferenceBenchmark(cfg, None, False, False, **few)
    torch.save(first.model.state_dict(), weights)
    fused = InferenceBenchmark(cfg, str(weights), False, True, **few)
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in first.model.modules())
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in fused.model.modules())
    assert fused.run()['avg_fps'] > 0
    loaded = DataLoaderBenchmark(cfg, False, 'test', **few).run(2)
    assert len(loaded['fps']) == 2 and loaded['avg_fps'] > 0
    transforms = DatasetBenchmark(cfg, 'test', **few).run_once()['transforms']
    assert list(transforms) == ['LoadImageFromFile', 'Resize', 'LoadAnnotations', 'PackDetInputs']
    with pytest.raises(AssertionError, match='testing'):
        DataLoaderBenchmark(cfg, False, 'testing')


def test_test_pipeline(cfg, tmp_path):
    packed = build_test_pipeline(cfg)(dict(img_path=str(tmp_path / '0.png'), img_id=0, instances=[]))
    assert packed['inputs'].shape == (3, 48, 64) and len(packed['data_samples'].gt_instances) == 0
    assert cfg.test_dataloader.dataset.pipeline[1].type == 'mmdet.Resize', 'the config stays as it is'


def test_loading_pipeline():
    loading = get_loading_pipeline(PIPELINE)
    assert [transform['type'] for transform in loading] == ['LoadImageFromFile', 'LoadAnnotations']
    with pytest.raises(AssertionError, match='LoadPanopticAnnotations'):
        get_loading_pipeline(PIPELINE[:2])


def test_place_of_a_transform():
    place = DetInferencer._get_transform_idx
    assert place(None, PIPELINE, 'LoadImageFromFile') == 0
    assert place(None, PIPELINE, ('RandomFlip', 'Resize')) == 1
    assert place(None, [dict(type=dict), dict(type=list)], (list, 'Resize')) == 1
    assert place(None, PIPELINE, 'Pad') == -1


def tile(boxes, scores, masks=None):
    found = InstanceData(bboxes=boxes, scores=torch.tensor(scores), labels=torch.zeros(len(scores), dtype=torch.long))
    if masks is not None:
        found.masks = masks
    return DetDataSample(pred_instances=found)


@pytest.mark.parametrize('kind', [lambda boxes: boxes, HorizontalBoxes])
def test_an_object_in_two_tiles_is_found_once(kind):
    masks = torch.zeros(1, 20, 20, dtype=torch.bool)
    masks[0, 2:8, 12:18] = True
    left = tile(kind(torch.tensor([[12.0, 2, 18, 8]])), [0.9], masks)
    right = tile(kind(torch.tensor([[2.0, 2, 8, 8], [10, 10, 14, 14]])), [0.8, 0.7], masks.repeat(2, 1, 1))
    merged = merge_results_by_nms(
        [left, right], [(0, 0), (10, 0)], (20, 25), dict(type='nms', iou_threshold=0.5)
    ).pred_instances
    assert merged.scores.tolist() == pytest.approx([0.9, 0.7])
    boxes = merged.bboxes if kind is not HorizontalBoxes else merged.bboxes.tensor
    assert boxes.tolist() == [[12, 2, 18, 8], [20, 10, 24, 14]]
    assert merged.masks.shape == (2, 20, 25) and merged.masks[0].sum() == 36
    assert merged.masks[1].sum() == 6 * 3, 'what hangs over the border is cut off'
    assert left.pred_instances.masks is masks, 'the tiles stay as they are'
    with pytest.raises(AssertionError, match='2 tiles'):
        shift_predictions([left, right], [(0, 0)], (20, 25))


def test_rotated_boxes_move_by_their_center():
    assert shift_rbboxes(torch.tensor([[1.0, 2, 3, 4, 0.5]]), (10, 20)).tolist() == [[11, 22, 3, 4, 0.5]]
