_base_ = './rtdetr_r50vd_4xb4-72e_coco.py'

# A lighter encoder, and the third of six layers detects.
model = dict(neck=dict(expand_ratio=0.5), decoder=dict(eval_idx=2))
