_base_ = './mask2former_r50_8xb2-8e_youtubevis2019.py'

data_root = 'data/youtube_vis_2021/'

train_dataloader = dict(
    dataset=dict(data_root=data_root, dataset_version='2021', ann_file='annotations/youtube_vis_2021_train.json')
)

val_dataloader = dict(
    dataset=dict(data_root=data_root, dataset_version='2021', ann_file='annotations/youtube_vis_2021_valid.json')
)
test_dataloader = val_dataloader

max_iters = 8000

train_cfg = dict(max_iters=max_iters, val_interval=8001)

param_scheduler = dict(end=max_iters, milestones=[5500])

default_hooks = dict(checkpoint=dict(interval=500))
