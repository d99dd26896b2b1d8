from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'det_inferencer': 'DetInferencer',
        'inference': 'async_inference_detector inference_detector init_detector',
    },
)
