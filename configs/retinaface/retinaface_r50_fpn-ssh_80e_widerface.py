_base_ = ['../_base_/datasets/wider_face_landmarks.py', '../_base_/default_runtime.py']

model = dict(
    type='RetinaFace',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=64,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=[
        dict(
            type='FPN',
            in_channels=[256, 512, 1024, 2048],
            out_channels=256,
            add_extra_convs='on_input',
            num_outs=5,
        ),
        dict(type='SSH', num_scales=5, in_channels=[256] * 5, out_channels=[256] * 5),
    ],
    bbox_head=dict(
        type='RetinaFaceHead',
        num_classes=1,
        in_channels=256,
        # squares of 16 to 406 pixels, three on each level: Table 1 of the paper
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3, ratios=[1.0], strides=[4, 8, 16, 32, 64]
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]),
        landmark_coder=dict(type='LandmarkCoder', num_points=5, target_stds=[0.1, 0.1]),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        # the weights of Eq. 1
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=0.25),
        loss_landmark=dict(type='SmoothL1Loss', beta=1.0, loss_weight=0.1),
        neg_pos_ratio=3,
    ),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.3, min_pos_iou=0.3, ignore_iof_thr=0.5),
        sampler=dict(type='PseudoSampler'),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    # crowds have more than a thousand faces
    test_cfg=dict(
        nms_pre=5000, min_bbox_size=0, score_thr=0.02, nms=dict(type='nms', iou_threshold=0.4), max_per_img=2000
    ),
)

max_epochs = 80

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[55, 68], gamma=0.1),
]

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005))

auto_scale_lr = dict(enable=False, base_batch_size=32)  # 4 GPUs x 8 images
