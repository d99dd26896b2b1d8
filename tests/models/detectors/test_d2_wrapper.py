"""Detectron2Wrapper against a stand-in for detectron2 with the few names that it uses."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn

from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmdet.testing import get_detector_cfg

WRAPPER = dict(type='Detectron2Wrapper', detector=dict(weights='d2.pkl', backbone=dict(freeze_at=2), mask_on=True))


class Instances:
    def __init__(self, image_size, **fields):
        self.image_size = image_size
        self.__dict__.update(fields)

    def set(self, name, value):
        setattr(self, name, value)

    def has(self, name):
        return hasattr(self, name)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen = None

    def forward(self, inputs):
        self.seen = inputs
        if self.training:
            return {'loss_rpn': self.layer.weight.sum()}
        box = SimpleNamespace(tensor=torch.tensor([[1.0, 2, 3, 4]]))
        found = dict(pred_boxes=box, scores=torch.ones(1), pred_classes=torch.tensor([5]))
        return [dict(instances=Instances((8, 8), pred_masks=torch.ones(1, 8, 8) > 0, **found)) for _ in inputs]


class Storage:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def clear_images(self):
        self.cleared = True


class Checkpointer:
    loaded = []

    def __init__(self, model):
        self.model = model

    def load(self, path, checkpointables):
        self.loaded.append((self.model, path, checkpointables))


def cfg_node():
    pairs = {}
    node = SimpleNamespace(MODEL=SimpleNamespace(WEIGHTS='d2.pkl'), pairs=pairs)
    node.merge_from_list = lambda flat: pairs.update(zip(flat[::2], flat[1::2], strict=True))
    return node


@pytest.fixture
def detectron2(monkeypatch):
    parts = {
        '': {},
        '.config': dict(get_cfg=cfg_node),
        '.modeling': dict(build_model=lambda cfg: Model()),
        '.utils': {},
        '.utils.events': dict(EventStorage=Storage),
        '.checkpoint': dict(DetectionCheckpointer=Checkpointer),
        '.structures': dict(
            Instances=Instances, Boxes=list, BitMasks=lambda masks: ('bits', masks), PolygonMasks=lambda p: ('lines', p)
        ),
    }
    for name, content in parts.items():
        module = ModuleType('detectron2' + name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Checkpointer, 'loaded', [])


def sample(masks):
    out = DetDataSample(metainfo=dict(img_shape=(8, 8), ori_shape=(16, 16), img_id=3, img_path='3.jpg'))
    out.gt_instances = InstanceData(bboxes=torch.tensor([[0.0, 0, 4, 4]]), labels=torch.tensor([1]), masks=masks)
    return out


BITS = BitmapMasks(np.ones((1, 8, 8), np.uint8), 8, 8)
LINES = PolygonMasks([[np.array([0.0, 0, 4, 0, 4, 4])]], 8, 8)


@pytest.mark.parametrize(('masks', 'kind'), [(BITS, 'bits'), (LINES, 'lines')])
@pytest.mark.parametrize('flags', [{}, dict(bgr_to_rgb=True), dict(rgb_to_bgr=True)])
def test_what_detectron2_is_given(detectron2, default_scope, masks, kind, flags):
    model = MODELS.build(dict(WRAPPER, **flags)).train()
    assert model.cfg.pairs == {
        'MODEL.WEIGHTS': 'd2.pkl', 'MODEL.BACKBONE.FREEZE_AT': '2', 'MODEL.MASK_ON': 'True'
    }  # fmt: skip
    image = torch.arange(3).view(3, 1, 1).expand(3, 8, 8)
    losses = model([image], [sample(masks)], mode='loss')
    assert list(losses) == ['loss_rpn'] and model.storage.cleared
    (given,) = model.d2_model.seen
    assert given['image'][:, 0, 0].tolist() == ([2, 1, 0] if flags else [0, 1, 2])
    assert [given[key] for key in ('height', 'width', 'image_id', 'file_name')] == [16, 16, 3, '3.jpg']
    truth = given['instances']
    assert truth.image_size == (8, 8) and truth.gt_classes.tolist() == [1] and truth.gt_masks[0] == kind


def test_what_detectron2_gives_and_its_weights(detectron2, default_scope):
    model = MODELS.build(WRAPPER).eval()
    (result,) = model([torch.zeros(3, 8, 8)], [sample(BITS)], mode='predict')
    assert result.pred_instances.bboxes.tolist() == [[1, 2, 3, 4]] and result.pred_instances.labels.tolist() == [5]
    assert result.pred_instances.masks.shape == (1, 8, 8)
    assert 'instances' not in model.d2_model.seen[0]
    model.init_weights()
    assert Checkpointer.loaded == [(model.d2_model, 'd2.pkl', [])]


def test_what_cannot_be(detectron2, default_scope):
    with pytest.raises(ValueError, match='undo each other'):
        MODELS.build(dict(WRAPPER, bgr_to_rgb=True, rgb_to_bgr=True))
    model = MODELS.build(WRAPPER)
    with pytest.raises(NotImplementedError, match="not 'tensor'"):
        model([torch.zeros(3, 8, 8)], mode='tensor')
    with pytest.raises(NotImplementedError, match='d2_model'):
        model.extract_feat(None)


@pytest.mark.parametrize('kind', ['faster-rcnn', 'mask-rcnn', 'retinanet'])
def test_without_detectron2_one_sentence(monkeypatch, default_scope, kind):
    monkeypatch.setitem(sys.modules, 'detectron2', None)
    with pytest.raises(ImportError, match=r'^Detectron2Wrapper needs detectron2, see https://github.com'):
        MODELS.build(get_detector_cfg(f'misc/d2_{kind}_r50-caffe_fpn_ms-90k_coco.py'))
