from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'batch_augments': 'BatchFixedSizePad BatchResize BatchSyncRandomResize',
        'data_preprocessor': (
            'BoxInstDataPreprocessor DetDataPreprocessor MultiBranchDataPreprocessor boxes_to_tensors to_device'
        ),
    },
)
