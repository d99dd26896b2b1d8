from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'cityscapes_metric': 'CityScapesMetric',
        'coco_metric': 'CocoMetric',
        'coco_occluded_metric': 'CocoOccludedSeparatedMetric',
        'coco_panoptic_metric': 'CocoPanopticMetric',
        'crowdhuman_metric': 'CrowdHumanMetric',
        'dump_det_results': 'DumpDetResults',
        'dump_proposals_metric': 'DumpProposals',
        'lvis_metric': 'LVISFixedAPMetric LVISMetric',
        'openimages_metric': 'OpenImagesMetric',
        'semseg_metric': 'SemSegMetric',
        'voc_metric': 'VOCMetric',
        'wider_face_metric': 'WIDERFaceMetric',
    },
)
