from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'det_inferencer': 'DetInferencer',
        'inference': 'async_inference_detector build_test_pipeline inference_detector init_detector',
        'detector': 'Detector Results',
        'results': 'Result write_predictions',
        'sources': 'Picture pictures_of',
        'large_image': 'merge_results_by_nms merge_tiles predict_tiles shift_predictions shift_rbboxes tiles_of',
    },
)
