"""What the doctor and training say of files with one defect: a finding each, and no crash."""

import math
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch
from defects import DEFECTS, make, sound_coco, sound_voc
from mmengine.config import Config
from mmengine.registry import init_default_scope

import mmdet
from mmdet.checks import as_html, as_json, as_text, examine
from mmdet.config import load_config
from mmdet.engine import DetRunner
from mmdet.errors import UserError
from mmdet.registry import MODELS

CONFIGS = Path(mmdet.__file__).parents[1] / 'configs'
SMALL = {
    'model.backbone': dict(
        type='ResNet',
        depth=18,
        base_channels=4,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(1, 2),
    ),
    'model.neck': dict(type='FPN', in_channels=[8, 16], out_channels=8, num_outs=2),
}
RPN = {'in_channels': 8, 'feat_channels': 8, 'anchor_generator.strides': [8, 16], 'anchor_generator.scales': [2]}
ROI = {
    **{f'{part}_roi_extractor.{key}': value for part in ('bbox', 'mask') for key, value in
       {'out_channels': 8, 'featmap_strides': [8, 16]}.items()},
    **{f'{part}_head.{key}': value for part in ('bbox', 'mask') for key, value in
       {'in_channels': 8, 'num_classes': 2}.items()},
    'bbox_head.fc_out_channels': 8,
    'mask_head.num_convs': 1,
    'mask_head.conv_out_channels': 8,
}  # fmt: skip


def small_model(name, **options):
    cfg = load_config(CONFIGS / name, {**SMALL, **options})
    cfg.model.data_preprocessor.pad_size_divisor = 32
    torch.manual_seed(0)
    init_default_scope('mmdet')
    return MODELS.build(cfg.model).train()


@pytest.fixture(scope='module')
def models():
    """A small detector for each format; that for COCO files takes the masks."""
    options = {f'model.rpn_head.{key}': value for key, value in RPN.items()}
    options |= {f'model.roi_head.{key}': value for key, value in ROI.items()}
    options |= {'model.train_cfg.rpn_proposal.nms_pre': 50, 'model.train_cfg.rpn_proposal.max_per_img': 20}
    options |= {'model.train_cfg.rcnn.sampler.num': 16, 'model.train_cfg.rpn.sampler.num': 16}
    coco = small_model('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', **options)
    head = {
        f'model.bbox_head.{key}': value for key, value in dict(in_channels=8, feat_channels=8, num_classes=2).items()
    }
    head['model.bbox_head.anchor_generator.strides'] = [8, 16]
    return dict(coco=coco, voc=small_model('retinanet/retinanet_r50_fpn_1x_coco.py', **head))


def config_of(folder, path):
    masks = not folder.xml
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=masks),
        dict(type='Resize', scale=(64, 64), keep_ratio=True),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs'),
    ]
    dataset = dict(folder.write(path), pipeline=pipeline, filter_cfg=dict(filter_empty_gt=True, min_size=8))
    loader = dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)
    return Config(dict(train_dataloader=loader), format_python_code=False)


def train(cfg, model):
    """An epoch of losses; what a tool would print, where it stops."""
    try:
        for data in DetRunner.build_dataloader(cfg.train_dataloader):
            data = model.data_preprocessor(data, True)
            losses = model.parse_losses(model(**data, mode='loss'))[0]
            losses.backward()
            assert math.isfinite(losses.item()), 'a loss is not finite'
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize('make_sound', [sound_coco, sound_voc])
def test_sound_data(make_sound, models, tmp_path, default_scope):
    folder = make_sound(Random('sound'))
    cfg = config_of(folder, tmp_path)
    assert not examine(cfg).problems
    assert train(cfg, models['voc' if folder.xml else 'coco']) is None


def is_one_sentence(text):
    """Or the table of classes, which needs its lines."""
    return '\n' not in text.strip() or text.startswith('metainfo.classes and the categories')


def look_at(number, models, path, seed=0):
    """The defect, its problems and what training says."""
    defect, folder = make(number, seed)
    cfg = config_of(folder, path)
    diagnosis = examine(cfg)
    assert as_text(diagnosis) and as_json(diagnosis) and as_html(diagnosis)
    assert diagnosis.problems, f'{defect} ({number}): the doctor finds nothing'
    assert 'check stopped' not in {problem.kind for problem in diagnosis.problems}, as_text(diagnosis)
    said = train(cfg, models['voc' if folder.xml else 'coco'])
    if said is not None:
        assert is_one_sentence(said) and re.search(r'train\.json|train\.txt|\.xml|\.jpg', said), f'{defect}: {said}'
    return defect, diagnosis.problems, said


@pytest.mark.parametrize('number', range(0, len(DEFECTS), 7), ids=lambda number: DEFECTS[number][1])
def test_some_defects(number, models, tmp_path, default_scope):
    look_at(number, models, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0])
def test_two_hundred_defects(seed, models, tmp_path, default_scope):
    ways: Counter = Counter()
    for number in range(200):
        _, _, said = look_at(number, models, tmp_path / str(number), seed)
        ways['runs' if said is None else 'stops'] += 1
    assert sum(ways.values()) == 200 and min(ways.values()) > 50
