from __future__ import annotations

from mmdet.registry import DATASETS
from mmdet.utils.class_names import CITYSCAPES_CLASSES, CITYSCAPES_PALETTE

from .coco import CocoDataset


@DATASETS.register_module()
class CityscapesDataset(CocoDataset):
    """Cityscapes instances in COCO format; an image whose boxes are all crowds counts as empty."""

    METAINFO = dict(classes=CITYSCAPES_CLASSES, palette=CITYSCAPES_PALETTE)

    def _empty_rule(self):
        unannotated = super()._empty_rule()
        return lambda info: unannotated(info) or all(x['ignore_flag'] == 1 for x in info['instances'])
