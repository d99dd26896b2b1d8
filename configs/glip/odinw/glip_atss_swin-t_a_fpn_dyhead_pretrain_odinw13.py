_base_ = '../glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365.py'

data_root = 'data/odinw/'

class_name = ('Ambulance', 'Bus', 'Car', 'Motorcycle', 'Truck')
metainfo = dict(classes=class_name)

val_evaluator_AerialMaritimeDrone = dict(
    type='CocoMetric',
    ann_file=data_root + 'AerialMaritimeDrone/large/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_Aquarium = dict(
    type='CocoMetric',
    ann_file=data_root + 'Aquarium/Aquarium Combined.v2-raw-1024.coco/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_CottontailRabbits = dict(
    type='CocoMetric', ann_file=data_root + 'CottontailRabbits/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_EgoHands = dict(
    type='CocoMetric', ann_file=data_root + 'EgoHands/generic/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_NorthAmericaMushrooms = dict(
    type='CocoMetric',
    ann_file=data_root
    + 'NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_Packages = dict(
    type='CocoMetric', ann_file=data_root + 'Packages/Raw/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_PascalVOC = dict(
    type='CocoMetric', ann_file=data_root + 'PascalVOC/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_pistols = dict(
    type='CocoMetric', ann_file=data_root + 'pistols/export/val_annotations_without_background.json', metric='bbox'
)

val_evaluator_pothole = dict(
    type='CocoMetric', ann_file=data_root + 'pothole/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_Raccoon = dict(
    type='CocoMetric',
    ann_file=data_root + 'Raccoon/Raccoon.v2-raw.coco/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_ShellfishOpenImages = dict(
    type='CocoMetric',
    ann_file=data_root + 'ShellfishOpenImages/raw/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_thermalDogsAndPeople = dict(
    type='CocoMetric',
    ann_file=data_root + 'thermalDogsAndPeople/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_VehiclesOpenImages = dict(
    type='CocoMetric',
    ann_file=data_root + 'VehiclesOpenImages/416x416/valid/annotations_without_background.json',
    metric='bbox',
)

metrics = [
    val_evaluator_AerialMaritimeDrone,
    val_evaluator_Aquarium,
    val_evaluator_CottontailRabbits,
    val_evaluator_EgoHands,
    val_evaluator_NorthAmericaMushrooms,
    val_evaluator_Packages,
    val_evaluator_PascalVOC,
    val_evaluator_pistols,
    val_evaluator_pothole,
    val_evaluator_Raccoon,
    val_evaluator_ShellfishOpenImages,
    val_evaluator_thermalDogsAndPeople,
    val_evaluator_VehiclesOpenImages,
]

base_test_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}, imdecode_backend='pillow'),
    dict(type='FixScaleResize', scale=(800, 1333), keep_ratio=True, backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'text',
            'custom_entities',
            'caption_prompt',
        ),
    ),
]

test_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}, imdecode_backend='pillow'),
    dict(type='FixScaleResize', scale=(800, 1333), keep_ratio=True, backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'text',
            'custom_entities',
            'caption_prompt',
        ),
    ),
]

dataset_AerialMaritimeDrone = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('boat', 'car', 'dock', 'jetski', 'lift')),
    data_root='data/odinw/AerialMaritimeDrone/large/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    test_mode=True,
    pipeline=test_pipeline,
    return_classes=True,
)

dataset_Aquarium = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('fish', 'jellyfish', 'penguin', 'puffin', 'shark', 'starfish', 'stingray')),
    data_root='data/odinw/Aquarium/Aquarium Combined.v2-raw-1024.coco/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    caption_prompt=None,
    test_mode=True,
    return_classes=True,
)

dataset_CottontailRabbits = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('Cottontail-Rabbit',)),
    data_root='data/odinw/CottontailRabbits/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    caption_prompt=None,
    test_mode=True,
    return_classes=True,
)

dataset_EgoHands = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('hand',)),
    data_root='data/odinw/EgoHands/generic/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    caption_prompt=None,
    test_mode=True,
    return_classes=True,
)

dataset_NorthAmericaMushrooms = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('CoW', 'chanterelle')),
    data_root='data/odinw/NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    caption_prompt=None,
    test_mode=True,
    return_classes=True,
)

dataset_Packages = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('package',)),
    data_root='data/odinw/Packages/Raw/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    caption_prompt=None,
    test_mode=True,
    return_classes=True,
)

dataset_PascalVOC = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(
        classes=(
            'aeroplane',
            'bicycle',
            'bird',
            'boat',
            'bottle',
            'bus',
            'car',
            'cat',
            'chair',
            'cow',
            'diningtable',
            'dog',
            'horse',
            'motorbike',
            'person',
            'pottedplant',
            'sheep',
            'sofa',
            'train',
            'tvmonitor',
        )
    ),
    data_root='data/odinw/PascalVOC/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_pistols = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('pistol',)),
    data_root='data/odinw/pistols/export/',
    ann_file='val_annotations_without_background.json',
    data_prefix=dict(img=''),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_pothole = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('pothole',)),
    data_root='data/odinw/pothole/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_Raccoon = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('raccoon',)),
    data_root='data/odinw/Raccoon/Raccoon.v2-raw.coco/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_ShellfishOpenImages = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('Crab', 'Lobster', 'Shrimp')),
    data_root='data/odinw/ShellfishOpenImages/raw/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_thermalDogsAndPeople = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('dog', 'person')),
    data_root='data/odinw/thermalDogsAndPeople/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_VehiclesOpenImages = dict(
    type={{_base_.dataset_type}},
    metainfo=metainfo,
    data_root='data/odinw/VehiclesOpenImages/416x416/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_prefixes = [
    'AerialMaritimeDrone',
    'Aquarium',
    'CottontailRabbits',
    'EgoHands',
    'NorthAmericaMushrooms',
    'Packages',
    'PascalVOC',
    'pistols',
    'pothole',
    'Raccoon',
    'ShellfishOpenImages',
    'thermalDogsAndPeople',
    'VehiclesOpenImages',
]

datasets = [
    dataset_AerialMaritimeDrone,
    dataset_Aquarium,
    dataset_CottontailRabbits,
    dataset_EgoHands,
    dataset_NorthAmericaMushrooms,
    dataset_Packages,
    dataset_PascalVOC,
    dataset_pistols,
    dataset_pothole,
    dataset_Raccoon,
    dataset_ShellfishOpenImages,
    dataset_thermalDogsAndPeople,
    dataset_VehiclesOpenImages,
]

val_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=datasets))
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type='MultiDatasetsEvaluator', metrics=metrics, dataset_prefixes=dataset_prefixes)
test_evaluator = val_evaluator
