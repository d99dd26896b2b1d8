"""Small configurations of every mask head without regions, with the box head before it if there is one."""

import copy

import numpy as np
import torch
from head_table import (
    FOCAL,
    GN,
    IMAGE,
    MAX_IOU,
    NUM_CLASSES,
    POINTS,
    STDS,
    TEST_CFG,
    THREE_ANCHORS,
    anchors,
    rtmdet,
    samples,
)
from mmengine.config import ConfigDict

from mmdet.models.detectors import SingleStageDetector, SingleStageInstanceSegmentor
from mmdet.structures.mask import BitmapMasks

TOWER = dict(num_classes=NUM_CLASSES, in_channels=8, feat_channels=8, stacked_convs=2)
DICE = dict(type='DiceLoss', use_sigmoid=True, loss_weight=3.0)
MATRIX_NMS = dict(nms_pre=50, score_thr=0.0, mask_thr=0.5, filter_thr=0.0, kernel='gaussian', sigma=2.0, max_per_img=10)
MASK_FEATURES = dict(feat_channels=4, start_level=0, end_level=2, out_channels=8, mask_stride=4, norm_cfg=GN)


def solo(kind='SOLOHead', **head):
    given = dict(
        strides=[8, 8, 8],
        num_grids=[6, 5, 4],
        scale_ranges=((1, 24), (12, 48), (24, 2048)),
        norm_cfg=GN,
        loss_mask=DICE if kind in ('SOLOHead', 'SOLOV2Head') else dict(DICE, activate=False),
        loss_cls=FOCAL,
    )
    # Products of two untrained probabilities are about a quarter.
    test_cfg = dict(MATRIX_NMS, mask_thr=0.2) if 'Decoupled' in kind else MATRIX_NMS
    return dict(mask_head={**TOWER, 'type': kind, **given, **head}, test_cfg=test_cfg, strides=[4, 8, 16])


def condinst(bbox_head='CondInstBboxHead', mask_head='CondInstMaskHead', features=8, num_params=169, **mask):
    boxes = dict(
        TOWER,
        type=bbox_head,
        num_params=num_params,
        strides=[8, 16, 32],
        regress_ranges=((-1, 24), (24, 48), (48, 1e8)),
        norm_cfg=GN,
        center_sampling=True,
        norm_on_bbox=True,
        centerness_on_reg=True,
        loss_cls=FOCAL,
        loss_bbox=dict(type='GIoULoss'),
    )
    maps = dict(MASK_FEATURES, in_channels=8, out_channels=features, mask_stride=8, num_stacked_convs=1)
    given = dict(type=mask_head, mask_feature_head=maps, loss_mask=dict(DICE, eps=5e-6), feat_channels=features)
    return dict(
        bbox_head=boxes, mask_head={**given, **mask}, test_cfg=dict(TEST_CFG, mask_thr=0.5), strides=[8, 16, 32]
    )


def yolact(boxes=None, **masks):
    head = anchors(
        dict(MAX_IOU, gt_max_assign_all=False),
        type='YOLACTHead',
        num_classes=NUM_CLASSES,
        in_channels=8,
        feat_channels=8,
        num_protos=4,
        bbox_coder=STDS,
    )
    head.update(boxes or {}, anchor_generator=dict(THREE_ANCHORS, strides=[8, 16, 32]))
    given = dict(type='YOLACTProtonet', num_classes=NUM_CLASSES, in_channels=8, num_protos=4, loss_mask_weight=6.125)
    layers = dict(proto_channels=(8, None, 4), proto_kernel_sizes=(3, -2, 1), max_masks_to_train=100)
    cfg = dict(nms_pre=20, score_thr=0.0, iou_thr=0.5, top_k=20, max_per_img=10, mask_thr=0.5, mask_thr_binary=0.5)
    return dict(
        bbox_head=head,
        mask_head=dict(given, **layers, **masks),
        train_cfg=dict(head.pop('train_cfg'), sampler=dict(type='PseudoSampler'), neg_pos_ratio=3, allowed_border=-1),
        test_cfg=cfg,
        strides=[8, 16, 32],
    )


