from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'class_names': 'cityscapes_classes coco_classes coco_panoptic_classes dataset_aliases get_classes '
        'imagenet_vid_classes voc_classes wider_face_classes',
        'cityscapes_utils': 'evaluateImgLists',
        'coco_eval': 'class_score_thresholds evaluate_coco load_coco',
        'diagnostics': 'calibration confusion_matrix error_types precision_recall_curves',
        'mean_ap': 'average_precision eval_map print_map_summary tpfp_default tpfp_imagenet tpfp_openimages',
        'overlaps': 'bbox_overlaps',
        'panoptic': 'INSTANCE_OFFSET PQStat pq_compute_multi_core pq_compute_single_core',
        'recall': 'eval_recalls plot_iou_recall plot_num_recall print_recall_summary set_recall_param',
    },
)
