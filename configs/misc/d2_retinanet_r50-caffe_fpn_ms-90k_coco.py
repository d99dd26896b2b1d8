_base_ = '../common/ms-90k_coco.py'

model = dict(
    type='Detectron2Wrapper',
    bgr_to_rgb=False,
    detector=dict(
        meta_architecture='RetinaNet',
        weights='detectron2://ImageNetPretrained/MSRA/R-50.pkl',
        mask_on=False,
        # caffe weights expect BGR, centred and not scaled
        pixel_mean=[103.53, 116.28, 123.675],
        pixel_std=[1.0, 1.0, 1.0],
        backbone=dict(name='build_retinanet_resnet_fpn_backbone', freeze_at=2),
        resnets=dict(depth=50, out_features=['res3', 'res4', 'res5'], num_groups=1, norm='FrozenBN'),
        fpn=dict(in_features=['res3', 'res4', 'res5'], out_channels=256),
        anchor_generator=dict(
            name='DefaultAnchorGenerator',
            sizes=[
                [32, 40.31747359663594, 50.79683366298238],
                [64, 80.63494719327188, 101.59366732596476],
                [128, 161.26989438654377, 203.18733465192952],
                [256, 322.53978877308754, 406.37466930385904],
                [512, 645.0795775461751, 812.7493386077181],
            ],
            aspect_ratios=[[0.5, 1.0, 2.0]],
            angles=[[-90, 0, 90]],
        ),
        retinanet=dict(
            num_classes=80,
            in_features=['p3', 'p4', 'p5', 'p6', 'p7'],
            num_convs=4,
            iou_thresholds=[0.4, 0.5],
            iou_labels=[0, -1, 1],
            bbox_reg_weights=(1.0, 1.0, 1.0, 1.0),
            bbox_reg_loss_type='smooth_l1',
            smooth_l1_loss_beta=0.0,
            focal_loss_gamma=2.0,
            focal_loss_alpha=0.25,
            prior_prob=0.01,
            score_thresh_test=0.05,
            topk_candidates_test=1000,
            nms_thresh_test=0.5,
        ),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=0.01))
