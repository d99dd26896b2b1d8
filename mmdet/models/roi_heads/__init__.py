from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'base_roi_head': 'BaseRoIHead',
        'bbox_heads': '',
        'mask_heads': '',
        'roi_extractors': '',
        'shared_heads': '',
        'standard_roi_head': 'StandardRoIHead',
    },
)
