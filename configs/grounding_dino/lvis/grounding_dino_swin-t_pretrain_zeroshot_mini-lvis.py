_base_ = './grounding_dino_swin-t_pretrain_zeroshot_lvis.py'

val_dataloader = dict(dataset=dict(ann_file='annotations/lvis_v1_minival_inserted_image_name.json'))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file='data/coco/annotations/lvis_v1_minival_inserted_image_name.json')
test_evaluator = val_evaluator
