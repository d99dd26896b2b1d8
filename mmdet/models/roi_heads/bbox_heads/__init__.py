from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'bbox_head': 'BBoxHead',
        'convfc_bbox_head': 'ConvFCBBoxHead Shared2FCBBoxHead Shared4Conv1FCBBoxHead',
        'dii_head': 'DIIHead',
        'double_bbox_head': 'DoubleConvFCBBoxHead',
        'multi_instance_bbox_head': 'MultiInstanceBBoxHead',
        'sabl_head': 'SABLHead',
        'scnet_bbox_head': 'SCNetBBoxHead',
    },
)
