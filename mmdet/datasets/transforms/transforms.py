"""The names that stand in one module of this name in MMDetection 3.x."""

from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __package__,
    {
        'center_crop_pad': 'RandomCenterCropPad',
        'colorspace': 'PhotoMetricDistortion YOLOXHSVRandomAug',
        'erase': 'CutOut RandomErasing',
        'geometric': 'RandomAffine',
        'mix': 'CachedCopyBlend CachedMixUp CachedMosaic CopyPaste MixUp Mosaic',
        'resize': 'FixScaleResize FixShapeResize RandomChoiceResize RandomResize Resize ResizeShortestEdge',
        'spatial': 'Expand MinIoURandomCrop Pad RandomCrop RandomFlip RandomShift SegRescale',
        'third_party': 'Albu Corrupt',
    },
)
