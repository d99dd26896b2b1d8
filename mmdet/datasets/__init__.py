from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'transforms': '',
        'samplers': '',
        'ade20k': 'ADE20KInstanceDataset ADE20KPanopticDataset ADE20KSegDataset',
        'base_det_dataset': 'BaseDetDataset',
        'base_semseg_dataset': 'BaseSegDataset',
        'builder': 'PIPELINES build_dataset',
        'cityscapes': 'CityscapesDataset',
        'coco': 'CocoDataset',
        'coco_panoptic': 'CocoPanopticDataset',
        'coco_semantic': 'CocoSegDataset',
        'crowdhuman': 'CrowdHumanDataset',
        'dataset_wrappers': 'ClassBalancedDataset ConcatDataset MultiImageMixDataset RepeatDataset',
        'deepfashion': 'DeepFashionDataset',
        'isaid': 'iSAIDDataset',
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
