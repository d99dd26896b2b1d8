"""A detector that reads, for tests of what is told to it in words."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdet.apis import DetInferencer, init_detector

sys.path.append(str(Path(__file__).parents[1] / 'models' / 'detectors'))
from readers import grounding_dino_cfg

KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'text', 'custom_entities', 'tokens_positive')


@pytest.fixture(scope='module')
def files(tmp_path_factory, tiny_bert):
    """A config, weights, and two pictures."""
    folder = tmp_path_factory.mktemp('files')
    pipeline = [
        dict(type='LoadImageFromFile', backend_args=None),
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
        dict(type='PackDetInputs', meta_keys=KEYS),
    ]
    model = grounding_dino_cfg(tiny_bert)
    model['data_preprocessor'] = dict(type='DetDataPreprocessor', mean=[114.0] * 3, std=[57.0] * 3, bgr_to_rgb=True)
    visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
    cfg = Config(dict(model=model, visualizer=visualizer, default_scope='mmdet'))
    cfg.test_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=pipeline))
    cfg.dump(folder / 'config.py')
    torch.manual_seed(0)
    torch.save(dict(state_dict=init_detector(cfg, device='cpu').state_dict()), folder / 'weights.pth')
    for index, shape in enumerate(((48, 64, 3), (64, 48, 3))):
        picture = np.random.RandomState(index).randint(0, 255, shape).astype(np.uint8)
        cv2.imwrite(str(folder / f'{index}.png'), picture)
    return folder


@pytest.fixture(scope='module')
def inferencer(files):
    return DetInferencer(files / 'config.py', str(files / 'weights.pth'), device='cpu', show_progress=False)
