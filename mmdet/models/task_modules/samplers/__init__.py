from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'base_sampler': 'BaseSampler',
        'pseudo_sampler': 'PseudoSampler',
        'random_sampler': 'RandomSampler',
        'sampling_result': 'SamplingResult',
    },
)
