_base_ = './grounding_dino_swin-t_pretrain_pseudo-labeling_flickr30k.py'

data_root = 'data/cat/'

val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='cat_train_od.json',
        data_prefix=dict(img='images/'),
        label_map_file='cat_label_map.json',
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(outfile_path='data/cat/cat_train_od_v1.json', img_prefix='data/cat/images/', score_thr=0.7)
test_evaluator = val_evaluator
