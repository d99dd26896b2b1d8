_base_ = ['./qdtrack_faster-rcnn_r50_fpn_4e_base.py', '../_base_/datasets/mot_challenge.py']

randomness = dict(seed=6)
