from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'task_modules': '',
        'losses': '',
        'layers': '',
        'backbones': '',
        'necks': '',
        'language_models': '',
        'data_preprocessors': '',
        'dense_heads': '',
        'roi_heads': '',
        'seg_heads': '',
        'detectors': '',
        'test_time_augs': '',
        'utils': '',
        'builder': (
            'BACKBONES DETECTORS HEADS LOSSES NECKS ROI_EXTRACTORS SHARED_HEADS build_backbone build_detector '
            'build_head build_loss build_neck build_roi_extractor build_shared_head'
        ),
    },
)
