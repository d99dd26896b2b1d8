from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'base_boxes': 'BaseBoxes',
        'bbox_overlaps': 'BboxOverlaps2D bbox_overlaps',
        'box_type': 'autocast_box_type convert_box_type get_box_type register_box register_box_converter',
        'horizontal_boxes': 'HorizontalBoxes',
        'transforms': (
            'bbox2corner bbox2distance bbox2result bbox2roi bbox_cxcyah_to_xyxy bbox_cxcywh_to_xyxy bbox_flip '
            'bbox_mapping bbox_mapping_back bbox_project bbox_rescale bbox_xyxy_to_cxcyah bbox_xyxy_to_cxcywh '
            'cat_boxes corner2bbox distance2bbox empty_box_as find_inside_bboxes get_box_tensor get_box_wh roi2bbox '
            'scale_boxes stack_boxes with_ends_moved'
        ),
    },
)

from mmdet.structures.bbox import horizontal_boxes  # noqa: E402, F401  (registers 'hbox')
