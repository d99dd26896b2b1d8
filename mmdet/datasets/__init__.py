from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'transforms': '',
        'samplers': '',
        'base_det_dataset': 'BaseDetDataset',
        'coco': 'CocoDataset',
    },
)
