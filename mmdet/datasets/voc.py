from __future__ import annotations

from mmdet.registry import DATASETS
from mmdet.utils.class_names import VOC_CLASSES, VOC_PALETTE

from .xml_style import XMLDataset


@DATASETS.register_module()
class VOCDataset(XMLDataset):
    """PASCAL VOC 2007 and 2012; which of the two is read from ``data_prefix['sub_data_root']``."""

    METAINFO = dict(classes=VOC_CLASSES, palette=VOC_PALETTE)

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        years = [name for name in ('VOC2007', 'VOC2012') if name in self.sub_data_root]
        self._metainfo['dataset_type'] = years[0] if years else None
