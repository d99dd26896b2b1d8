_base_ = '../grounding_dino_swin-t_pretrain_obj365_goldg_cap4m.py'

dataset_type = 'LVISV1Dataset'

model = dict(test_cfg=dict(chunked_size=40))

val_dataloader = dict(
    dataset=dict(type=dataset_type, ann_file='annotations/lvis_od_val.json', data_prefix=dict(img=''))
)
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type='LVISFixedAPMetric', ann_file='data/coco/annotations/lvis_od_val.json')
test_evaluator = val_evaluator
