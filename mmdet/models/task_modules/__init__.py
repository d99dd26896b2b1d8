from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'assigners': '',
        'samplers': '',
        'coders': '',
        'prior_generators': '',
        'builder': (
            'build_anchor_generator build_assigner build_bbox_coder build_iou_calculator build_prior_generator '
            'build_sampler'
        ),
    },
)
