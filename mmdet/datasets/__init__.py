from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'transforms': '',
        'samplers': '',
        'base_det_dataset': 'BaseDetDataset',
        'builder': 'PIPELINES build_dataset',
        'cityscapes': 'CityscapesDataset',
        'coco': 'CocoDataset',
        'coco_panoptic': 'CocoPanopticDataset',
        'crowdhuman': 'CrowdHumanDataset',
        'dataset_wrappers': 'ClassBalancedDataset ConcatDataset MultiImageMixDataset RepeatDataset',
        'deepfashion': 'DeepFashionDataset',
        'lvis': 'LVISDataset LVISV05Dataset LVISV1Dataset',
        'openimages': 'OpenImagesChallengeDataset OpenImagesDataset',
        'objects365': 'Objects365V1Dataset Objects365V2Dataset',
        'utils': 'get_loading_pipeline',
        'v3det': 'V3DetDataset',
        'voc': 'VOCDataset',
        'wider_face': 'WIDERFaceDataset',
        'xml_style': 'XMLDataset',
    },
)
