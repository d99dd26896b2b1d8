# Object Detection in the Wild, the 13 data sets of the GLIP paper
odinw_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None, imdecode_backend='pillow'),
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

valid = dict(ann_file='valid/annotations_without_background.json', data_prefix=dict(img='valid/'))
flat = dict(ann_file='val_annotations_without_background.json', data_prefix=dict(img=''))

# name, folder, files, classes
odinw_table = [
    ('AerialMaritimeDrone', 'AerialMaritimeDrone/large/', valid, ('boat', 'car', 'dock', 'jetski', 'lift')),
    (
        'Aquarium',
        'Aquarium/Aquarium Combined.v2-raw-1024.coco/',
        valid,
        ('fish', 'jellyfish', 'penguin', 'puffin', 'shark', 'starfish', 'stingray'),
    ),
    ('CottontailRabbits', 'CottontailRabbits/', valid, ('Cottontail-Rabbit',)),
    ('EgoHands', 'EgoHands/generic/', valid, ('hand',)),
    (
        'NorthAmericaMushrooms',
        'NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco/',
        valid,
        ('CoW', 'chanterelle'),
    ),
    ('Packages', 'Packages/Raw/', valid, ('package',)),
    (
        'PascalVOC',
        'PascalVOC/',
        valid,
        (
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
        ),
    ),
    ('pistols', 'pistols/export/', flat, ('pistol',)),
    ('pothole', 'pothole/', valid, ('pothole',)),
    ('Raccoon', 'Raccoon/Raccoon.v2-raw.coco/', valid, ('raccoon',)),
    ('ShellfishOpenImages', 'ShellfishOpenImages/raw/', valid, ('Crab', 'Lobster', 'Shrimp')),
    ('thermalDogsAndPeople', 'thermalDogsAndPeople/', valid, ('dog', 'person')),
    ('VehiclesOpenImages', 'VehiclesOpenImages/416x416/', valid, ('Ambulance', 'Bus', 'Car', 'Motorcycle', 'Truck')),
]
# what the prompt says around or instead of a class
odinw_captions = dict(Aquarium=None, CottontailRabbits=None, EgoHands=None, NorthAmericaMushrooms=None, Packages=None)

odinw_prefixes = [name for name, *_ in odinw_table]
odinw_datasets = [
    dict(
        type='CocoDataset',
        metainfo=dict(classes=classes),
        data_root='data/odinw/' + folder,
        test_mode=True,
        return_classes=True,
        pipeline=odinw_pipeline,
        **split,
        **(dict(caption_prompt=odinw_captions[name]) if name in odinw_captions else {}),
    )
    for name, folder, split, classes in odinw_table
]
odinw_metrics = [
    dict(type='CocoMetric', ann_file=dataset['data_root'] + dataset['ann_file'], metric='bbox')
    for dataset in odinw_datasets
]
