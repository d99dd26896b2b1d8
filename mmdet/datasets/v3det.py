from __future__ import annotations

import os.path as osp

from mmdet.registry import DATASETS

from .lvis import NamesFromFile


@DATASETS.register_module()
class V3DetDataset(NamesFromFile):
    """V3Det (arXiv:2304.03752) with 13,204 classes.

    Args:
        label_file: Names of the classes below ``data_root``, one in a line. Without such a file, or with ``metainfo``,
            they are read from the annotation file, in the order of ids.
    """

    ANN_ID_UNIQUE = False

    def __init__(
        self,
        *args,
        metainfo: dict | None = None,
        data_root: str = '',
        label_file: str | None = 'annotations/category_name_13204_v3det_2023_v1.txt',
        **kwargs,
    ) -> None:
        path = label_file and osp.join(data_root or '', label_file)
        if metainfo is None and path and osp.isfile(path):
            with open(path, encoding='utf-8') as file:
                metainfo = dict(classes=tuple(file.read().splitlines()))
        super().__init__(*args, metainfo=metainfo, data_root=data_root, **kwargs)
