from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'panoptic_fusion_heads': '',
        'base_semantic_head': 'BaseSemanticHead',
        'panoptic_fpn_head': 'PanopticFPNHead',
    },
)
