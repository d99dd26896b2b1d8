_base_ = '../faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

model = dict(
    roi_head=dict(
        type='DoubleHeadRoIHead',
        bbox_head=dict(
            type='DoubleConvFCBBoxHead',
            num_convs=4,
            num_fcs=2,
            conv_out_channels=1024,
            loss_cls=dict(loss_weight=2.0),
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=2.0),
        ),
        reg_roi_scale_factor=1.3,  # the regression branch sees more of the surroundings
    )
)
