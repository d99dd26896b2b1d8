_base_ = './glip_atss_swin-t_a_fpn_dyhead_16xb2_ms-2x_funtune_coco.py'

model = dict(bbox_head=dict(early_fuse=True, use_checkpoint=True))

optim_wrapper = dict(optimizer=dict(lr=1e-5), clip_grad=dict(_delete_=True, max_norm=1, norm_type=2))

load_from = 'https://download.openmmlab.com/mmdetection/v3.0/glip/glip_tiny_mmdet-c24ce662.pth'