def rtmdet_ins(kind, **head):
    head = rtmdet(type=kind, stacked_convs=1, loss_mask=dict(DICE, eps=5e-6), **head)
    head['anchor_generator'] = dict(POINTS, strides=[8, 16, 32])
    return dict(
        bbox_head=head,
        train_cfg=head.pop('train_cfg'),
        test_cfg=dict(TEST_CFG, mask_thr_binary=0.5),
        strides=[8, 16, 32],
    )


MASK_HEADS = {
    'SOLOHead': solo(),
    'DecoupledSOLOHead': solo('DecoupledSOLOHead'),
    'DecoupledSOLOLightHead': solo('DecoupledSOLOLightHead', dcn_cfg=dict(type='DCNv2')),
    'SOLOV2Head': solo('SOLOV2Head', mask_feature_head=MASK_FEATURES),
    'SOLOV2Head deformable': solo(
        'SOLOV2Head',
        mask_feature_head=dict(MASK_FEATURES, out_channels=4),
        dynamic_conv_size=3,
        dcn_cfg=dict(type='DCNv2'),
    ),
    'CondInst': condinst(max_masks_to_train=300),
    'BoxInst': condinst('BoxInstBboxHead', 'BoxInstMaskHead', topk_masks_per_img=64),
    'YOLACT': yolact(),
    'YOLACT without hard negatives': yolact(
        dict(use_ohem=False, loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False)), with_seg_branch=False
    ),
    'RTMDetInsHead': rtmdet_ins('RTMDetInsHead', with_objectness=True),
    'RTMDetInsSepBNHead': rtmdet_ins('RTMDetInsSepBNHead'),
    'CondInst best': condinst(topk_masks_per_img=3, mask_out_stride=8),
}
MASK_KINDS = {row[key]['type'] for row in MASK_HEADS.values() for key in ('bbox_head', 'mask_head') if key in row}


class GivenFeatures:
    """Of detectors that are given their features."""

    def _build_features(self, backbone, neck):
        pass

    def extract_feat(self, batch_inputs):
        return batch_inputs


class Heads(GivenFeatures, SingleStageInstanceSegmentor):
    """A box head, maybe, and a mask head."""


class OneHead(GivenFeatures, SingleStageDetector):
    """A box head that predicts masks."""

    mask_head = None


def build_heads(name, init=True, **changes):
    """With the initialisation of training, or else with PyTorch's own, whose scores are near 0.5."""
    torch.manual_seed(0)
    config = copy.deepcopy({key: value for key, value in MASK_HEADS[name].items() if key != 'strides'})
    for key, value in changes.items():
        config[key] = {**config[key], **value}
    heads = (Heads if 'mask_head' in config else OneHead)(backbone=None, **ConfigDict(config))
    if init:
        heads.init_weights()
    return heads


def maps(name, batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = [(IMAGE[0] // s, IMAGE[1] // s) for s in MASK_HEADS[name]['strides']]
    return tuple(torch.randn(batch, 8, *size, generator=generator) for size in sizes)


def masked_samples(*kinds):
    """Samples with elliptic masks in their boxes."""
    found = samples(*kinds)
    y, x = np.mgrid[: IMAGE[0], : IMAGE[1]] + 0.5
    for gt in (sample.gt_instances for sample in found):
        bitmaps = [
            ((x - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1)) ** 2 <= 0.25
            for x1, y1, x2, y2 in gt.bboxes.tolist()
        ]
        # What BoxInst learns from: each pixel is like its neighbours to one side.
        sides = torch.arange(8).view(8, 1, 1) < 4
        gt.pairwise_masks = sides.float().expand(len(gt.bboxes), 8, IMAGE[0] // 4, IMAGE[1] // 4)
        gt.masks = BitmapMasks(np.array(bitmaps, np.uint8).reshape(-1, *IMAGE), *IMAGE)
    return found
