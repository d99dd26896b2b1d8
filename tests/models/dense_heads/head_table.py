"""Small configurations of every dense head, by registered name or by name and variant."""

import copy

import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

STRIDES = [8, 16]
IMAGE = (64, 64)
NUM_CLASSES = 4

MAX_IOU = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1)
ATSS = dict(type='ATSSAssigner', topk=4)
GN = dict(type='GN', num_groups=2, requires_grad=True)
FOCAL = dict(type='FocalLoss', use_sigmoid=True)
GHMC = dict(type='GHMC', bins=30, momentum=0, use_sigmoid=True, loss_weight=1.0)
RANGES = ((-1, 24), (24, 1e8))
TOWER = dict(num_classes=NUM_CLASSES, in_channels=8, feat_channels=8, stacked_convs=1)
THREE_ANCHORS = dict(type='AnchorGenerator', scales=[4], ratios=[0.5, 1.0, 2.0], strides=STRIDES)
ONE_ANCHOR = dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=STRIDES)
STDS = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2])


QUALITY = dict(type='QualityFocalLoss', use_sigmoid=True)
POINTS = dict(type='MlvlPointGenerator', offset=0, strides=STRIDES)


def anchors(assigner, **head):
    return dict(anchor_generator=THREE_ANCHORS, train_cfg=dict(assigner=assigner, pos_weight=-1), **head)


def atss(assigner=ATSS, **head):
    given = dict(anchor_generator=ONE_ANCHOR, norm_cfg=GN, bbox_coder=STDS, loss_cls=FOCAL)
    given.update(loss_bbox=dict(type='GIoULoss'), train_cfg=dict(assigner=assigner))
    return {**TOWER, 'type': 'ATSSHead', **given, **head}


def rtmdet(**head):
    given = dict(anchor_generator=POINTS, bbox_coder=dict(type='DistancePointBBoxCoder'), loss_cls=QUALITY)
    return atss(dict(type='DynamicSoftLabelAssigner', topk=5), **{**given, 'norm_cfg': dict(type='BN'), **head})


def tood(initial_epoch, **head):
    activated = dict(
        initial_loss_cls=dict(FOCAL, activated=True), loss_cls=dict(QUALITY, activated=True), type='TOODHead'
    )
    cfg = dict(assigner=dict(type='TaskAlignedAssigner', topk=4), initial_assigner=ATSS, alpha=1, beta=6)
    return atss(**activated, stacked_convs=2, train_cfg=dict(cfg, initial_epoch=initial_epoch), **head)


def ssd(kind, **train):
    return dict(
        type=kind,
        num_classes=NUM_CLASSES,
        in_channels=(8, 8),
        anchor_generator=dict(
            type='SSDAnchorGenerator', strides=STRIDES, ratios=([2], [2]), min_sizes=[16, 32], max_sizes=[32, 64]
        ),
        train_cfg=dict(
            assigner=dict(MAX_IOU, neg_iou_thr=0.5, gt_max_assign_all=False),
            sampler=dict(type='PseudoSampler'),
            smoothl1_beta=1.0,
            allowed_border=-1,
            pos_weight=-1,
            neg_pos_ratio=3,
            **train,
        ),
    )


def vfnet(**head):
    given = dict(
        strides=STRIDES, norm_cfg=GN, regress_ranges=RANGES, anchor_generator=dict(ONE_ANCHOR, center_offset=0.0)
    )
    return {**TOWER, 'type': 'VFNetHead', **given, 'train_cfg': dict(assigner=ATSS), **head}


def fovea(**head):
    given = dict(strides=STRIDES, base_edge_list=(16, 32), scale_ranges=((1, 40), (20, 100)))
    losses = dict(loss_cls=FOCAL, loss_bbox=dict(type='SmoothL1Loss', beta=0.11))
    return {**TOWER, 'type': 'FoveaHead', **given, **losses, **head}


def guided(name, **head):
    """A head of guided anchors of one octave and three ratios."""
    octave = dict(
        type='AnchorGenerator', octave_base_scale=4, scales_per_octave=2, ratios=[0.5, 1.0, 2.0], strides=STRIDES
    )
    assigner = dict(MAX_IOU, type='ApproxMaxIoUAssigner')
    every = dict(type='RandomSampler', num=10**6, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False)
    cfg = dict(assigner=MAX_IOU, ga_assigner=assigner, ga_sampler=every, center_ratio=0.2, ignore_ratio=0.5)
    given = dict(approx_anchor_generator=octave, square_anchor_generator=ONE_ANCHOR, in_channels=8, feat_channels=8)
    return dict(type=name, **given, train_cfg=dict(cfg, allowed_border=-1, pos_weight=-1), **head)


