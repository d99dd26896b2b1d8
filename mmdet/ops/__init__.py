from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'nms': 'batched_nms fast_nms multiclass_nms nms nms_match soft_nms',
        'match_boxes': 'match_boxes',
        'padded_nms': 'padded_nms',
        'roi_align': 'RoIAlign RoIPool SimpleRoIAlign roi_align roi_pool',
        'roi_align_levels': 'roi_align_levels',
        'crop_windows': 'crop_windows',
        'deform_conv': (
            'DCN DCNv2 DeformConv2d DeformConv2dPack ModulatedDeformConv2d ModulatedDeformConv2dPack '
            'deform_conv2d modulated_deform_conv2d'
        ),
        'deform_roi_pool': 'DeformRoIPool DeformRoIPoolPack ModulatedDeformRoIPoolPack deform_roi_pool',
        'focal_loss': 'SigmoidFocalLoss SoftmaxFocalLoss sigmoid_focal_loss softmax_focal_loss',
        'point_sample': 'point_sample rel_roi_point_to_rel_img_point',
        'masked_conv': 'MaskedConv MaskedConv2d masked_conv2d',
        'corner_pool': 'CornerPool corner_pool',
        'carafe': 'CARAFE CARAFENaive CARAFEPack carafe carafe_naive',
        'multi_scale_deform_attn': (
            'MultiScaleDeformableAttention multi_scale_deformable_attn multi_scale_deformable_attn_pytorch'
        ),
        'sync_bn': 'MMSyncBN SyncBatchNorm',
        'bilinear': 'bilinear_bags bilinear_corners',
        'compiled': 'compiled_mmcv',
    },
)
