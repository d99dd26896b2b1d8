_base_ = '../glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365.py'

data_root = 'data/odinw/'

class_name = ('button', 'field', 'heading', 'iframe', 'image', 'label', 'link', 'text')
metainfo = dict(classes=class_name)

val_evaluator_AerialMaritimeDrone_large = dict(
    type='CocoMetric',
    ann_file=data_root + 'AerialMaritimeDrone/large/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_AerialMaritimeDrone_tiled = dict(
    type='CocoMetric',
    ann_file=data_root + 'AerialMaritimeDrone/tiled/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_AmericanSignLanguageLetters = dict(
    type='CocoMetric',
    ann_file=data_root
    + 'AmericanSignLanguageLetters/American Sign Language Letters.v1-v1.coco/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_Aquarium = dict(
    type='CocoMetric',
    ann_file=data_root + 'Aquarium/Aquarium Combined.v2-raw-1024.coco/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_BCCD = dict(
    type='CocoMetric',
    ann_file=data_root + 'BCCD/BCCD.v3-raw.coco/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_boggleBoards = dict(
    type='CocoMetric',
    ann_file=data_root + 'boggleBoards/416x416AutoOrient/export/val_annotations_without_background.json',
    metric='bbox',
)

val_evaluator_brackishUnderwater = dict(
    type='CocoMetric',
    ann_file=data_root + 'brackishUnderwater/960x540/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_ChessPieces = dict(
    type='CocoMetric',
    ann_file=data_root + 'ChessPieces/Chess Pieces.v23-raw.coco/valid/new_annotations_without_background.json',
    metric='bbox',
)

val_evaluator_CottontailRabbits = dict(
    type='CocoMetric',
    ann_file=data_root + 'CottontailRabbits/valid/new_annotations_without_background.json',
    metric='bbox',
)

val_evaluator_dice = dict(
    type='CocoMetric',
    ann_file=data_root + 'dice/mediumColor/export/val_annotations_without_background.json',
    metric='bbox',
)

val_evaluator_DroneControl = dict(
    type='CocoMetric',
    ann_file=data_root + 'DroneControl/Drone Control.v3-raw.coco/valid/annotations_without_background.json',
    metric='bbox',
)

caption_prompt = dict(pothole=dict(name='holes', prefix='there are some ', suffix=' on the road'))

val_evaluator_EgoHands_generic = dict(
    type='CocoMetric', ann_file=data_root + 'EgoHands/generic/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_EgoHands_specific = dict(
    type='CocoMetric', ann_file=data_root + 'EgoHands/specific/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_HardHatWorkers = dict(
    type='CocoMetric',
    ann_file=data_root + 'HardHatWorkers/raw/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_MaskWearing = dict(
    type='CocoMetric', ann_file=data_root + 'MaskWearing/raw/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_MountainDewCommercial = dict(
    type='CocoMetric',
    ann_file=data_root + 'MountainDewCommercial/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_NorthAmericaMushrooms = dict(
    type='CocoMetric',
    ann_file=data_root
    + 'NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco/valid/new_annotations_without_background.json',
    metric='bbox',
)

