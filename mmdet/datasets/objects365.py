"""Objects365 (ICCV 2019). Its 365 class names are read from the annotation file, in the order of ids."""

from __future__ import annotations

import os.path as osp

from mmdet.registry import DATASETS

from .lvis import NamesFromFile


@DATASETS.register_module()
class Objects365V1Dataset(NamesFromFile):
    """Objects365 v1."""


@DATASETS.register_module()
class Objects365V2Dataset(NamesFromFile):
    """Objects365 v2, whose images lie in folders ``patch*`` that only the last two parts of ``file_name`` name."""

    def _named(self, image: dict) -> dict:
        image['file_name'] = osp.join(osp.basename(osp.dirname(image['file_name'])), osp.basename(image['file_name']))
        return image
