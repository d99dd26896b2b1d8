from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'task_modules': '',
        'losses': '',
        'layers': '',
        'backbones': '',
        'necks': '',
        'data_preprocessors': '',
        'dense_heads': '',
        'roi_heads': '',
        'seg_heads': '',
        'detectors': '',
        'test_time_augs': '',
        'utils': '',
    },
)
