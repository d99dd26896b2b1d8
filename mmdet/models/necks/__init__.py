from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'bfp': 'BFP',
        'c2f_projector': 'C2fProjector',
        'channel_mapper': 'ChannelMapper',
        'ct_resnet_neck': 'CTResNetNeck',
        'dfine_hybrid_encoder': 'DFINEHybridEncoder',
        'dilated_encoder': 'DilatedEncoder',
        'dyhead': 'DyHead',
        'fpg': 'FPG',
        'fpn': 'FPN',
        'fpn_carafe': 'FPN_CARAFE',
        'fpn_dropblock': 'FPN_DropBlock',
        'hrfpn': 'HRFPN',
        'hybrid_encoder': 'HybridEncoder',
        'nas_fpn': 'NASFPN',
        'nasfcos_fpn': 'NASFCOS_FPN',
        'pafpn': 'PAFPN',
        'rfp': 'RFP',
        'simple_fpn': 'SimpleFPN',
        'ssd_neck': 'SSDNeck',
        'ssh': 'SSH',
        'yolo_neck': 'YOLOV3Neck',
        'yolox_pafpn': 'CSPNeXtPAFPN YOLOXPAFPN',
    },
)
