from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'base_roi_extractor': 'BaseRoIExtractor',
        'generic_roi_extractor': 'GenericRoIExtractor',
        'single_level_roi_extractor': 'SingleRoIExtractor',
    },
)
