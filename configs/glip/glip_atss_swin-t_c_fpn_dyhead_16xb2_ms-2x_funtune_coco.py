_base_ = './glip_atss_swin-t_fpn_dyhead_16xb2_ms-2x_funtune_coco.py'

load_from = 'https://download.openmmlab.com/mmdetection/v3.0/glip/glip_tiny_c_mmdet-2fc427dd.pth'
