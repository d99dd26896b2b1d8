"""The quickstart configs: sound, and a training step of each on a picture of its own."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from one_step import with_language_model

from mmdet.checks.config_check import check_config
from mmdet.config import load_config
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import INSTANCE_OFFSET, BitmapMasks

FOLDER = Path(__file__).parents[2] / 'configs' / 'quickstart'
CONFIGS = sorted(path.name for path in FOLDER.glob('*.py'))
NAMES = ('red circle', 'blue star', 'dog')


def sample(height: int, width: int) -> DetDataSample:
    """A data sample with a small and a large object."""
    boxes = torch.tensor([[10.0, 12.0, 30.0, 34.0], [40.0, 20.0, 130.0, 110.0]])
    masks = np.zeros((2, height, width), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    data_sample = DetDataSample(
        metainfo=dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0), text=NAMES)
    )
    data_sample.gt_instances = InstanceData(
        bboxes=boxes, labels=torch.tensor([0, 2]), masks=BitmapMasks(masks, height, width)
    )
    data_sample.gt_sem_seg = PixelData(sem_seg=torch.full((1, height, width), 5, dtype=torch.uint8))
    return data_sample


@pytest.mark.parametrize('name', CONFIGS)
def test_config_is_sound(name):
    path = FOLDER / name
    assert [str(finding) for finding in check_config(load_config(path), path)] == []


@pytest.mark.parametrize('name', CONFIGS)
def test_training_step_and_prediction(name, default_scope, request):
    torch.manual_seed(0)
    cfg = load_config(FOLDER / name)
    if 'language_model' in cfg.model:
        cfg.model = with_language_model(cfg.model, request.getfixturevalue('tiny_bert'))
    model = MODELS.build(cfg.model)
    picture = torch.randint(0, 256, (3, 128, 160), dtype=torch.uint8)
    batch = dict(inputs=[picture], data_samples=[sample(128, 160)])
    if 'semi_train_cfg' in cfg.model:
        batch['data_samples'][0].set_metainfo(dict(homography_matrix=np.eye(3)))
        branches = cfg.branch_field
        batch = {key: {branch: copy.deepcopy(value) for branch in branches} for key, value in batch.items()}
    data = model.data_preprocessor(batch, training=True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    learners = model.student if hasattr(model, 'student') else model
    frozen = [name for name, parameter in learners.named_parameters() if parameter.grad is None]
    assert frozen == [], 'from scratch every parameter is trained'
    model.eval()
    if hasattr(model, 'student'):
        data = {key: value['sup'] for key, value in data.items()}
    with torch.no_grad():
        (result,) = model(**data, mode='predict')
    classes = cfg.val_dataloader.dataset.metainfo.classes
    if 'pred_panoptic_seg' in result:
        labels = result.pred_panoptic_seg.sem_seg % INSTANCE_OFFSET  # the one after the last is void
        assert set(labels.unique().tolist()) <= set(range(len(classes) + 1))
    else:
        assert set(result.pred_instances.labels.tolist()) <= set(range(len(classes)))
