from __future__ import annotations

from mmdet.registry import DATASETS
from mmdet.utils.class_names import DEEPFASHION_CLASSES, DEEPFASHION_PALETTE

from .coco import CocoDataset


@DATASETS.register_module()
class DeepFashionDataset(CocoDataset):
    """DeepFashion in-shop clothes retrieval, with its 15 segmented parts in COCO format."""

    METAINFO = dict(classes=DEEPFASHION_CLASSES, palette=DEEPFASHION_PALETTE)
