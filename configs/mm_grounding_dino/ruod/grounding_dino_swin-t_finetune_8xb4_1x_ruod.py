_base_ = '../rtts/grounding_dino_swin-t_finetune_8xb4_1x_rtts.py'

data_root = 'data/RUOD/'

class_name = (
    'holothurian',
    'echinus',
    'scallop',
    'starfish',
    'fish',
    'corals',
    'diver',
    'cuttlefish',
    'turtle',
    'jellyfish',
)

palette = [
    (235, 211, 70),
    (106, 90, 205),
    (160, 32, 240),
    (176, 23, 31),
    (142, 0, 0),
    (230, 0, 0),
    (106, 0, 228),
    (60, 100, 0),
    (80, 100, 0),
    (70, 0, 0),
]

metainfo = dict(classes=class_name, palette=palette)

train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='RUOD_ANN/instances_train.json',
        data_prefix=dict(img='RUOD_pic/train/'),
    )
)

val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='RUOD_ANN/instances_test.json',
        data_prefix=dict(img='RUOD_pic/test/'),
        metainfo=metainfo,
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'RUOD_ANN/instances_test.json')
test_evaluator = val_evaluator