val_evaluator_openPoetryVision = dict(
    type='CocoMetric',
    ann_file=data_root + 'openPoetryVision/512x512/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_OxfordPets_by_breed = dict(
    type='CocoMetric',
    ann_file=data_root + 'OxfordPets/by-breed/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_OxfordPets_by_species = dict(
    type='CocoMetric',
    ann_file=data_root + 'OxfordPets/by-species/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_PKLot = dict(
    type='CocoMetric', ann_file=data_root + 'PKLot/640/valid/annotations_without_background.json', metric='bbox'
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

val_evaluator_plantdoc = dict(
    type='CocoMetric', ann_file=data_root + 'plantdoc/416x416/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_pothole = dict(
    type='CocoMetric', ann_file=data_root + 'pothole/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_Raccoon = dict(
    type='CocoMetric',
    ann_file=data_root + 'Raccoon/Raccoon.v2-raw.coco/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_selfdrivingCar = dict(
    type='CocoMetric',
    ann_file=data_root + 'selfdrivingCar/fixedLarge/export/val_annotations_without_background.json',
    metric='bbox',
)

val_evaluator_ShellfishOpenImages = dict(
    type='CocoMetric',
    ann_file=data_root + 'ShellfishOpenImages/raw/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_ThermalCheetah = dict(
    type='CocoMetric', ann_file=data_root + 'ThermalCheetah/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_thermalDogsAndPeople = dict(
    type='CocoMetric',
    ann_file=data_root + 'thermalDogsAndPeople/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_UnoCards = dict(
    type='CocoMetric', ann_file=data_root + 'UnoCards/raw/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_VehiclesOpenImages = dict(
    type='CocoMetric',
    ann_file=data_root + 'VehiclesOpenImages/416x416/valid/annotations_without_background.json',
    metric='bbox',
)

val_evaluator_WildfireSmoke = dict(
    type='CocoMetric', ann_file=data_root + 'WildfireSmoke/valid/annotations_without_background.json', metric='bbox'
)

val_evaluator_websiteScreenshots = dict(
    type='CocoMetric',
    ann_file=data_root + 'websiteScreenshots/valid/annotations_without_background.json',
    metric='bbox',
)

metrics = [
    val_evaluator_AerialMaritimeDrone_large,
    val_evaluator_AerialMaritimeDrone_tiled,
    val_evaluator_AmericanSignLanguageLetters,
    val_evaluator_Aquarium,
    val_evaluator_BCCD,
    val_evaluator_boggleBoards,
    val_evaluator_brackishUnderwater,
    val_evaluator_ChessPieces,
    val_evaluator_CottontailRabbits,
    val_evaluator_dice,
    val_evaluator_DroneControl,
    val_evaluator_EgoHands_generic,
    val_evaluator_EgoHands_specific,
    val_evaluator_HardHatWorkers,
    val_evaluator_MaskWearing,
    val_evaluator_MountainDewCommercial,
    val_evaluator_NorthAmericaMushrooms,
    val_evaluator_openPoetryVision,
    val_evaluator_OxfordPets_by_breed,
    val_evaluator_OxfordPets_by_species,
    val_evaluator_PKLot,
    val_evaluator_Packages,
    val_evaluator_PascalVOC,
    val_evaluator_pistols,
    val_evaluator_plantdoc,
    val_evaluator_pothole,
    val_evaluator_Raccoon,
    val_evaluator_selfdrivingCar,
    val_evaluator_ShellfishOpenImages,
    val_evaluator_ThermalCheetah,
    val_evaluator_thermalDogsAndPeople,
    val_evaluator_UnoCards,
    val_evaluator_VehiclesOpenImages,
    val_evaluator_WildfireSmoke,
    val_evaluator_websiteScreenshots,
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

dataset_AerialMaritimeDrone_large = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('boat', 'car', 'dock', 'jetski', 'lift')),
    data_root='data/odinw/AerialMaritimeDrone/large/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_AerialMaritimeDrone_tiled = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('boat', 'car', 'dock', 'jetski', 'lift')),
    data_root='data/odinw/AerialMaritimeDrone/tiled/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_AmericanSignLanguageLetters = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(
        classes=(
            'A',
            'B',
            'C',
            'D',
            'E',
            'F',
            'G',
            'H',
            'I',
            'J',
            'K',
            'L',
            'M',
            'N',
            'O',
            'P',
            'Q',
            'R',
            'S',
            'T',
            'U',
            'V',
            'W',
            'X',
            'Y',
            'Z',
        )
    ),
    data_root='data/odinw/AmericanSignLanguageLetters/American Sign Language Letters.v1-v1.coco/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_Aquarium = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('fish', 'jellyfish', 'penguin', 'puffin', 'shark', 'starfish', 'stingray')),
    data_root='data/odinw/Aquarium/Aquarium Combined.v2-raw-1024.coco/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_BCCD = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('Platelets', 'RBC', 'WBC')),
    data_root='data/odinw/BCCD/BCCD.v3-raw.coco/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_boggleBoards = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(
        classes=(
            'Q',
            'a',
            'an',
            'b',
            'c',
            'd',
            'e',
            'er',
            'f',
            'g',
            'h',
            'he',
            'i',
            'in',
            'j',
            'k',
            'l',
            'm',
            'n',
            'o',
            'o ',
            'p',
            'q',
            'qu',
            'r',
            's',
            't',
            't\\',
            'th',
            'u',
            'v',
            'w',
            'wild',
            'x',
            'y',
            'z',
        )
    ),
    data_root='data/odinw/boggleBoards/416x416AutoOrient/export/',
    ann_file='val_annotations_without_background.json',
    data_prefix=dict(img=''),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_brackishUnderwater = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('crab', 'fish', 'jellyfish', 'shrimp', 'small_fish', 'starfish')),
    data_root='data/odinw/brackishUnderwater/960x540/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_ChessPieces = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(
        classes=(
            '  ',
            'black bishop',
            'black king',
            'black knight',
            'black pawn',
            'black queen',
            'black rook',
            'white bishop',
            'white king',
            'white knight',
            'white pawn',
            'white queen',
            'white rook',
        )
    ),
    data_root='data/odinw/ChessPieces/Chess Pieces.v23-raw.coco/',
    ann_file='valid/new_annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_CottontailRabbits = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('rabbit',)),
    data_root='data/odinw/CottontailRabbits/',
    ann_file='valid/new_annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_dice = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('1', '2', '3', '4', '5', '6')),
    data_root='data/odinw/dice/mediumColor/export/',
    ann_file='val_annotations_without_background.json',
    data_prefix=dict(img=''),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_DroneControl = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('follow', 'follow_hand', 'land', 'land_hand', 'null', 'object', 'takeoff', 'takeoff-hand')),
    data_root='data/odinw/DroneControl/Drone Control.v3-raw.coco/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_EgoHands_generic = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('hand',)),
    data_root='data/odinw/EgoHands/generic/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    caption_prompt=dict(hand=dict(suffix=' of a person')),
    test_mode=True,
    return_classes=True,
)

