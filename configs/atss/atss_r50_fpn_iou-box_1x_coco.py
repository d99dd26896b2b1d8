_base_ = './atss_r50_fpn_1x_coco.py'

model = dict(
    # positives by the thresholds of RetinaNet
    train_cfg=dict(
        assigner=dict(
            _delete_=True, type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1
        )
    )
)
