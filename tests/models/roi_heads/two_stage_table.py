"""Small two-stage detectors, by name."""

import copy

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData, PixelData

from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks

NUM_CLASSES = 3
IMAGE = (96, 128)

L1 = dict(type='L1Loss', loss_weight=1.0)
CODER = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2])
RANDOM = dict(type='RandomSampler', num=32, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True)


def assigner(threshold, low_quality=False, kind='MaxIoUAssigner'):
    return dict(
        type=kind,
        pos_iou_thr=threshold,
        neg_iou_thr=threshold,
        min_pos_iou=threshold,
        match_low_quality=low_quality,
        ignore_iof_thr=-1,
    )


def rcnn(threshold=0.5, sampler=RANDOM, **more):
    return dict(assigner=assigner(threshold), sampler=sampler, mask_size=14, pos_weight=-1, debug=False, **more)


def pooling(size):
    return dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=size, sampling_ratio=0),
        out_channels=16,
        featmap_strides=[4, 8],
    )


def box_head(kind='Shared2FCBBoxHead', **more):
    return dict(
        type=kind,
        in_channels=16,
        fc_out_channels=16,
        roi_feat_size=7,
        num_classes=NUM_CLASSES,
        bbox_coder=CODER,
        **{'reg_class_agnostic': False, 'loss_bbox': L1, **more},
    )


