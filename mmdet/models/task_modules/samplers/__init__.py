from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'base_sampler': 'BaseSampler',
        'combined_sampler': 'CombinedSampler',
        'instance_balanced_pos_sampler': 'InstanceBalancedPosSampler',
        'iou_balanced_neg_sampler': 'IoUBalancedNegSampler',
        'mask_pseudo_sampler': 'MaskPseudoSampler',
        'mask_sampling_result': 'MaskSamplingResult',
        'multi_instance_random_sampler': 'MultiInsRandomSampler',
        'multi_instance_sampling_result': 'InstanceSets MultiInstanceSamplingResult as_sets',
        'ohem_sampler': 'OHEMSampler',
        'pseudo_sampler': 'PseudoSampler',
        'random_sampler': 'RandomSampler',
        'sampling_result': 'SamplingResult',
        'score_hlr_sampler': 'ScoreHLRSampler',
    },
)
