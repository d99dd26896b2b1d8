from __future__ import annotations

from mmdet.registry import DATASETS

from .coco import CocoDataset
from .palettes import DEEPFASHION_CLASSES, DEEPFASHION_PALETTE


@DATASETS.register_module()
class DeepFashionDataset(CocoDataset):
    """DeepFashion in-shop clothes retrieval, with its 15 segmented parts in COCO format."""

    METAINFO = dict(classes=DEEPFASHION_CLASSES, palette=DEEPFASHION_PALETTE)
