from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'base_bbox_coder': 'BaseBBoxCoder clamp_boxes clip_to_middles',
        'bucketing_bbox_coder': 'BucketingBBoxCoder bbox2bucket bucket2bbox generat_buckets',
        'delta_xywh_bbox_coder': 'DeltaXYWHBBoxCoder DeltaXYWHBBoxCoderForGLIP bbox2delta delta2bbox delta2bbox_glip',
        'distance_point_bbox_coder': 'DistancePointBBoxCoder',
        'landmark_coder': 'LandmarkCoder',
        'legacy_delta_xywh_bbox_coder': 'LegacyDeltaXYWHBBoxCoder legacy_bbox2delta legacy_delta2bbox',
        'pseudo_bbox_coder': 'PseudoBBoxCoder',
        'tblr_bbox_coder': 'AnchorPointBBoxCoder TBLRBBoxCoder bboxes2tblr tblr2bboxes',
        'yolo_bbox_coder': 'YOLOBBoxCoder',
    },
)
