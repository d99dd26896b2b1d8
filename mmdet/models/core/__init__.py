"""The engine of every detector: pure functions on tensors, without registry or config."""

from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'assign_result': 'AssignResult',
        'assignment': 'Assignment BestMatch best_of_candidates labels_of',
        'constants': 'constant',
        'gt': 'PaddedGT pad_batch',
        'joints': (
            'by_batch empty_instances images_to_levels levels_to_images multi_apply overridden select_single_mlvl '
            'unmap unpack_gt_instances'
        ),
        'masks': 'crop_masks paste_masks',
        'mixture': 'split_by_mixture',
        'ordering': 'stable_topk',
        'postprocess': 'TestCfg gather_rows image_results image_shapes rescale_results select_topk suppress',
        'pyramid': 'Priors as_level flatten_levels map_sizes per_level rows split_levels',
        'rois': 'RoISamples pad_proposals',
        'sampling': 'as_masks as_slots draw first hard_negatives negative_room rank_within',
        'sampling_result': 'SamplingResult',
        'targets': 'DenseTargets PointTargets count_per_image mean_count',
    },
)
