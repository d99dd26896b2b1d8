from __future__ import annotations

from mmdet.registry import DATASETS

from .lvis import NamesFromFile


@DATASETS.register_module()
class V3DetDataset(NamesFromFile):
    """V3Det (arXiv:2304.03752). Its 13,204 class names are read from the annotation file, in the order of ids."""

    ANN_ID_UNIQUE = False
