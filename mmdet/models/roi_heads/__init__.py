from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'base_roi_head': 'BaseRoIHead',
        'bbox_heads': '',
        'cascade_roi_head': 'CascadeRoIHead',
        'double_roi_head': 'DoubleHeadRoIHead',
        'dynamic_roi_head': 'DynamicRoIHead',
        'grid_roi_head': 'GridRoIHead',
        'htc_roi_head': 'HybridTaskCascadeRoIHead',
        'mask_heads': '',
        'mask_scoring_roi_head': 'MaskScoringRoIHead',
        'multi_instance_roi_head': 'MultiInstanceRoIHead',
        'pisa_roi_head': 'PISARoIHead',
        'point_rend_roi_head': 'PointRendRoIHead',
        'roi_extractors': '',
        'scnet_roi_head': 'SCNetRoIHead',
        'shared_heads': '',
        'sparse_roi_head': 'SparseRoIHead',
        'standard_roi_head': 'StandardRoIHead',
        'trident_roi_head': 'TridentRoIHead',
    },
)
