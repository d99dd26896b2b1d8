from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'base_bbox_coder': 'BaseBBoxCoder clamp_boxes',
        'delta_xywh_bbox_coder': 'DeltaXYWHBBoxCoder bbox2delta delta2bbox',
        'distance_point_bbox_coder': 'DistancePointBBoxCoder',
        'landmark_coder': 'LandmarkCoder',
        'pseudo_bbox_coder': 'PseudoBBoxCoder',
        'tblr_bbox_coder': 'AnchorPointBBoxCoder TBLRBBoxCoder bboxes2tblr tblr2bboxes',
        'yolo_bbox_coder': 'YOLOBBoxCoder',
    },
)
