# The same pictures with their annotations as COCO JSON, made by:
# python tools/dataset_converters/pascal_voc.py data/bccd -o data/bccd_coco
_base_ = './bccd_voc.py'

dataset_type = 'CocoDataset'
data_root = 'data/'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        ann_file='bccd_coco/trainval.json',
        data_prefix=dict(img='bccd/'),
        metainfo=_base_.metainfo,
        filter_cfg=dict(filter_empty_gt=True, min_size=1),
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        ann_file='bccd_coco/test.json',
        data_prefix=dict(img='bccd/'),
        metainfo=_base_.metainfo,
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(
    _delete_=True, type='CocoMetric', ann_file=data_root + 'bccd_coco/test.json', metric='bbox', classwise=True
)
test_evaluator = val_evaluator
