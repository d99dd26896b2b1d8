"""Rules of Panoptic FPN on tiny maps: which labels its head learns, and how instances and stuff become one map."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData, PixelData

from mmdet.models.seg_heads import PanopticFPNHead
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, encode_mask_results

pytestmark = pytest.mark.usefixtures('default_scope')
CONFIGS = Path(__file__).parents[3] / 'configs'
SMALL = dict(in_channels=4, inner_channels=4, norm_cfg=dict(type='GN', num_groups=2))


def head(**more):
    loss = dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.5)
    return PanopticFPNHead(num_things_classes=3, num_stuff_classes=2, loss_seg=loss, **SMALL, **more)


def fusion(overlap=0.5, limit=0):
    return HeuristicFusionHead(3, 2, test_cfg=ConfigDict(mask_overlap=overlap, stuff_area_limit=limit))


def test_things_are_one_class_after_the_stuff():
    labels = torch.tensor([[0, 2, 3, 4, 255]], dtype=torch.int32)
    assert head()._set_things_to_void(labels).tolist() == [[2, 2, 0, 1, 255]]


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int64])
def test_loss_is_that_of_the_coarse_labels(dtype):
    labels = torch.tensor([[3, 4], [1, 255]])
    sample = DetDataSample(
        gt_sem_seg=PixelData(sem_seg=labels.repeat_interleave(4, 0).repeat_interleave(4, 1).to(dtype))
    )
    logits = torch.randn(1, 3, 2, 2)
    model = head()
    model.forward = lambda x: dict(seg_preds=logits)
    want = 0.5 * torch.nn.functional.cross_entropy(
        logits, torch.tensor([[[0, 1], [2, 255]]]), ignore_index=255, reduction='none'
    )
    torch.testing.assert_close(model.loss((), [sample])['loss_seg'], want.mean())
    with pytest.raises(KeyError, match=r'x\.jpg has no semantic map.*LoadPanopticAnnotations'):
        model.loss((), [DetDataSample(metainfo=dict(img_path='x.jpg'))])


def test_levels_meet_at_the_finest():
    model = head(start_level=1, end_level=3)
    assert [len(layer.conv) for layer in model.conv_upsample_layers] == [1, 1]
    assert model.seg_rescale_factor == 1 / 8
    levels = tuple(torch.randn(2, 4, 16 >> level, 32 >> level) for level in range(3))
    out = model(levels)
    assert out['seg_preds'].shape == (2, 3, 8, 16) and out['feats'].shape == (2, 4, 8, 16)
    model.init_weights()
    assert model.conv_logits.weight.std() < 0.02
    metas = [dict(batch_input_shape=(64, 128), img_shape=(64, 100), ori_shape=(32, 50))] * 2
    assert model.predict(levels, metas)[1].shape == (3, 64, 128)
    assert model.predict(levels, metas, rescale=True)[1].shape == (3, 32, 50)


def test_one_graph(one_graph):
    model = head(end_level=2)
    levels = tuple(torch.randn(1, 4, 8 >> level, 8 >> level) for level in range(2))
    torch.testing.assert_close(one_graph(model, levels)['seg_preds'], model(levels)['seg_preds'])


def rows(*texts):
    return torch.tensor([[[c == '1' for c in row] for row in text.split()] for text in texts])


def found(masks, labels, scores):
    return InstanceData(masks=masks, labels=torch.tensor(labels), scores=torch.tensor(scores))


def test_the_surest_instance_lies_on_top():
    masks = rows('1100 1100', '0110 0110', '1111 0000', '0000 0000')
    # by score: the second, the third (half of it is free), the first (all but one pixel of it is taken), nothing
    laid, labels = fusion()._lay_masks(found(masks, [0, 1, 2, 0], [0.5, 0.9, 0.7, 0.6]), 0.5)
    assert laid.tolist() == [[2, 1, 1, 2], [0, 1, 1, 0]] and labels.tolist() == [1, 2]
    laid, labels = fusion()._lay_masks(found(masks, [0, 1, 2, 0], [0.5, 0.9, 0.7, 0.6]), 0.8)
    assert laid.tolist() == [[2, 1, 1, 2], [3, 1, 1, 0]] and labels.tolist() == [1, 2, 0]
    coded = found(encode_mask_results(masks), [0, 1, 2, 0], [0.5, 0.9, 0.7, 0.6])
    torch.testing.assert_close(fusion()._lay_masks(coded, 0.8)[0], laid)


def test_instances_stuff_and_void():
    # stuff 3, stuff 4 and things, which no instance covers in the last column
    best = torch.tensor([[0, 0, 1, 2], [0, 0, 1, 2]])
    logits = torch.nn.functional.one_hot(best, 3).permute(2, 0, 1).float()
    instances = found(rows('1000 0000', '1100 0000'), [2, 1], [0.9, 0.8])
    seg = fusion()._predict_single(instances, logits).sem_seg
    assert seg.tolist() == [[[1002, 2001, 4, 5], [3, 3, 4, 5]]] and seg.dtype == torch.int32
    seg = fusion(limit=3)._predict_single(instances, logits).sem_seg
    assert seg.tolist() == [[[1002, 2001, 5, 5], [5, 5, 5, 5]]]
    assert fusion(overlap=0.4)._predict_single(instances, logits).sem_seg[0, 0].tolist() == [1002, 3, 4, 5]
    nothing = found(torch.zeros(0, 7, 7, dtype=torch.bool), [], [])
    assert fusion().predict([nothing], [logits])[0].sem_seg.tolist() == [[[3, 3, 4, 5], [3, 3, 4, 5]]]
    assert fusion().loss() == {}


def by_loop(masks, labels, scores, overlap):
    """The rule as the papers tell it: on the host, one after another."""
    laid, kept = np.zeros(masks.shape[1:], dtype=int), []
    for index in np.argsort(-scores, kind='stable'):
        mask, taken = masks[index], laid > 0
        if mask.any() and (mask & taken).sum() / mask.sum() <= overlap:
            kept.append(labels[index])
            laid[mask & ~taken] = len(kept)
    return laid, kept


@pytest.mark.parametrize('seed', range(4))
def test_laying_is_that_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    masks = np.zeros((12, 20, 30), dtype=bool)
    for mask in masks[:-1]:
        y, x, h, w = rng.integers(0, 15), rng.integers(0, 25), *rng.integers(1, 12, 2)
        mask[y : y + h, x : x + w] = True
    labels, scores = rng.integers(0, 3, 12), rng.permutation(12) / 12
    want = by_loop(masks, labels, scores, 0.3)
    instances = InstanceData(masks=torch.tensor(masks), labels=torch.tensor(labels), scores=torch.tensor(scores))
    laid, kept = fusion()._lay_masks(instances, 0.3)
    assert laid.tolist() == want[0].tolist() and kept.tolist() == want[1]


def test_heads_agree_on_the_classes(shared_config):
    MODELS.build(shared_config)
    for path, value, text in (
        (('panoptic_fusion_head', 'num_things_classes'), 4, r'num_things_classes=4, semantic_head\.num_things.*=80'),
        (('semantic_head', 'num_stuff_classes'), 9, r'fusion_head\.num_stuff_classes=53, semantic_head\.num_stuff.*=9'),
        (('roi_head', 'bbox_head', 'num_classes'), 7, r'roi_head\.bbox_head\.num_classes=7'),
    ):
        config = copy.deepcopy(shared_config)
        part = config
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        with pytest.raises(ValueError, match='must agree on the number of classes, but ' + '.*' + text):
            MODELS.build(config)


@pytest.fixture
def shared_config():
    model = Config.fromfile(CONFIGS / 'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py').model
    model.backbone = dict(type='ResNet', depth=18, base_channels=4, init_cfg=None)
    model.neck.update(in_channels=[4, 8, 16, 32])
    model.roi_head.bbox_head.fc_out_channels = 8
    return model


def test_labels_of_no_class_are_refused(shared_config):
    model = MODELS.build(shared_config).train()
    labels = torch.full((1, 32, 32), 140, dtype=torch.uint8)
    sample = DetDataSample(metainfo=dict(img_path='x.jpg', img_shape=(32, 32)), gt_sem_seg=PixelData(sem_seg=labels))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 9, 9]]), labels=torch.tensor([0]), masks=torch.zeros(1, 32, 32)
    )
    data = dict(inputs=[torch.zeros(3, 32, 32)], data_samples=[sample])
    with pytest.raises(
        ValueError, match=r'x\.jpg: its semantic map has the label 140, but .* 0 to 132 and ignores 255'
    ):
        model.data_preprocessor(data, training=True)
    sample.gt_sem_seg.sem_seg = torch.full_like(labels, 255)
    sample.gt_instances.masks = BitmapMasks(np.zeros((1, 32, 32), np.uint8), 32, 32)
    model.data_preprocessor(data, training=True)
