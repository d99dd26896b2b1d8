_base_ = ['./atss_x101-64x4d-dcnv2-c4-c5_fpn_ms-2x_coco.py', './atss_tta.py']
