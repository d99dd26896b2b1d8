from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'cityscapes_metric': 'CityScapesMetric',
        'coco_caption_metric': 'COCOCaptionMetric',
        'coco_metric': 'CocoMetric',
        'coco_occluded_metric': 'CocoOccludedSeparatedMetric',
        'coco_panoptic_metric': 'CocoPanopticMetric',
        'crowdhuman_metric': 'CrowdHumanMetric',
        'dod_metric': 'DODCocoMetric',
        'dump_det_results': 'DumpDetResults',
        'dump_odvg_results': 'DumpODVGResults',
        'dump_proposals_metric': 'DumpProposals',
        'flickr30k_metric': 'Flickr30kMetric',
        'grefcoco_metric': 'gRefCOCOMetric',
        'lvis_metric': 'LVISFixedAPMetric LVISMetric',
        'openimages_metric': 'OpenImagesMetric',
        'ov_coco_metric': 'OVCocoMetric',
        'refexp_metric': 'RefExpMetric',
        'refseg_metric': 'RefSegMetric',
        'semseg_metric': 'SemSegMetric',
        'voc_metric': 'VOCMetric',
        'wider_face_metric': 'WIDERFaceMetric',
    },
)
