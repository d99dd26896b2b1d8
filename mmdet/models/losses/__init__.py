from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'utils': 'WeightedLoss reduce_loss weight_reduce_loss weighted_loss',
        'accuracy': 'Accuracy accuracy',
        'ae_loss': 'AssociativeEmbeddingLoss CornerPairs',
        'arcface_loss': 'ArcFaceLoss',
        'balanced_l1_loss': 'BalancedL1Loss balanced_l1_loss',
        'cross_entropy_loss': (
            'CrossEntropyCustomLoss CrossEntropyLoss binary_cross_entropy cross_entropy mask_cross_entropy'
        ),
        'ddq_detr_aux_loss': 'DDQAuxLoss',
        'dice_loss': 'DiceLoss dice_loss',
        'eqlv2_loss': 'EQLV2Loss',
        'focal_loss': 'FocalCustomLoss FocalLoss py_focal_loss_with_prob py_sigmoid_focal_loss sigmoid_focal_loss',
        'gaussian_focal_loss': 'GaussianFocalLoss gaussian_focal_loss gaussian_focal_loss_with_pos_inds',
        'gfocal_loss': 'DistributionFocalLoss QualityFocalLoss distribution_focal_loss quality_focal_loss',
        'ghm_loss': 'GHMC GHMR',
        'iou_loss': (
            'BoundedIoULoss CIoULoss DIoULoss EIoULoss GIoULoss IoULoss SIoULoss '
            'bounded_iou_loss ciou_loss diou_loss eiou_loss giou_loss iou_loss siou_loss'
        ),
        'kd_loss': 'KnowledgeDistillationKLDivLoss knowledge_distillation_kl_div_loss',
        'l2_loss': 'L2Loss MarginL2Loss l2_loss',
        'matchability_loss': 'IoUAwareBCELoss MatchabilityAwareLoss iou_aware_bce_loss matchability_aware_loss',
        'mse_loss': 'MSELoss mse_loss',
        'multipos_cross_entropy_loss': 'MultiPosCrossEntropyLoss',
        'pisa_loss': 'carl_loss isr_p',
        'seesaw_loss': 'SeesawLoss seesaw_ce_loss',
        'smooth_l1_loss': 'L1Loss SmoothL1Loss l1_loss smooth_l1_loss',
        'triplet_loss': 'TripletLoss',
        'varifocal_loss': 'VarifocalLoss varifocal_loss',
    },
)