MASK = dict(
    mask_roi_extractor=pooling(14 // 2),
    mask_head=dict(type='FCNMaskHead', num_convs=1, in_channels=16, conv_out_channels=16, num_classes=NUM_CLASSES),
)


def standard(kind='StandardRoIHead', head=None, extractor=None, **more):
    return dict(type=kind, bbox_roi_extractor=extractor or pooling(7), bbox_head=head or box_head(), **more)


def crowd(**more):
    head = dict(box_head('MultiInstanceBBoxHead', num_shared_fcs=1, conv_out_channels=16), num_classes=1)
    return standard('MultiInstanceRoIHead', head=dict(head, **more))


def cascade(**more):
    return dict(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_roi_extractor=pooling(7),
        bbox_head=[box_head(reg_class_agnostic=True) for _ in range(3)],
        **more,
    )


def htc(mask_info_flow=True, **more):
    head = dict(MASK['mask_head'], type='HTCMaskHead')
    heads = [dict(head, with_conv_res=stage > 0 and mask_info_flow) for stage in range(3)]
    extractor = MASK['mask_roi_extractor']
    more.update(mask_roi_extractor=extractor, mask_head=heads, mask_info_flow=mask_info_flow)
    return dict(cascade(**more), type='HybridTaskCascadeRoIHead')


def scnet(conv_to_res=True, **more):
    head = box_head('SCNetBBoxHead', num_shared_fcs=1, reg_class_agnostic=True)
    context = dict(num_convs=2, in_channels=16, conv_out_channels=16, conv_to_res=conv_to_res)
    return dict(
        cascade(
            mask_roi_extractor=MASK['mask_roi_extractor'],
            mask_head=dict(MASK['mask_head'], type='SCNetMaskHead', num_convs=2),
            feat_relay_head=dict(type='FeatureRelayHead', in_channels=16, out_conv_channels=16, scale_factor=1),
            glbctx_head=dict(type='GlobalContextHead', num_classes=NUM_CLASSES, **context),
            **more,
        ),
        type='SCNetRoIHead',
        bbox_head=[head] * 3,
    )


SEMANTIC = dict(
    semantic_roi_extractor=dict(pooling(14), featmap_strides=[8]),
    semantic_head=dict(
        type='FusedSemanticHead',
        num_ins=2,
        fusion_level=1,
        num_convs=1,
        in_channels=16,
        conv_out_channels=16,
        num_classes=5,
    ),
)

GRID = dict(
    grid_roi_extractor=pooling(6),
    grid_head=dict(
        type='GridHead',
        num_convs=2,
        roi_feat_size=6,
        in_channels=16,
        point_feat_channels=2,
        norm_cfg=dict(type='GN', num_groups=3),
    ),
)

BRANCHES = dict(num_branch=3, test_branch_idx=-1)
SETS = dict(
    rcnn(sampler=dict(RANDOM, type='MultiInsRandomSampler')), assigner=assigner(0.5, kind='MultiInstanceAssigner')
)
RESIDUAL = dict(SEMANTIC, semantic_head=dict(SEMANTIC['semantic_head'], type='SCNetSemanticHead', num_convs=2))
MASK_SCORE = dict(
    mask_roi_extractor=pooling(6),
    mask_head=MASK['mask_head'],
    mask_iou_head=dict(
        type='MaskIoUHead',
        num_convs=2,
        roi_feat_size=6,
        in_channels=16,
        conv_out_channels=8,
        fc_out_channels=8,
        num_classes=NUM_CLASSES,
    ),
)
POINT_REND = dict(
    mask_roi_extractor=dict(
        type='GenericRoIExtractor',
        aggregation='concat',
        roi_layer=dict(type='SimpleRoIAlign', output_size=6),
        out_channels=16,
        featmap_strides=[4],
    ),
    mask_head=dict(
        type='CoarseMaskHead',
        roi_feat_size=6,
        in_channels=16,
        conv_out_channels=16,
        fc_out_channels=8,
        num_classes=NUM_CLASSES,
    ),
    point_head=dict(type='MaskPointHead', num_fcs=2, in_channels=16, fc_channels=8, num_classes=NUM_CLASSES),
)
POINTS = dict(mask_size=3, num_points=10, oversample_ratio=3, importance_sample_ratio=0.75)
SUBDIVISION = dict(subdivision_steps=3, subdivision_num_points=40, scale_factor=2)


def sabl_head(scale=1.7, **more):
    return dict(
        type='SABLHead',
        num_classes=NUM_CLASSES,
        cls_in_channels=16,
        reg_in_channels=16,
        cls_out_channels=8,
        bbox_coder=dict(type='BucketingBBoxCoder', num_buckets=14, scale_factor=scale),
        **more,
    )


STAGES = [rcnn(0.5), rcnn(0.6), rcnn(0.7)]
BALANCED = dict(
    type='CombinedSampler',
    num=32,
    pos_fraction=0.25,
    add_gt_as_proposals=True,
    pos_sampler=dict(type='InstanceBalancedPosSampler'),
    neg_sampler=dict(type='IoUBalancedNegSampler', floor_thr=-1, floor_fraction=0, num_bins=3),
)
BY_RANK = dict(RANDOM, type='ScoreHLRSampler', k=0.5, bias=0.0, score_thr=0.28)  # of four classes, all alike at first
PRIME = dict(isr=dict(k=2, bias=0), carl=dict(k=1, bias=0.2))
DYNAMIC = dict(iou_topk=8, beta_topk=2, update_iter_interval=2, initial_iou=0.4, initial_beta=1.0)
GENERIC = dict(
    type='GenericRoIExtractor',
    aggregation='sum',
    roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
    out_channels=16,
    featmap_strides=[4, 8],
)

EVERY = dict(RANDOM, add_gt_as_proposals=False)
LOW_QUALITY = dict(assigner(0.7, True), neg_iou_thr=0.3, min_pos_iou=0.3)
RPN = dict(assigner=LOW_QUALITY, sampler=EVERY, allowed_border=0, pos_weight=-1)
ONE_SQUARE = dict(type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8])
STAGE = dict(type='StageCascadeRPNHead', in_channels=16, feat_channels=16, anchor_generator=ONE_SQUARE)
# name -> (rpn_head, train_cfg.rpn), where they are not those of Faster R-CNN
OTHER_RPN = {
    'Guided': (
        dict(
            type='GARPNHead',
            in_channels=16,
            feat_channels=16,
            approx_anchor_generator=dict(
                type='AnchorGenerator', octave_base_scale=8, scales_per_octave=3, ratios=[0.5, 1.0, 2.0], strides=[4, 8]
            ),
            square_anchor_generator=ONE_SQUARE,
        ),
        dict(
            RPN,
            ga_assigner=dict(LOW_QUALITY, type='ApproxMaxIoUAssigner'),
            ga_sampler=EVERY,
            center_ratio=0.2,
            ignore_ratio=0.5,
        ),
    ),
    'RPN in stages': (
        dict(
            type='CascadeRPNHead',
            num_stages=2,
            stages=[
                dict(
                    STAGE, with_cls=False, bridged_feature=True, reg_decoded_bbox=True, loss_bbox=dict(type='IoULoss')
                ),
                dict(STAGE, adapt_cfg=dict(type='offset')),
            ],
        ),
        [dict(RPN, assigner=dict(type='RegionAssigner'), sampler=None), RPN],
    ),
}

# name -> what the detector has besides
MORE = {
    'Panoptic FPN': dict(
        semantic_head=dict(
            type='PanopticFPNHead',
            num_things_classes=NUM_CLASSES,
            num_stuff_classes=2,
            in_channels=16,
            inner_channels=16,
            end_level=2,
            norm_cfg=dict(type='GN', num_groups=4),
            loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.5),
        ),
        panoptic_fusion_head=dict(type='HeuristicFusionHead', num_things_classes=NUM_CLASSES, num_stuff_classes=2),
    ),
}
MATCHED = dict(
    assigner=dict(
        type='HungarianAssigner',
        match_costs=[
            dict(type='FocalLossCost', weight=2.0),
            dict(type='BBoxL1Cost', weight=5.0, box_format='xyxy'),
            dict(type='IoUCost', iou_mode='giou', weight=2.0),
        ],
    ),
    sampler=dict(type='PseudoSampler'),
    pos_weight=1,
    mask_size=14,
)
MATCHING = ('Sparse', 'QueryInst')
"""Those whose proposals are queries: matched one-to-one, and not suppressed."""
LEARNED = dict(type='EmbeddingRPNHead', num_proposals=6, proposal_feature_channel=16)
OTHER_RPN.update(dict.fromkeys(MATCHING, (LEARNED, None)))


