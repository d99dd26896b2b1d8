from __future__ import annotations

import os.path as osp
from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.fileio import get_local_path

from mmdet.errors import UserValueError
from mmdet.registry import DATASETS
from mmdet.utils.class_names import COCO_CLASSES, COCO_PALETTE

from .api_wrappers import COCO
from .base_det_dataset import BaseDetDataset
from .class_order import resolve_classes
from .raw import RawAnnotations, RawBox, RawFault, RawPicture


@DATASETS.register_module()
class CocoDataset(BaseDetDataset):
    """Images and boxes of a COCO JSON file (https://cocodataset.org/#format-data).

    Boxes that the file marks ``ignore``, that lie outside their image, are thinner than a pixel or of a category that
    is not in ``metainfo['classes']`` are left out. Crowds get ``ignore_flag=1``.

    Args:
        class_order: What rules when ``metainfo['classes']`` and the file name or order the classes differently:
            ``'metainfo'`` or ``'annotation'``. By default such a difference is an error; a part of the file's
            classes in the file's order is no difference. See :func:`mmdet.datasets.class_order.resolve_classes`.

    ``metainfo=dict(classes=None)`` takes the names from the file.
    """

    METAINFO: dict = dict(classes=COCO_CLASSES, palette=COCO_PALETTE)
    COCOAPI = COCO
    ANN_ID_UNIQUE = True

    def __init__(self, *args, class_order: str | None = None, **kwargs) -> None:
        self.class_order = class_order
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict for each image, in the order of the file."""
        self._read_index()
        self._number_classes()
        if self.ANN_ID_UNIQUE:
            self._check_annotation_ids()
        data_list = []
        for image in map(self._image_info, self.coco.get_img_ids()):
            info = self.parse_data_info(
                dict(raw_ann_info=self.coco.img_ann_map.get(image['img_id'], []), raw_img_info=image)
            )
            data_list.append(info)
        self.cat_img_map = {cat: images for cat, images in self.coco.cat_img_map.items() if cat in self.cat2label}
        del self.coco
        return data_list

    def _read_index(self) -> None:
        with get_local_path(self.ann_file, backend_args=self.backend_args) as local_path:
            self.coco = self.COCOAPI(str(local_path))
        self.coco.annotation_file = self.ann_file

    def raw_annotations(self) -> RawAnnotations:
        self._read_index()
        if not self.test_mode:
            self.coco._require(self.coco.dataset, ('annotations',), 'the file')
        names = {category['id']: str(category['name']) for category in self.coco.cats.values()}
        raw = RawAnnotations(self.ann_file, list(names.values()))
        pictures = {}
        for image in map(self._image_info, self.coco.get_img_ids()):
            path = self._image_fields(image)['img_path']
            pictures[image['img_id']] = RawPicture(image['file_name'], path, (image['width'], image['height']))
        raw.pictures += pictures.values()
        seen: set = set()
        for ann in self._raw_entries():
            picture = pictures.get(ann['image_id'])
            raw.faults += self._faults_of(ann, picture, names, seen)
            seen.add(ann['id'])
            numbers = _numbers(ann.get('bbox'))
            if picture is not None and numbers is not None:
                x, y, w, h = numbers
                picture.boxes.append(
                    RawBox(
                        xyxy=(x, y, x + w, y + h),
                        category=names.get(ann['category_id'], str(ann['category_id'])),
                        label=f'annotation {ann["id"]}',
                        segmentation=ann.get('segmentation'),
                        crowd=bool(ann.get('iscrowd')),
                        xywh=(x, y, w, h),
                    )
                )
        del self.coco
        return raw

    def _raw_entries(self) -> Iterable[dict]:
        return self.coco.dataset.get('annotations', ())

    def _faults_of(self, ann: dict, picture: RawPicture | None, names: dict, seen: set) -> Iterator[RawFault]:
        """What is wrong with an annotation beside its numbers; ``seen`` are the ids before it."""
        label, where = f'annotation {ann["id"]}', osp.basename(self.ann_file) if picture is None else picture.name
        if ann['id'] in seen and self.ANN_ID_UNIQUE:
            detail = f'{label} comes twice; COCO tools keep the last one only'
            yield RawFault('repeated annotation id', where, detail, picture)
        elif ann['id'] == 0:
            detail = "COCO's evaluation takes 0 for 'not matched' and counts a detection of that object as wrong"
            yield RawFault('annotation id 0', where, detail, picture)
        if picture is None:
            detail = f'{label} belongs to image {ann["image_id"]!r}, which the file does not have'
            yield RawFault('orphan image id', where, detail)
            return
        if ann['category_id'] not in names:
            detail = f'{label} has category {ann["category_id"]!r}, which the file does not have'
            yield RawFault('orphan category id', where, detail, picture)
        if _numbers(ann.get('bbox')) is None:
            yield RawFault('unreadable annotation', where, f'{label} has the box {ann.get("bbox")!r}', picture)

    def _image_info(self, img_id: int) -> dict:
        image = dict(self.coco.imgs[img_id], img_id=img_id)
        self.coco._require(image, ('height', 'width'), 'an entry of "images"')
        return image

    def _number_classes(self) -> None:
        """Set ``cat_ids`` (in label order) and ``cat2label``."""
        categories = self._categories()
        before = self._metainfo.get('classes')
        if before is None:
            before = tuple(category['name'] for category in categories)
        names, self.cat2label = resolve_classes(before, categories, self.class_order, self.ann_file)
        self._metainfo['classes'] = names
        palette = self._metainfo.get('palette')
        if isinstance(palette, (list, tuple)) and len(palette) >= len(before) and names != tuple(before):
            colors = dict(zip(before, palette, strict=False))
            self._metainfo['palette'] = [colors[name] for name in names]
        self.cat_ids = sorted(self.cat2label, key=self.cat2label.__getitem__)

    def _categories(self) -> list[dict]:
        return self.coco.dataset['categories']

    def _check_annotation_ids(self) -> None:
        entries = self.coco.dataset.get('annotations')
        if entries is None and not self.test_mode:
            self.coco._require(self.coco.dataset, ('annotations',), 'the file')
        seen: set = set()
        for ann in entries or ():
            if ann['id'] in seen:
                raise UserValueError(f'{self.ann_file}: the annotation ids are not unique! {ann["id"]} is given twice')
            seen.add(ann['id'])

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """A sample from ``raw_img_info`` (an entry of ``images`` with ``img_id``) and ``raw_ann_info`` (its boxes)."""
        image = raw_data_info['raw_img_info']
        info = self._image_fields(image)
        info['instances'] = [
            instance for ann in raw_data_info['raw_ann_info'] if (instance := self._parse_instance(ann, image))
        ]
        return info

    def _image_fields(self, image: dict) -> dict:
        prefix, seg_prefix = self.data_prefix.get('img') or '', self.data_prefix.get('seg')
        seg_map = osp.splitext(image['file_name'])[0] + self.seg_map_suffix
        return dict(
            img_path=osp.join(prefix, image['file_name']),
            img_id=image['img_id'],
            seg_map_path=osp.join(seg_prefix, seg_map) if seg_prefix else None,
            height=image['height'],
            width=image['width'],
            **self._text_fields(),
        )

    def _parse_instance(self, ann: dict, image: dict) -> dict | None:
        if ann.get('ignore', False) or ann['category_id'] not in self.cat2label:
            return None
        self.coco._require(ann, ('bbox',), 'an entry of "annotations"')
        x, y, w, h = ann['bbox']
        inside_w = min(x + w, image['width']) - max(x, 0)
        inside_h = min(y + h, image['height']) - max(y, 0)
        if inside_w <= 0 or inside_h <= 0 or w < 1 or h < 1 or ann.get('area', w * h) <= 0:
            return None
        instance = dict(
            ignore_flag=1 if ann.get('iscrowd', False) else 0,
            bbox=[x, y, x + w, y + h],
            bbox_label=self.cat2label[ann['category_id']],
        )
        if ann.get('segmentation'):
            instance['mask'] = ann['segmentation']
        if ann.get('keypoints'):
            instance['keypoints'] = ann['keypoints']
        return instance

    def filter_data(self) -> list[dict]:
        """Training samples after ``filter_cfg``: ``filter_empty_gt`` and ``min_size``."""
        if self.test_mode or self.filter_cfg is None:
            return self.data_list
        rules = {}
        if self.filter_cfg.get('filter_empty_gt', False):
            rules['filter_empty_gt (no annotation of the classes)'] = self._empty_rule()
        return self._filter({**rules, **self._size_rule()})

    def _empty_rule(self):
        annotated = {img_id for images in self.cat_img_map.values() for img_id in images}
        return lambda info: info['img_id'] not in annotated


def _numbers(box: Any) -> tuple[float, float, float, float] | None:
    """The four numbers of a box, or None where it is something else."""
    try:
        x, y, w, h = map(float, box)
    except (TypeError, ValueError):
        return None
    return x, y, w, h