HEADS = {
    'AnchorHead': anchors(MAX_IOU, type='AnchorHead', num_classes=NUM_CLASSES, in_channels=8),
    'RetinaHead': anchors(MAX_IOU, type='RetinaHead', loss_cls=FOCAL, **TOWER),
    'RetinaHead softmax': anchors(
        dict(MAX_IOU, neg_iou_thr=[0.1, 0.4]), type='RetinaHead', loss_cls=dict(type='CrossEntropyLoss'), **TOWER
    ),
    'RetinaHead decoded': anchors(
        MAX_IOU, type='RetinaHead', loss_cls=FOCAL, loss_bbox=dict(type='GIoULoss'), reg_decoded_bbox=True, **TOWER
    ),
    'RetinaHead GHM': anchors(
        MAX_IOU,
        type='RetinaHead',
        loss_cls=GHMC,
        loss_bbox=dict(type='GHMR', mu=0.02, bins=10, momentum=0, loss_weight=10.0),
        **TOWER,
    ),
    'RetinaHead balanced': anchors(
        MAX_IOU, type='RetinaHead', loss_cls=FOCAL, loss_bbox=dict(type='BalancedL1Loss', beta=0.11), **TOWER
    ),
    'RetinaSepBNHead': anchors(
        MAX_IOU, type='RetinaSepBNHead', num_ins=2, norm_cfg=dict(type='BN'), loss_cls=FOCAL, **TOWER
    ),
    'RPNHead': dict(
        type='RPNHead',
        in_channels=8,
        feat_channels=8,
        anchor_generator=THREE_ANCHORS,
        train_cfg=dict(
            assigner=MAX_IOU,
            sampler=dict(type='RandomSampler', num=10**6, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
        ),
    ),
    'GuidedAnchorHead': guided('GuidedAnchorHead', num_classes=NUM_CLASSES),
    'GuidedAnchorHead softmax': guided(
        'GuidedAnchorHead', num_classes=NUM_CLASSES, loss_cls=dict(type='CrossEntropyLoss')
    ),
    'GARetinaHead': guided(
        'GARetinaHead', num_classes=NUM_CLASSES, stacked_convs=1, loss_cls=FOCAL, reg_decoded_bbox=True
    ),
    'GARPNHead': guided('GARPNHead'),
    'FCOSHead': dict(TOWER, type='FCOSHead', strides=STRIDES, norm_cfg=GN, regress_ranges=((-1, 24), (24, 1e8))),
    'FCOSHead center': dict(
        TOWER,
        type='FCOSHead',
        strides=STRIDES,
        norm_cfg=GN,
        regress_ranges=((-1, 24), (24, 1e8)),
        center_sampling=True,
        norm_on_bbox=True,
        centerness_on_reg=True,
        dcn_on_last_conv=True,
        loss_bbox=dict(type='GIoULoss'),
    ),
    'FCOSHead GHM': dict(TOWER, type='FCOSHead', strides=STRIDES, norm_cfg=GN, regress_ranges=RANGES, loss_cls=GHMC),
    'ATSSHead': atss(),
    'ATSSHead GHM': atss(loss_cls=GHMC),
    'ATSSHead several anchors': atss(anchor_generator=THREE_ANCHORS),
    'ATSSHead point': atss(
        bbox_coder=dict(type='AnchorPointBBoxCoder', scale=4),
        init_cfg=dict(
            type='Normal', layer='Conv2d', std=0.01, override=dict(type='Normal', name='atss_reg', std=0.01, bias=2.0)
        ),
    ),
    'ATSSHead space and scale': atss(dict(type='SpaceScaleAssigner', regress_ranges=((-1, 24), (24, 1e8)))),
    'ATSSHead overlap': atss(MAX_IOU),
    'ATSSHead nearest': atss(dict(type='TopkAssigner', topk=4)),
    'ATSSHead deformable': atss(dcn_on_last_conv=True),
    'GFLHead': atss(
        type='GFLHead',
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        reg_max=8,
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True),
    ),
    'PAAHead': atss(dict(MAX_IOU, pos_iou_thr=0.1, neg_iou_thr=0.1), type='PAAHead', reg_decoded_bbox=True),
    'AutoAssignHead': dict(
        TOWER, type='AutoAssignHead', strides=STRIDES, norm_cfg=GN, loss_bbox=dict(type='GIoULoss', loss_weight=5.0)
    ),
    'AutoAssignHead forced': dict(
        TOWER, type='AutoAssignHead', strides=STRIDES, norm_cfg=GN, loss_bbox=dict(type='GIoULoss'), force_topk=True
    ),
    'FSAFHead': dict(
        TOWER,
        type='FSAFHead',
        anchor_generator=dict(ONE_ANCHOR, scales=[1]),
        bbox_coder=dict(type='TBLRBBoxCoder', normalizer=4.0),
        loss_cls=dict(FOCAL, reduction='none'),
        loss_bbox=dict(type='IoULoss', reduction='none'),
        reg_decoded_bbox=True,
        train_cfg=dict(
            assigner=dict(type='CenterRegionAssigner', pos_scale=0.2, neg_scale=0.2, min_pos_iof=0.01),
            sampler=dict(type='PseudoSampler'),
        ),
    ),
    'RTMDetHead': rtmdet(type='RTMDetHead'),
    'RTMDetSepBNHead': rtmdet(type='RTMDetSepBNHead', with_objectness=False, exp_on_reg=True),
    'RTMDetSepBNHead depthwise': rtmdet(type='RTMDetSepBNHead', use_depthwise=True, exp_on_reg=True),
    'TOODHead': tood(0),
    'TOODHead initial': tood(4),
    'TOODHead anchors': tood(0, anchor_type='anchor_based', num_dcn=1, feat_channels=8),
    'YOLOXHead': dict(
        TOWER,
        type='YOLOXHead',
        strides=STRIDES,
        train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    ),
    'VFNetHead': vfnet(),
    'VFNetHead points': vfnet(use_atss=False, use_vfl=False, bbox_norm_type='stride', dcn_on_last_conv=True),
    'DDODHead': {
        **TOWER,
        'type': 'DDODHead',
        'anchor_generator': ONE_ANCHOR,
        'norm_cfg': GN,
        'bbox_coder': STDS,
        'loss_cls': FOCAL,
        'loss_bbox': dict(type='GIoULoss'),
        'train_cfg': dict(assigner=dict(ATSS, alpha=0.8), reg_assigner=dict(ATSS, alpha=0.5)),
    },
    'FoveaHead': fovea(),
    'FoveaHead align': fovea(with_deform=True, deform_groups=2, norm_cfg=GN),
    'CenterNetUpdateHead': dict(
        TOWER, type='CenterNetUpdateHead', strides=STRIDES, norm_cfg=GN, regress_ranges=((0, 18), (12, 1e8))
    ),
    'CenterNetUpdateHead soft': dict(
        TOWER,
        type='CenterNetUpdateHead',
        strides=STRIDES,
        norm_cfg=GN,
        regress_ranges=((0, 18), (12, 1e8)),
        more_pos_thresh=0.9,
        more_pos_topk=30,
        soft_weight_on_reg=True,
    ),
    'NASFCOSHead': dict(
        TOWER, type='NASFCOSHead', strides=STRIDES, norm_cfg=GN, regress_ranges=RANGES, loss_bbox=dict(type='IoULoss')
    ),
    'FreeAnchorRetinaHead': dict(
        TOWER,
        type='FreeAnchorRetinaHead',
        anchor_generator=THREE_ANCHORS,
        bbox_coder=STDS,
        loss_bbox=dict(type='SmoothL1Loss', beta=0.11, loss_weight=0.75),
        pre_anchor_topk=12,
        train_cfg=dict(assigner=MAX_IOU),
    ),
    'YOLOFHead': dict(
        type='YOLOFHead',
        num_classes=NUM_CLASSES,
        in_channels=8,
        num_cls_convs=1,
        num_reg_convs=1,
        reg_decoded_bbox=True,
        anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], scales=[1, 2, 4], strides=[8]),
        bbox_coder=dict(STDS, target_stds=[1.0] * 4, add_ctr_clamp=True, ctr_clamp=32),
        loss_cls=FOCAL,
        loss_bbox=dict(type='GIoULoss'),
        train_cfg=dict(assigner=dict(type='UniformAssigner', pos_ignore_thr=0.15, neg_ignore_thr=0.7)),
    ),
    'YOLOV3Head': dict(
        type='YOLOV3Head',
        num_classes=NUM_CLASSES,
        in_channels=[8, 8],
        out_channels=[8, 8],
        featmap_strides=STRIDES,
        one_hot_smoother=0.1,
        anchor_generator=dict(
            type='YOLOAnchorGenerator', base_sizes=[[(20, 24), (30, 20)], [(40, 44), (50, 30)]], strides=STRIDES
        ),
        train_cfg=dict(assigner=dict(type='GridAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0)),
    ),
    'SSDHead': ssd('SSDHead'),
    'PISASSDHead': ssd('PISASSDHead', isr=dict(k=2.0, bias=0.0), carl=dict(k=1.0, bias=0.2)),
    'PISARetinaHead': dict(
        TOWER,
        type='PISARetinaHead',
        anchor_generator=THREE_ANCHORS,
        bbox_coder=STDS,
        loss_cls=FOCAL,
        loss_bbox=dict(type='SmoothL1Loss', beta=0.11),
        train_cfg=dict(assigner=MAX_IOU, isr=dict(k=2.0, bias=0.0), carl=dict(k=1.0, bias=0.2)),
    ),
    'SABLRetinaHead': dict(
        TOWER,
        type='SABLRetinaHead',
        approx_anchor_generator=dict(THREE_ANCHORS),
        square_anchor_generator=ONE_ANCHOR,
        bbox_coder=dict(type='BucketingBBoxCoder', num_buckets=6, scale_factor=3.0),
        train_cfg=dict(assigner=dict(MAX_IOU, type='ApproxMaxIoUAssigner'), allowed_border=-1, pos_weight=-1),
    ),
    'RepPointsHead': dict(
        TOWER,
        type='RepPointsHead',
        point_feat_channels=8,
        point_strides=STRIDES,
        norm_cfg=GN,
        train_cfg=dict(
            init=dict(assigner=dict(type='PointAssigner', scale=4, pos_num=1), pos_weight=-1),
            refine=dict(assigner=MAX_IOU, pos_weight=-1),
        ),
    ),
    'RetinaFaceHead': anchors(
        dict(MAX_IOU, pos_iou_thr=0.35, neg_iou_thr=0.3), type='RetinaFaceHead', num_classes=1, in_channels=8
    ),
}
TEST_CFG = dict(nms_pre=20, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.6), max_per_img=10)

