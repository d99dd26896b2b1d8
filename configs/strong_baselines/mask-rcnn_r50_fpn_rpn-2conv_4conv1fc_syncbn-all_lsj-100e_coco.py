_base_ = ['../_base_/models/mask-rcnn_r50_fpn.py', '../common/lsj-100e_coco-instance.py']

norm_cfg = dict(type='SyncBN', requires_grad=True)
head_norm_cfg = dict(type='MMSyncBN', requires_grad=True)

model = dict(
    data_preprocessor=dict(batch_augments={{_base_.batch_augments}}),
    # trained from scratch, so every layer learns
    backbone=dict(frozen_stages=-1, norm_cfg=norm_cfg, norm_eval=False, init_cfg=None),
    neck=dict(norm_cfg=norm_cfg),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=head_norm_cfg),
        mask_head=dict(norm_cfg=head_norm_cfg),
    ),
)
