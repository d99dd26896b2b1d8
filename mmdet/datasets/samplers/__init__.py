from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'batch_sampler': 'AspectRatioBatchSampler MultiDataAspectRatioBatchSampler',
        'class_aware_sampler': 'ClassAwareSampler',
        'custom_sample_size_sampler': 'CustomSampleSizeSampler',
        'multi_data_sampler': 'MultiDataSampler',
        'multi_source_sampler': 'GroupMultiSourceSampler MultiSourceSampler',
    },
)