def dynamic(size, **more):
    return dict(type='DynamicConv', in_channels=16, feat_channels=4, input_feat_shape=size, **more)


def sparse(**more):
    return dict(
        type='SparseRoIHead',
        num_stages=2,
        stage_loss_weights=[1, 0.5],
        bbox_roi_extractor=pooling(7),
        bbox_head=dict(
            type='DIIHead',
            num_classes=NUM_CLASSES,
            num_heads=2,
            feedforward_channels=8,
            in_channels=16,
            dynamic_conv_cfg=dynamic(7),
            loss_cls=dict(type='FocalLoss', loss_weight=2.0),
            loss_bbox=L1,
            bbox_coder=dict(CODER, target_stds=[0.5, 0.5, 1.0, 1.0], clip_border=False),
        ),
        **more,
    )


DICE = dict(type='DiceLoss', loss_weight=8.0, activate=False, eps=1e-5)
DYNAMIC_MASK = dict(
    MASK['mask_head'],
    type='DynamicMaskHead',
    norm_cfg=dict(type='BN'),
    dynamic_conv_cfg=dynamic(7, with_proj=False),
    loss_mask=DICE,
)

# name -> (detector, roi head, train_cfg.rcnn)
TABLE = {
    'Guided': ('FasterRCNN', standard(), rcnn()),
    'RPN in stages': ('FasterRCNN', standard(), rcnn()),
    'Faster': ('FasterRCNN', standard(), rcnn()),
    'Faster agnostic': ('FasterRCNN', standard(head=box_head(reg_class_agnostic=True)), rcnn()),
    'Faster decoded': (
        'FasterRCNN',
        standard(head=box_head(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss'))),
        rcnn(),
    ),
    'Faster generic': ('FasterRCNN', standard(extractor=GENERIC), rcnn()),
    'Faster OHEM': ('FasterRCNN', standard(), rcnn(sampler=dict(RANDOM, type='OHEMSampler'))),
    'Libra': ('FasterRCNN', standard(head=box_head(loss_bbox=dict(type='BalancedL1Loss'))), rcnn(sampler=BALANCED)),
    'Dynamic': (
        'FasterRCNN',
        standard('DynamicRoIHead', head=box_head(loss_bbox=dict(type='SmoothL1Loss'))),
        rcnn(dynamic_rcnn=DYNAMIC),
    ),
    'PISA': ('FasterRCNN', standard('PISARoIHead'), rcnn(sampler=BY_RANK, **PRIME)),
    'PISA without CARL': ('FasterRCNN', standard('PISARoIHead'), rcnn(isr=PRIME['isr'])),
    'PISA Mask': ('MaskRCNN', standard('PISARoIHead', **MASK), rcnn(sampler=BY_RANK, **PRIME)),
    'Double': (
        'FasterRCNN',
        standard(
            'DoubleHeadRoIHead',
            head=box_head('DoubleConvFCBBoxHead', num_convs=1, num_fcs=1, conv_out_channels=16),
            reg_roi_scale_factor=1.3,
        ),
        rcnn(),
    ),
    'Grid': (
        'GridRCNN',
        standard('GridRoIHead', head=box_head(with_reg=False), **GRID),
        rcnn(pos_radius=1, max_num_grid=12),
    ),
    'Crowd': ('CrowdDet', crowd(num_shared_fcs=0, num_cls_convs=1, num_reg_fcs=1), SETS),
    'Crowd refined': ('CrowdDet', crowd(with_refine=True), SETS),
    'Trident': ('TridentFasterRCNN', standard('TridentRoIHead', **BRANCHES), rcnn()),
    'Mask': ('MaskRCNN', standard(**MASK), rcnn()),
    'Mask shared': (
        'MaskRCNN',
        standard(mask_head=dict(MASK['mask_head'], class_agnostic=True)),
        rcnn(),
    ),
    'Panoptic FPN': ('PanopticFPN', standard(**MASK), rcnn()),
    'Mask score': (
        'MaskScoringRCNN',
        standard('MaskScoringRoIHead', **MASK_SCORE),
        dict(rcnn(mask_thr_binary=0.5), mask_size=12),
    ),
    'Mask points': ('PointRend', standard('PointRendRoIHead', **POINT_REND), dict(rcnn(), **POINTS)),
    'SABL': ('FasterRCNN', standard(head=sabl_head(num_reg_fcs=1)), rcnn()),
    'SABL Cascade': (
        'CascadeRCNN',
        dict(cascade(), bbox_head=[sabl_head(1.7), sabl_head(1.5), sabl_head(1.3)]),
        STAGES,
    ),
    'Cascade': ('CascadeRCNN', cascade(), STAGES),
    'Cascade Mask': ('CascadeRCNN', cascade(**MASK), STAGES),
    'HTC': ('HybridTaskCascade', htc(**SEMANTIC), STAGES),
    'SCNet': ('SCNet', scnet(**RESIDUAL), STAGES),
    'HTC without semantic': ('HybridTaskCascade', htc(interleaved=False), STAGES),
    'HTC without flow': ('HybridTaskCascade', htc(mask_info_flow=False, semantic_fusion=('mask',), **SEMANTIC), STAGES),
    'Sparse': ('SparseRCNN', sparse(), [MATCHED] * 2),
    'QueryInst': (
        'QueryInst',
        sparse(mask_roi_extractor=MASK['mask_roi_extractor'], mask_head=DYNAMIC_MASK),
        [MATCHED] * 2,
    ),
}


def config_of(name):
    kind, roi_head, train = TABLE[name]
    proposal = dict(nms_pre=50, max_per_img=20, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
    config = dict(
        type=kind,
        data_preprocessor=dict(type='DetDataPreprocessor'),
        backbone=dict(type='ResNet', depth=18, base_channels=8, num_stages=2, out_indices=(0, 1), strides=(1, 2),
                      dilations=(1, 1), init_cfg=None),
        neck=dict(type='FPN', in_channels=[8, 16], out_channels=16, num_outs=2),
        rpn_head=dict(
            type='RPNHead',
            in_channels=16,
            feat_channels=16,
            anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8]),
            bbox_coder=dict(CODER, target_stds=[1.0] * 4),
            loss_bbox=L1,
        ),
        roi_head=roi_head,
        train_cfg=dict(
            rpn=RPN,
            rpn_proposal=proposal,
            rcnn=train,
        ),
        test_cfg=dict(
            rpn=proposal,
            rcnn=dict(score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10, mask_thr_binary=0.5),
            panoptic=dict(mask_overlap=0.5, stuff_area_limit=64),
        ),
        **MORE.get(name, {}),
    )  # fmt: skip
    if name == 'Trident':
        config['backbone'].update(
            type='TridentResNet',
            depth=50,
            base_channels=4,
            num_stages=3,
            out_indices=(2,),
            strides=(1, 1, 1),
            dilations=(1, 1, 1),
            trident_dilations=(1, 2, 3),
            **BRANCHES,
        )
        config['neck']['in_channels'] = [64]
    config['test_cfg']['rcnn'].update(SUBDIVISION if name == 'Mask points' else {})
    if name in OTHER_RPN:
        config['rpn_head'], config['train_cfg']['rpn'] = OTHER_RPN[name]
    return ConfigDict(copy.deepcopy(config))


def build(name):
    torch.manual_seed(0)
    model = MODELS.build(config_of(name))
    if name in MATCHING:
        model.rpn_head.init_weights()  # whole images, not boxes with negative sides
    return model


def sample(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 50
    boxes = torch.cat([corner, corner + 16 + torch.rand(count, 2, generator=generator) * 30], 1)
    masks = np.zeros((count, *IMAGE), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
        mask[y1:y2, x1:x2] = 1
    out = DetDataSample(
        metainfo=dict(
            img_shape=IMAGE,
            pad_shape=IMAGE,
            batch_input_shape=IMAGE,
            ori_shape=IMAGE,
            scale_factor=(1.0, 1.0),
            img_path='x.jpg',
        )
    )
    out.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.randint(0, NUM_CLASSES, (count,), generator=generator),
        masks=BitmapMasks(masks, *IMAGE),
    )
    out.gt_sem_seg = PixelData(sem_seg=torch.randint(0, 5, (1, *IMAGE), generator=generator))
    return out


def predicted(result):
    """What a detector has put into a sample."""
    return result.pred_panoptic_seg if 'pred_panoptic_seg' in result else result.pred_instances


def images(count=2, seed=0):
    return torch.randn(count, 3, *IMAGE, generator=torch.Generator().manual_seed(seed))


def total(losses):
    flat = {key: sum(value) if isinstance(value, list) else value for key, value in losses.items()}
    return flat, sum(value.sum() for key, value in flat.items() if 'loss' in key)
