from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'setup_env': 'register_all_modules setup_cache_size_limit_of_dynamo setup_multi_processes',
        'typing_utils': (
            'ConfigType InstanceList MultiConfig OptConfigType OptInstanceList OptMultiConfig OptPixelList '
            'PixelList RangeType'
        ),
    },
)
