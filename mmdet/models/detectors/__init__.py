from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'base': 'BaseDetector',
        'single_stage': 'ATSS AutoAssign FCOS FSAF GFL PAA RepPointsDetector RetinaFace RetinaNet SingleStageDetector',
        'two_stage': 'CascadeRCNN FastRCNN FasterRCNN HybridTaskCascade MaskRCNN RPN TwoStageDetector',
    },
)
