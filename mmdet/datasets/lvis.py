"""LVIS (arXiv:1908.03195). Its 1,230 and 1,203 class names are read from the annotation file, in the order of ids."""

from __future__ import annotations

from mmdet.registry import DATASETS

from .api_wrappers import COCO
from .coco import CocoDataset


class NamesFromFile(CocoDataset):
    """COCO format with class names from the annotation file, numbered by category id."""

    METAINFO = dict(classes=None, palette=None)

    def _categories(self) -> list[dict]:
        return sorted(super()._categories(), key=lambda category: category['id'])


@DATASETS.register_module(name=['LVISV05Dataset', 'LVISDataset'])
class LVISV05Dataset(NamesFromFile):
    """LVIS 0.5."""

    def _named(self, image: dict) -> dict:
        if image['file_name'].startswith('COCO'):  # COCO_val2014_000000xxxxxx.jpg lies as 000000xxxxxx.jpg
            image['file_name'] = image['file_name'][-16:]
        return image


LVISDataset = LVISV05Dataset


class _LVISV1(COCO):
    IMAGE_KEYS = ('id', 'coco_url')


@DATASETS.register_module()
class LVISV1Dataset(NamesFromFile):
    """LVIS 1.0, whose images are named by their URL: train and val lie in COCO's train2017 and val2017."""

    COCOAPI = _LVISV1

    def _named(self, image: dict) -> dict:
        image['file_name'] = image['coco_url'].replace('http://images.cocodataset.org/', '')
        return image
