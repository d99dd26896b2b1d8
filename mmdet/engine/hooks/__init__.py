from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'checkloss_hook': 'CheckInvalidLossHook',
        'checkpoint_hook': 'CheckpointHook',
        'console_hook': 'ConsoleHook',
        'early_stopping_hook': 'EarlyStoppingHook',
        'fast_inference_hook': 'FastInferenceHook',
        'function_hook': 'FunctionHook',
        'iter_timer_hook': 'IterTimerHook',
        'mean_teacher_hook': 'MeanTeacherHook',
        'memory_profiler_hook': 'MemoryProfilerHook',
        'nonfinite_loss_hook': 'NonFiniteLossHook',
        'num_class_check_hook': 'NumClassCheckHook',
        'pipeline_switch_hook': 'PipelineSwitchHook',
        'progress_hook': 'ProgressHook',
        'runtime_info_hook': 'RuntimeInfoHook',
        'set_epoch_info_hook': 'SetEpochInfoHook',
        'signal_hook': 'SignalHook',
        'sync_norm_hook': 'SyncNormHook',
        'utils': 'trigger_visualization_hook',
        'visualization_hook': 'DetVisualizationHook GroundingVisualizationHook',
        'watchdog_hook': 'WatchdogHook',
        'yolox_mode_switch_hook': 'YOLOXModeSwitchHook',
    },
)