dataset_EgoHands_specific = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('myleft', 'myright', 'yourleft', 'yourright')),
    data_root='data/odinw/EgoHands/specific/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_HardHatWorkers = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('head', 'helmet', 'person')),
    data_root='data/odinw/HardHatWorkers/raw/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_MaskWearing = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('mask', 'no-mask')),
    data_root='data/odinw/MaskWearing/raw/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_MountainDewCommercial = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('bottle',)),
    data_root='data/odinw/MountainDewCommercial/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_NorthAmericaMushrooms = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('flat mushroom', 'yellow mushroom')),
    data_root='data/odinw/NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco/',
    ann_file='valid/new_annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_openPoetryVision = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(
        classes=(
            'American Typewriter',
            'Andale Mono',
            'Apple Chancery',
            'Arial',
            'Avenir',
            'Baskerville',
            'Big Caslon',
            'Bradley Hand',
            'Brush Script MT',
            'Chalkboard',
            'Comic Sans MS',
            'Copperplate',
            'Courier',
            'Didot',
            'Futura',
            'Geneva',
            'Georgia',
            'Gill Sans',
            'Helvetica',
            'Herculanum',
            'Impact',
            'Kefa',
            'Lucida Grande',
            'Luminari',
            'Marker Felt',
            'Menlo',
            'Monaco',
            'Noteworthy',
            'Optima',
            'PT Sans',
            'PT Serif',
            'Palatino',
            'Papyrus',
            'Phosphate',
            'Rockwell',
            'SF Pro',
            'SignPainter',
            'Skia',
            'Snell Roundhand',
            'Tahoma',
            'Times New Roman',
            'Trebuchet MS',
            'Verdana',
        )
    ),
    data_root='data/odinw/openPoetryVision/512x512/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_OxfordPets_by_breed = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(
        classes=(
            'cat-Abyssinian',
            'cat-Bengal',
            'cat-Birman',
            'cat-Bombay',
            'cat-British_Shorthair',
            'cat-Egyptian_Mau',
            'cat-Maine_Coon',
            'cat-Persian',
            'cat-Ragdoll',
            'cat-Russian_Blue',
            'cat-Siamese',
            'cat-Sphynx',
            'dog-american_bulldog',
            'dog-american_pit_bull_terrier',
            'dog-basset_hound',
            'dog-beagle',
            'dog-boxer',
            'dog-chihuahua',
            'dog-english_cocker_spaniel',
            'dog-english_setter',
            'dog-german_shorthaired',
            'dog-great_pyrenees',
            'dog-havanese',
            'dog-japanese_chin',
            'dog-keeshond',
            'dog-leonberger',
            'dog-miniature_pinscher',
            'dog-newfoundland',
            'dog-pomeranian',
            'dog-pug',
            'dog-saint_bernard',
            'dog-samoyed',
            'dog-scottish_terrier',
            'dog-shiba_inu',
            'dog-staffordshire_bull_terrier',
            'dog-wheaten_terrier',
            'dog-yorkshire_terrier',
        )
    ),
    data_root='data/odinw/OxfordPets/by-breed/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_OxfordPets_by_species = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('cat', 'dog')),
    data_root='data/odinw/OxfordPets/by-species/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_PKLot = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('space-empty', 'space-occupied')),
    data_root='data/odinw/PKLot/640/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
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
    caption_prompt=dict(package=dict(prefix='there is a ', suffix=' on the porch')),
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

