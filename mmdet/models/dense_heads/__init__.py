from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'anchor_head': 'AnchorHead',
        'anchor_free_head': 'AnchorFreeHead',
        'atss_head': 'ATSSHead',
        'autoassign_head': 'AutoAssignHead CenterPrior',
        'base_dense_head': 'BaseDenseHead',
        'fcos_head': 'FCOSHead',
        'fsaf_head': 'FSAFHead',
        'gfl_head': 'GFLHead Integral',
        'paa_head': 'PAAHead',
        'reppoints_head': 'RepPointsHead',
        'retinaface_head': 'RetinaFaceHead',
        'rtmdet_head': 'RTMDetHead RTMDetSepBNHead',
        'ssd_head': 'SSDHead',
        'rpn_head': 'RPNHead',
        'retina_head': 'RetinaHead RetinaSepBNHead',
        'tood_head': 'TOODHead TaskDecomposition',
        'yolox_head': 'YOLOXHead',
    },
)