# Heads whose loss must look at the data: what draws, fits or ranks on the host.
LOOKS_AT_DATA = {'PAAHead'}

# Heads whose boxes may reach out of the picture, as in MMDetection.
UNCLIPPED = {'TOODHead', 'YOLOXHead', 'YOLOV3Head'}

BOXES = {
    'many': ([[4.0, 6, 30, 34], [20, 10, 60, 58], [1, 1, 13, 12], [22, 12, 58, 60]], [1, 3, 0, 3]),
    'one': ([[10.0, 12, 44, 40]], [2]),
    'empty': ([], []),
}


def build_head(name, init=True, **changes):
    """A head with the initialisation of training, or else with PyTorch's own, whose scores are near 0.5."""
    torch.manual_seed(0)
    cfg = ConfigDict(copy.deepcopy({**HEADS[name], 'test_cfg': TEST_CFG, **changes}))
    head = MODELS.build(cfg)
    if init:
        head.init_weights()
    if len(head.prior_generator.strides) == 1:  # sees the first level alone
        head.register_forward_pre_hook(lambda module, inputs: (inputs[0][:1],))
    return head


def features(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = [(IMAGE[0] // s, IMAGE[1] // s) for s in STRIDES]
    return tuple(torch.randn(batch, 8, *size, generator=generator) for size in sizes)


def samples(*kinds):
    out = []
    for kind in kinds:
        boxes, labels = BOXES[kind]
        shape = IMAGE if kind != 'one' else (IMAGE[0], IMAGE[1] - 16)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=shape, pad_shape=IMAGE, batch_input_shape=IMAGE, ori_shape=shape, scale_factor=(1.0, 1.0)
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.tensor(labels, dtype=torch.long)
        )
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        out.append(sample)
    return out


def for_head(name, data_samples):
    """Ground truths as a head wants them: of one class for proposals and faces, with landmarks for these."""
    for gt in (sample.gt_instances for sample in data_samples):
        if HEADS[name]['type'] in ('RPNHead', 'GARPNHead', 'RetinaFaceHead'):
            gt.labels = torch.zeros_like(gt.labels)
        if HEADS[name]['type'] == 'RetinaFaceHead':
            gt.keypoints = gt.bboxes[:, None, :2] + torch.tensor([2.0, 3.0]) * torch.arange(1, 6)[:, None]
            gt.keypoints_visible = torch.ones(len(gt.bboxes), 5)
    return data_samples


def totals(losses):
    """Each value by name; lists are summed as training does."""
    return {
        key: sum(v.mean() for v in value) if isinstance(value, (list, tuple)) else value.float().mean()
        for key, value in losses.items()
    }


def move(value):
    """Levels, or tuples of several for each level."""
    return value.to('cuda') if isinstance(value, torch.Tensor) else [move(item) for item in value]


def on_gpu(head, outs, data_samples):
    """All of it as fake tensors of a GPU that need not exist."""
    for module in head.modules():
        for tensors, kind in ((module._parameters, torch.nn.Parameter), (module._buffers, torch.Tensor.detach)):
            tensors.update({key: kind(x.detach().to('cuda')) for key, x in tensors.items() if x is not None})
    return move(outs), [sample.to('cuda') for sample in data_samples]
