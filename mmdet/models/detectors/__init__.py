from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'base': 'BaseDetector',
        'd2_wrapper': 'Detectron2Wrapper',
        'kd_one_stage': 'KnowledgeDistillationSingleStageDetector LAD',
        'base_detr': 'DetectionTransformer',
        'ddq_detr': 'DDQDETR',
        'deformable_detr': 'DeformableDETR',
        'detr': 'ConditionalDETR DABDETR DETR',
        'panoptic_two_stage_segmentor': 'PanopticFPN TwoStagePanopticSegmentor',
        'maskformer': 'Mask2Former MaskFormer',
        'soft_teacher': 'SoftTeacher',
        'sparse_rcnn': 'QueryInst SparseRCNN',
        'dino': 'DINO',
        'glip': 'GLIP',
        'grounding_dino': 'GroundingDINO',
        'lwdetr': 'LWDETR RFDETRSeg',
        'rtdetr': 'DEIMv2 DFINE RTDETR',
        'semi_base': 'SemiBaseDetector',
        'single_stage': (
            'ATSS AutoAssign CenterNet CornerNet DDOD FCOS FOVEA FSAF GFL NASFCOS PAA RTMDet RepPointsDetector '
            'RetinaFace RetinaNet SingleStageDetector TOOD VFNet YOLOF YOLOV3 YOLOX'
        ),
        'single_stage_instance_seg': 'BoxInst CondInst SOLO SOLOv2 SingleStageInstanceSegmentor YOLACT',
        'trident_faster_rcnn': 'TridentFasterRCNN',
        'two_stage': (
            'CascadeRCNN CrowdDet FastRCNN FasterRCNN GridRCNN HybridTaskCascade MaskRCNN MaskScoringRCNN PointRend '
            'RPN SCNet TwoStageDetector'
        ),
    },
)
