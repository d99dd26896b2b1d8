# WIDER FACE with the five landmarks that RetinaFace annotated in the training set
dataset_type = 'WIDERFaceDataset'
data_root = 'data/WIDERFace/'
backend_args = None

crop_size = (640, 640)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='LoadAnnotations', with_bbox=True, with_keypoints=True),
    # A square of 0.3 to 1 times the shorter side becomes the crop: Sec. 4.2 of RetinaFace. The long side is not bound.
    dict(type='RandomResize', scale=(16 * crop_size[0], crop_size[1]), ratio_range=(1.0, 1 / 0.3), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, allow_negative_crop=False),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='PhotoMetricDistortion',
        brightness_delta=32,
        contrast_range=(0.5, 1.5),
        saturation_range=(0.5, 1.5),
        hue_delta=18,
    ),
    dict(type='PackDetInputs'),
]

test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),  # images are tested as they are
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='retinaface_gt_v1.1/train/label.txt',
        data_prefix=dict(img='WIDER_train/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
        backend_args=backend_args,
    ),
)

val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='wider_face_split/wider_face_val_bbx_gt.txt',
        data_prefix=dict(img='WIDER_val/'),
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader

# the folder of the official evaluation kit; without gt_dir the three settings are told apart by the height of the faces
val_evaluator = dict(type='WIDERFaceMetric', gt_dir=data_root + 'eval_tools/ground_truth')
test_evaluator = val_evaluator
