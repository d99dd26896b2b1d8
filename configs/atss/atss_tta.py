# Table 8 of the paper: each scale keeps the boxes of the sizes (in pixels of the original image) that it sees best:
# height, smallest, largest
scale_table = [
    (400, 96, 10000),
    (500, 96, 10000),
    (600, 64, 10000),
    (640, 64, 10000),
    (700, 64, 10000),
    (900, 0, 10000),
    (1000, 0, 10000),
    (1100, 0, 256),
    (1200, 0, 256),
    (1300, 0, 192),
    (1400, 0, 192),
    (1800, 0, 96),
]

tta_model = dict(
    type='DetTTAModel',
    tta_cfg=dict(
        merge='soft-vote',
        vote_thr=0.66,
        score_thr=0.05,
        scale_ranges=[(low, high) for _, low, high in scale_table],
        max_per_img=100,
    ),
)

tta_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(3000, height), keep_ratio=True) for height, *_ in scale_table],
            [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)],
            [dict(type='LoadAnnotations', with_bbox=True)],
            [
                dict(
                    type='PackDetInputs',
                    meta_keys=(
                        'img_id',
                        'img_path',
                        'ori_shape',
                        'img_shape',
                        'scale_factor',
                        'flip',
                        'flip_direction',
                    ),
                )
            ],
        ],
    ),
]
