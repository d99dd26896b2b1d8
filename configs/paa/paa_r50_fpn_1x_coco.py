_base_ = '../atss/atss_r50_fpn_1x_coco.py'

model = dict(
    type='PAA',
    bbox_head=dict(
        type='PAAHead',
        reg_decoded_bbox=True,
        score_voting=True,  # boxes of one object vote after NMS
        topk=9,  # anchors of each level that enter the mixture
        loss_bbox=dict(loss_weight=1.3),
        loss_centerness=dict(loss_weight=0.5),
    ),
    train_cfg=dict(
        # a low threshold: the mixture of two Gaussians chooses among these candidates
        assigner=dict(
            _delete_=True, type='MaxIoUAssigner', pos_iou_thr=0.1, neg_iou_thr=0.1, min_pos_iou=0, ignore_iof_thr=-1
        )
    ),
)
