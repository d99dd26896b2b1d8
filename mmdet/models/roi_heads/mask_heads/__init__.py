from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'coarse_mask_head': 'CoarseMaskHead',
        'dynamic_mask_head': 'DynamicMaskHead',
        'fcn_mask_head': 'FCNMaskHead',
        'fused_semantic_head': 'FusedSemanticHead',
        'grid_head': 'GridHead',
        'htc_mask_head': 'HTCMaskHead',
        'mask_point_head': 'MaskPointHead',
        'maskiou_head': 'MaskIoUHead',
        'scnet_heads': 'FeatureRelayHead GlobalContextHead SCNetMaskHead SCNetSemanticHead',
    },
)
