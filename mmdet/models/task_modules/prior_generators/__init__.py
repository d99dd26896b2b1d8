from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'anchor_generator': (
            'AnchorGenerator LegacyAnchorGenerator LegacySSDAnchorGenerator SSDAnchorGenerator YOLOAnchorGenerator'
        ),
        'point_generator': 'MlvlPointGenerator PointGenerator',
        'utils': 'anchor_inside_flags calc_region',
    },
)
