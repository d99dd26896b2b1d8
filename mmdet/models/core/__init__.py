"""The engine of every detector: pure functions on tensors, without registry or config."""

from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'assign_result': 'AssignResult',
        'assignment': 'Assignment best_of_candidates labels_of',
        'box_distributions': 'bin_places moved_sides side_entropy side_targets sides_of_distributions',
        'center_regions': 'CenterRegions cell_grid middle_cells',
        'colours': 'rgb_to_lab',
        'constants': 'constant remembered',
        'denoising': 'denoising_mask known_matches noisy_boxes noisy_labels queries_by_image',
        'distinct': 'best_distinct',
        'dynamic_k': 'best_of_aligned columns dynamic_k share_of_best',
        'geometric_mean': 'SigmoidGeometricMean sigmoid_geometric_mean',
        'dynamic_masks': (
            'LazySlots Slots activations_of aligned_bilinear dynamic_inputs dynamic_logits enlarged_by_phase in_parts '
            'parameter_counts pick_slots rows_at split_parameters sum_in_parts unfold_wo_center with_coordinates'
        ),
        'fixed_results': 'FixedInstances fixed_instances fixed_suppressed stacked unstacked',
        'gt': 'BestMatch DenseTargets PaddedGT count_per_image mean_count pad_batch unpack_gt_instances',
        'gt_masks': 'GTMasks',
        'heatmap': ('gaussian_heatmaps gaussian_radius highest_cells local_maxima raise_by_class values_at_cells'),
        'joints': 'by_batch empty_instances images_to_levels levels_to_images select_single_mlvl unmap',
        'labels': 'of_label',
        'mask_lookup': 'mask_shares mask_values',
        'loss_dicts': 'rename_loss_dict reweight_loss_dict',
        'masks': 'HostRegions crop_masks paste_masks resized_masks stretched',
        'panoptic_gt': 'things_and_stuff whole_masks',
        'query_masks': 'MaskTargets gt_of_masks mask_truth_at targets_of_matching',
        'mixture': 'split_by_mixture',
        'object_cells': 'CellTargets ObjectCells starts_of',
        'ordering': 'stable_topk',
        'padding': 'padded_cells',
        'postprocess': (
            'TestCfg batches_images best_candidates detections gather_rows greedy_options image_detections '
            'image_shapes padded_detections rescale_fields rescaled_fields select_topk split_images suppressed'
        ),
        'precision': 'as_float32 in_float32 widened',
        'pseudo_labels': (
            'filter_gt_instances homographies jittered keep_instances project_boxes project_lists relative_spread'
        ),
        'pyramid': 'PriorCache Priors flatten_levels flatten_outputs map_sizes multi_apply per_level split_levels',
        'rois': 'MatchedQueries Proposals RoISamples with_image',
        'sampling': 'as_masks as_slots draw hard_negatives rank_within',
        'set_matching': (
            'QueryOutputs QueryPairs columns_of_labels cost_of_terms dice_cost float_outputs focal_terms joined '
            'layer_losses parted solve'
        ),
        'uncertain_points': 'get_uncertain_point_coords_with_randomness get_uncertainty pick_uncertain_points',
        'sampling_result': 'SamplingResult results_of',
    },
)
