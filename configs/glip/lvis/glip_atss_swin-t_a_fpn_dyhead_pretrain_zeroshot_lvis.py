_base_ = '../glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365.py'

dataset_type = 'LVISV1Dataset'

model = dict(test_cfg=dict(max_per_img=300, chunked_size=40))

val_dataloader = dict(
    dataset=dict(type=dataset_type, ann_file='annotations/lvis_od_val.json', data_prefix=dict(img=''))
)
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type='LVISFixedAPMetric', ann_file='data/coco/annotations/lvis_od_val.json')
test_evaluator = val_evaluator
