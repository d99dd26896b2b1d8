from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'approx_max_iou_assigner': 'ApproxMaxIoUAssigner',
        'assign_result': 'AssignResult',
        'base_assigner': 'BaseAssigner in_ignored_region',
        'dynamic_assigners': 'DynamicSoftLabelAssigner SimOTAAssigner TaskAlignedAssigner center_of_mass',
        'grid_assigner': 'GridAssigner',
        'hungarian_assigner': 'HungarianAssigner',
        'match_cost': (
            'BBoxL1Cost BaseMatchCost BinaryFocalLossCost ClassificationCost CrossEntropyLossCost DiceCost '
            'FocalLossCost IoUCost'
        ),
        'iou2d_calculator': 'BboxOverlaps2D BboxOverlaps2D_GLIP cast_tensor_type',
        'center_region_assigner': 'CenterRegionAssigner',
        'max_iou_assigner': 'MaxIoUAssigner',
        'multi_instance_assigner': 'MultiInstanceAssigner with_objects',
        'atss_assigner': 'ATSSAssigner TopkAssigner',
        'region_assigner': 'RegionAssigner',
        'space_scale_assigner': 'SpaceScaleAssigner',
        'topk_hungarian_assigner': 'TopkHungarianAssigner',
        'uniform_assigner': 'UniformAssigner',
        'point_assigners': 'PointAssigner space_scale_match',
    },
)
