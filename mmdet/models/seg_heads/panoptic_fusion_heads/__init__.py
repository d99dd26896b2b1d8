from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'base_panoptic_fusion_head': 'BasePanopticFusionHead',
        'maskformer_fusion_head': 'MaskFormerFusionHead',
        'heuristic_fusion_head': 'HeuristicFusionHead',
    },
)
