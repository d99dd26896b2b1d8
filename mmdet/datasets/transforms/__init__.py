from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'formatting': 'ImageToTensor PackDetInputs ToTensor Transpose WrapFieldsToLists',
        'loading': (
            'FilterAnnotations InferencerLoader LoadAnnotations LoadEmptyAnnotations LoadImageFromFile '
            'LoadImageFromNDArray LoadMultiChannelImageFromFiles LoadPanopticAnnotations LoadProposals'
        ),
        'resize': 'FixScaleResize FixShapeResize RandomChoiceResize RandomResize Resize ResizeShortestEdge',
        'spatial': 'Expand MinIoURandomCrop Pad RandomCrop RandomFlip RandomShift SegRescale',
    },
)
