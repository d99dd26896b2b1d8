from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'assigners': '',
        'samplers': '',
        'coders': '',
        'prior_generators': '',
        'builder': (
            'ANCHOR_GENERATORS BBOX_ASSIGNERS BBOX_CODERS BBOX_SAMPLERS IOU_CALCULATORS MATCH_COSTS PRIOR_GENERATORS '
            'build_anchor_generator build_assigner build_bbox_coder build_iou_calculator build_match_cost '
            'build_prior_generator build_sampler'
        ),
    },
)
