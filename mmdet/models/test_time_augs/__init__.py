from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'det_tta': 'DetTTAModel',
        'merge_augs': 'merge_aug_bboxes merge_aug_masks merge_aug_proposals merge_aug_results merge_aug_scores',
        'voting': 'batched_vote vote within_size',
    },
)
