from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'batch_sampler': 'AspectRatioBatchSampler MultiDataAspectRatioBatchSampler',
        'class_aware_sampler': 'ClassAwareSampler',
        'multi_data_sampler': 'MultiDataSampler',
        'multi_source_sampler': 'GroupMultiSourceSampler MultiSourceSampler',
    },
)
