_base_ = '../brain_tumor/grounding_dino_swin-t_finetune_8xb4_50e_brain_tumor.py'

data_root = 'data/people_in_painting_v2/'

palette = [(220, 20, 60)]
metainfo = dict(classes=('Human',), palette=palette)

train_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root, metainfo=metainfo)))

val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'valid/_annotations.coco.json')
test_evaluator = val_evaluator
