"""Multi-image transforms of the real datasets draw from the sample's own stream."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from mmdet.engine.runner import DetRunner
from mmdet.utils.randomness import EpochIndex, mix

MOSAIC = [
    dict(type='Mosaic', img_scale=(32, 32), pad_val=114.0),
    dict(type='RandomAffine', scaling_ratio_range=(0.5, 1.5), border=(-16, -16)),
    dict(type='MixUp', img_scale=(32, 32), ratio_range=(0.8, 1.6), pad_val=114.0),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]


@pytest.fixture
def loader_cfg(tmp_path):
    images, annotations = [], []
    generator = np.random.default_rng(0)
    for i in range(10):
        size = (24, 40) if i % 2 else (40, 24)
        cv2.imwrite(str(tmp_path / f'{i}.png'), generator.integers(0, 255, (*size, 3), dtype=np.uint8))
        images.append(dict(id=i, file_name=f'{i}.png', height=size[0], width=size[1]))
        annotations.append(dict(id=i, image_id=i, category_id=1, bbox=[4, 4, 12, 12], area=144, iscrowd=0))
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='a')])
    (tmp_path / 'a.json').write_text(json.dumps(content))
    inner = dict(
        type='CocoDataset',
        data_root=str(tmp_path),
        ann_file='a.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=('a',)),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)],
    )
    return dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(type='MultiImageMixDataset', dataset=inner, pipeline=MOSAIC),
    )


def digests(cfg, epoch=0, skip=0, **changes):
    init_default_scope('mmdet')
    loader = DetRunner.build_dataloader(dict(cfg, **changes), seed=5)
    loader.batch_sampler.sampler.set_epoch(epoch)
    loader.batch_sampler.offset = skip
    return [tuple(hash(image.numpy().tobytes()) for image in batch['inputs']) for batch in loader]


@pytest.mark.parametrize('batches', [None, dict(type='AspectRatioBatchSampler')], ids=['plain', 'aspect ratio'])
def test_workers_epochs_and_the_place_in_the_epoch(batches, loader_cfg):
    cfg = dict(loader_cfg)
    if batches is not None:
        cfg['batch_sampler'] = batches
        cfg['dataset'] = dict(cfg['dataset']['dataset'], pipeline=[*cfg['dataset']['dataset']['pipeline'], *MOSAIC[3:]])
    first = digests(cfg)
    assert len(first) == 5
    assert digests(cfg, num_workers=2) == first
    assert digests(cfg, skip=3) == first[3:]
    assert not {x for batch in digests(cfg, epoch=1) for x in batch} & {x for batch in first for x in batch}


def test_index_that_occurs_twice_draws_anew():
    import pickle

    once, again = EpochIndex(3, stream=1), EpochIndex(3, stream=1, turn=1)
    assert once == again == 3
    copy = pickle.loads(pickle.dumps(again))
    assert (copy.stream, copy.turn) == (1, 1)
    assert mix(0, 2, once, once.stream, once.turn) != mix(0, 2, again, again.stream, again.turn)
    assert torch.tensor([once]).item() == 3
