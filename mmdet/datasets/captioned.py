"""COCO files whose pictures have a caption each, as MDETR (arXiv:2104.12763) writes them."""

from __future__ import annotations

import os.path as osp
from collections.abc import Sequence
from typing import Any

from mmengine.fileio import get_local_path

from mmdet.errors import UserValueError

from .api_wrappers import COCO
from .base_det_dataset import BaseDetDataset
from .raw import RawAnnotations, parsed_annotations
from .reading.coco_file import read_json, require
from .reading.report import Report
from .reading.values import short

NO_TARGET = -1
"""Category of an annotation that says that the caption names nothing in the picture (gRefCOCO, arXiv:2308.16182)."""


def read_checked(dataset: BaseDetDataset, image_keys: Sequence[str] = (), annotation_keys: Sequence[str] = ()) -> COCO:
    """The COCO file of a data set, with ids, sizes and boxes checked, and no object left out.

    Args:
        image_keys: What an image must have besides ``id`` and ``file_name``.
        annotation_keys: What an annotation must have besides ids and ``bbox``.

    Raises:
        UserError: naming the file, the entry and the key.
    """
    source = str(dataset.ann_file)
    with get_local_path(source, backend_args=dataset.backend_args) as local:
        content = read_json(str(local), source)
    dataset.report = Report(source)
    coco = COCO()
    coco.annotation_file, coco.dataset = source, content
    coco.IMAGE_KEYS = ('id', 'file_name', *image_keys)
    require(content, ('images', 'annotations', 'categories'), 'the file', source)
    _admit_no_target(content)
    coco.check(dataset.report)
    folder = dataset.data_prefix.get('img') or ''
    coco.checked.sizes(lambda image: dataset._picture_size(osp.join(folder, image['file_name'])))
    coco.set_entries(coco.checked.boxes(coco.entries()))
    for number, annotation in enumerate(coco.entries(), start=1):
        require(annotation, annotation_keys, f'annotation {annotation.get("id", number)!r}', source)
    dataset.report.raise_refused()
    coco.createIndex()
    return coco


def _admit_no_target(content: Any) -> None:
    annotations, categories = content['annotations'], content['categories']
    if not isinstance(annotations, list) or not isinstance(categories, list):
        return  # which the check tells
    used = any(isinstance(entry, dict) and entry.get('category_id') == NO_TARGET for entry in annotations)
    if used and not any(isinstance(entry, dict) and entry.get('id') == NO_TARGET for entry in categories):
        content['categories'] = [*categories, dict(id=NO_TARGET, name='no target')]


class CaptionedDataset(BaseDetDataset):
    """Base of data sets whose ``text`` is the ``caption`` of an image in a COCO file."""

    ALL_STAY = True
    IMAGE_KEYS: tuple[str, ...] = ()
    """What an image must have besides ``caption``."""

    def load_data_list(self) -> list[dict]:
        coco = read_checked(self, ('caption', *self.IMAGE_KEYS))
        return [self._sample(coco.imgs[own], coco.img_ann_map.get(own, [])) for own in self._order(coco.get_img_ids())]

    def _order(self, ids: list) -> list:
        return ids

    def _sample(self, image: dict, annotations: list[dict]) -> dict:
        caption = image['caption']
        if not isinstance(caption, str):
            raise UserValueError(f'{self.ann_file}: image {image["id"]!r} has the caption {short(caption)}, not text')
        return dict(
            img_path=osp.join(self.data_prefix.get('img') or '', image['file_name']),
            img_id=image['id'],
            height=image['height'],
            width=image['width'],
            text=caption,
            instances=[self._instance(annotation) for annotation in annotations],
        )

    def _instance(self, annotation: dict) -> dict:
        x, y, w, h = annotation['bbox']
        flag = annotation.get('iscrowd', 0)
        return dict(bbox=[x, y, x + w, y + h], bbox_label=annotation['category_id'], ignore_flag=flag)

    def raw_annotations(self) -> RawAnnotations:
        return parsed_annotations(self, lambda sample, instance: 'object' if instance['bbox_label'] >= 0 else None)
