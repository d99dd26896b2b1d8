from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        '_fast_stop_training_hook': 'FastStopTrainingHook',
        '_utils': (
            'demo_mm_inputs demo_mm_proposals demo_mm_sampling_results demo_track_inputs get_detector_cfg '
            'get_roi_head_cfg random_boxes replace_to_ceph'
        ),
    },
)
