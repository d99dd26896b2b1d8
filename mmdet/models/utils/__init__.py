from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'gaussian_target': (
            'gather_feat gaussian2D gaussian_radius gen_gaussian_target get_local_maximum get_topk_from_heatmap '
            'transpose_and_gather_feat'
        ),
        'image': 'imrenormalize',
        'make_divisible': 'make_divisible',
        'misc': (
            'align_tensor aligned_bilinear center_of_mass empty_instances filter_gt_instances filter_scores_and_topk '
            'flip_tensor floordiv generate_coordinate images_to_levels interpolate_as levels_to_images mask2ndarray '
            'multi_apply padding_to relative_coordinate_maps rename_loss_dict reweight_loss_dict '
            'samplelist_boxtype2tensor select_single_mlvl sigmoid_geometric_mean unfold_wo_center unmap '
            'unpack_gt_instances'
        ),
        'panoptic_gt_processing': 'preprocess_panoptic_gt',
        'point_sample': 'get_uncertain_point_coords_with_randomness get_uncertainty',
        'pretrained': 'Pretrained',
        'vlfuse_helper': 'BertEncoderLayer VLFuse permute_and_flatten',
        'wbf': 'weighted_boxes_fusion',
    },
)
