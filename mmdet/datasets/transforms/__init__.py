from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'center_crop_pad': 'RandomCenterCropPad',
        'colorspace': (
            'AutoContrast Brightness Color ColorTransform Contrast Equalize Invert PhotoMetricDistortion Posterize '
            'Sharpness Solarize SolarizeAdd YOLOXHSVRandomAug'
        ),
        'erase': 'CutOut RandomErasing',
        'formatting': 'ImageToTensor PackDetInputs ToTensor Transpose WrapFieldsToLists',
        'geometric': 'GeomTransform RandomAffine Rotate ShearX ShearY TranslateX TranslateY',
        'instaboost': 'InstaBoost',
        'loading': (
            'FilterAnnotations InferencerLoader LoadAnnotations LoadEmptyAnnotations LoadImageFromFile '
            'LoadImageFromNDArray LoadMultiChannelImageFromFiles LoadPanopticAnnotations LoadProposals'
        ),
        'mix': 'CachedCopyBlend CachedMixUp CachedMosaic CopyPaste MixUp Mosaic',
        'resize': 'FixScaleResize FixShapeResize RandomChoiceResize RandomResize Resize ResizeShortestEdge',
        'spatial': 'Expand MinIoURandomCrop Pad RandomCrop RandomFlip RandomShift SegRescale',
        'text_transformers': 'LoadTextAnnotations RandomSamplingNegPos',
        'third_party': 'Albu Corrupt',
        'transformers_glip': 'GTBoxSubOne_GLIP RandomFlip_GLIP',
        'wrappers': 'AutoAugment MultiBranch ProposalBroadcaster RandAugment RandomOrder',
    },
)
