from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'collect_env': 'collect_env',
        'benchmark': 'BaseBenchmark DataLoaderBenchmark DatasetBenchmark InferenceBenchmark',
        'compat_config': 'compat_cfg',
        'dist_utils': 'all_reduce_dict allreduce_grads obj2tensor reduce_mean sync_random_seed tensor2obj',
        'key_maps': 'translate_state_dict',
        'logger': 'get_caller_name log_img_scale',
        'memory': 'AvoidCUDAOOM AvoidOOM cast_tensor_type',
        'misc': 'find_latest_checkpoint get_file_list get_test_pipeline_cfg replace_cfg_vals update_data_root',
        'score_thresholds': 'above_score_threshold resolve_score_thresholds',
        'setup_env': 'get_device register_all_modules setup_cache_size_limit_of_dynamo setup_multi_processes',
        'split_batch': 'split_batch',
        'typing_utils': (
            'ConfigType InstanceList MultiConfig OptConfigType OptInstanceList OptMultiConfig OptPixelList '
            'PixelList RangeType'
        ),
        'util_mixins': 'NiceRepr',
        'util_random': 'ensure_rng',
    },
)