dataset_plantdoc = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(
        classes=(
            'Apple Scab Leaf',
            'Apple leaf',
            'Apple rust leaf',
            'Bell_pepper leaf',
            'Bell_pepper leaf spot',
            'Blueberry leaf',
            'Cherry leaf',
            'Corn Gray leaf spot',
            'Corn leaf blight',
            'Corn rust leaf',
            'Peach leaf',
            'Potato leaf',
            'Potato leaf early blight',
            'Potato leaf late blight',
            'Raspberry leaf',
            'Soyabean leaf',
            'Soybean leaf',
            'Squash Powdery mildew leaf',
            'Strawberry leaf',
            'Tomato Early blight leaf',
            'Tomato Septoria leaf spot',
            'Tomato leaf',
            'Tomato leaf bacterial spot',
            'Tomato leaf late blight',
            'Tomato leaf mosaic virus',
            'Tomato leaf yellow virus',
            'Tomato mold leaf',
            'Tomato two spotted spider mites leaf',
            'grape leaf',
            'grape leaf black rot',
        )
    ),
    data_root='data/odinw/plantdoc/416x416/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
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
    caption_prompt=caption_prompt,
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

dataset_selfdrivingCar = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(
        classes=(
            'biker',
            'car',
            'pedestrian',
            'trafficLight',
            'trafficLight-Green',
            'trafficLight-GreenLeft',
            'trafficLight-Red',
            'trafficLight-RedLeft',
            'trafficLight-Yellow',
            'trafficLight-YellowLeft',
            'truck',
        )
    ),
    data_root='data/odinw/selfdrivingCar/fixedLarge/export/',
    ann_file='val_annotations_without_background.json',
    data_prefix=dict(img=''),
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

dataset_ThermalCheetah = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('cheetah', 'human')),
    data_root='data/odinw/ThermalCheetah/',
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

dataset_UnoCards = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11', '12', '13', '14')),
    data_root='data/odinw/UnoCards/raw/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_VehiclesOpenImages = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('Ambulance', 'Bus', 'Car', 'Motorcycle', 'Truck')),
    data_root='data/odinw/VehiclesOpenImages/416x416/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_WildfireSmoke = dict(
    type={{_base_.dataset_type}},
    metainfo=dict(classes=('smoke',)),
    data_root='data/odinw/WildfireSmoke/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_websiteScreenshots = dict(
    type={{_base_.dataset_type}},
    metainfo=metainfo,
    data_root='data/odinw/websiteScreenshots/',
    ann_file='valid/annotations_without_background.json',
    data_prefix=dict(img='valid/'),
    pipeline=test_pipeline,
    test_mode=True,
    return_classes=True,
)

dataset_prefixes = [
    'AerialMaritimeDrone_large',
    'AerialMaritimeDrone_tiled',
    'AmericanSignLanguageLetters',
    'Aquarium',
    'BCCD',
    'boggleBoards',
    'brackishUnderwater',
    'ChessPieces',
    'CottontailRabbits',
    'dice',
    'DroneControl',
    'EgoHands_generic',
    'EgoHands_specific',
    'HardHatWorkers',
    'MaskWearing',
    'MountainDewCommercial',
    'NorthAmericaMushrooms',
    'openPoetryVision',
    'OxfordPets_by_breed',
    'OxfordPets_by_species',
    'PKLot',
    'Packages',
    'PascalVOC',
    'pistols',
    'plantdoc',
    'pothole',
    'Raccoons',
    'selfdrivingCar',
    'ShellfishOpenImages',
    'ThermalCheetah',
    'thermalDogsAndPeople',
    'UnoCards',
    'VehiclesOpenImages',
    'WildfireSmoke',
    'websiteScreenshots',
]

datasets = [
    dataset_AerialMaritimeDrone_large,
    dataset_AerialMaritimeDrone_tiled,
    dataset_AmericanSignLanguageLetters,
    dataset_Aquarium,
    dataset_BCCD,
    dataset_boggleBoards,
    dataset_brackishUnderwater,
    dataset_ChessPieces,
    dataset_CottontailRabbits,
    dataset_dice,
    dataset_DroneControl,
    dataset_EgoHands_generic,
    dataset_EgoHands_specific,
    dataset_HardHatWorkers,
    dataset_MaskWearing,
    dataset_MountainDewCommercial,
    dataset_NorthAmericaMushrooms,
    dataset_openPoetryVision,
    dataset_OxfordPets_by_breed,
    dataset_OxfordPets_by_species,
    dataset_PKLot,
    dataset_Packages,
    dataset_PascalVOC,
    dataset_pistols,
    dataset_plantdoc,
    dataset_pothole,
    dataset_Raccoon,
    dataset_selfdrivingCar,
    dataset_ShellfishOpenImages,
    dataset_ThermalCheetah,
    dataset_thermalDogsAndPeople,
    dataset_UnoCards,
    dataset_VehiclesOpenImages,
    dataset_WildfireSmoke,
    dataset_websiteScreenshots,
]

val_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=datasets))
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type='MultiDatasetsEvaluator', metrics=metrics, dataset_prefixes=dataset_prefixes)
test_evaluator = val_evaluator
