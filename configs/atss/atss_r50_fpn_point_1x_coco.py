_base_ = './atss_r50_fpn_1x_coco.py'

model = dict(
    bbox_head=dict(
        # sides are regressed from the centre of the anchor
        bbox_coder=dict(_delete_=True, type='AnchorPointBBoxCoder'),
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=[
                dict(type='Normal', name='atss_cls', std=0.01, bias_prob=0.01),
                # half the side of an anchor, in strides
                dict(type='Normal', name='atss_reg', std=0.01, bias=4.0),
            ],
        ),
    )
)
