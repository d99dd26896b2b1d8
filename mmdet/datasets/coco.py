from __future__ import annotations

import os.path as osp

from mmengine.fileio import get_local_path

from mmdet.errors import UserValueError
from mmdet.registry import DATASETS
from mmdet.utils.class_names import COCO_CLASSES, COCO_PALETTE

from .api_wrappers import COCO
from .base_det_dataset import BaseDetDataset
from .class_order import resolve_classes
from .raw import RawAnnotations, RawBox, RawFault, RawPicture
from .reading.coco_file import name_of, read_json
from .reading.report import Finding, Report, kind_of_thin
from .reading.values import as_size


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
    _masks_needed = False

    def __init__(self, *args, class_order: str | None = None, **kwargs) -> None:
        self.class_order = class_order
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict for each image, in the order of the file."""
        self.report = Report(self.ann_file)
        self._masks_needed = bool(self.loads_masks)
        entries = self._read_index(self.report)
        self._number_classes()
        self._refuse_orphans(len(entries))
        self.report.raise_refused()
        data_list = []
        for image in map(self._image_info, self.coco.get_img_ids()):
            info = self.parse_data_info(
                dict(raw_ann_info=self.coco.img_ann_map.get(image['img_id'], []), raw_img_info=image)
            )
            data_list.append(info)
        self.cat_img_map = {cat: images for cat, images in self.coco.cat_img_map.items() if cat in self.cat2label}
        del self.coco
        return data_list

    def _read_index(self, report: Report) -> list[dict]:
        """Read the file into ``coco``, checked; returns its objects."""
        with get_local_path(self.ann_file, backend_args=self.backend_args) as local_path:
            content = read_json(str(local_path), self.ann_file)
        self.coco = self.COCOAPI()
        self.coco.annotation_file, self.coco.dataset = self.ann_file, content
        self.coco.check(report, unique=self.ANN_ID_UNIQUE)
        if not self.test_mode:
            self.coco._require(content, ('annotations',), 'the file')
        check = self.coco.checked
        for image in content['images']:
            self._repair_name(image, report)
        check.sizes(self._measured)
        entries = check.boxes(self.coco.entries())
        if self.loads_masks is not False:
            entries = check.masks(entries, needed=bool(self.loads_masks) and not self.test_mode)
        self.coco.set_entries(entries)
        self.coco.createIndex()
        return entries

    def _measured(self, image: dict) -> dict[str, int]:
        return self._picture_size(self._image_fields(self._named(dict(image, img_id=image['id'])))['img_path'])

    def _repair_name(self, image: dict, report: Report) -> None:
        """A path of another machine or system, where the picture lies under the prefix."""
        name = image.get('file_name')
        if not isinstance(name, str) or not ('\\' in name or name.startswith('/')):
            return
        prefix = self.data_prefix.get('img') or ''
        if '://' in prefix or osp.isfile(osp.join(prefix, name)):
            return
        parts = [part for part in name.replace('\\', '/').split('/') if part]
        for start in range(len(parts)):
            shorter = '/'.join(parts[start:])
            if osp.isfile(osp.join(prefix, shorter)):
                image['file_name'] = shorter
                detail = f'has the file name {name!r}, found as {shorter!r}'
                report.add(Finding('file name of another system', shorter, f'image {image["id"]!r}', detail, name))
                return

    def _refuse_orphans(self, count: int) -> None:
        for kind, key, ids in (
            ('orphan image id', 'image_id', self.coco.imgs),
            ('orphan category id', 'category_id', self.coco.cats),
        ):
            if ids and count and self.report.counts[kind] == count:
                example = next(f for f in self.report.findings if f.kind == kind)
                listed = ', '.join(repr(own) for own in list(ids)[:3])
                raise UserValueError(
                    f'{self.ann_file}: no annotation has the {key} of an entry of the file, which lists {listed}, ...; '
                    f'{example.entry} {example.detail}'
                )

    def raw_annotations(self) -> RawAnnotations:
        report = Report(self.ann_file, limit=None)
        entries = self._read_index(report)
        names = {category['id']: str(category['name']) for category in self.coco.cats.values()}
        raw = RawAnnotations(self.ann_file, list(names.values()), report=report)
        pictures = {}
        for own in self.coco.get_img_ids():
            image = self._named(dict(self.coco.imgs[own], img_id=own))
            size = as_size(image.get('height'), image.get('width'))
            path = self._image_fields(image)['img_path']
            pictures[own] = RawPicture(image['file_name'], path, size and (size[1], size[0]))
        raw.pictures += pictures.values()
        for number, ann in enumerate(entries):
            picture = pictures.get(ann['image_id'])
            if picture is None:
                continue
            if ann.get('id') == 0:
                detail = "annotation 0: COCO's own tools take this id for 'not matched', its detection for wrong"
                raw.faults.append(RawFault('annotation id 0', picture.name, detail, picture))
            x, y, w, h = ann['bbox']
            picture.boxes.append(
                RawBox(
                    xyxy=(x, y, x + w, y + h),
                    category=names.get(ann['category_id'], str(ann['category_id'])),
                    label=name_of(ann, number),
                    segmentation=ann.get('segmentation'),
                    crowd=bool(ann.get('iscrowd')),
                    xywh=(x, y, w, h),
                )
            )
        raw.take_faults(pictures)
        del self.coco
        return raw

    def _image_info(self, img_id: int) -> dict:
        return self._named(dict(self.coco.imgs[img_id], img_id=img_id))

    def _named(self, image: dict) -> dict:
        """An entry of ``images`` with the ``file_name`` under which its picture lies."""
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
            height=image.get('height'),
            width=image.get('width'),
            **self._text_fields(),
        )

    def _parse_instance(self, ann: dict, image: dict) -> dict | None:
        x, y, w, h = ann['bbox']
        reason = ''
        if ann.get('ignore', False):
            reason = 'marked to be ignored'
        elif ann['category_id'] not in self.cat2label:
            reason = 'not among the classes'
        elif w < 1 or h < 1:
            reason = kind_of_thin(w, h)
        elif min(x + w, image['width']) <= max(x, 0) or min(y + h, image['height']) <= max(y, 0):
            reason = 'box outside'
        if reason:
            self._left_out(reason)
            return None
        instance = dict(
            ignore_flag=1 if ann.get('iscrowd', False) else 0,
            bbox=[x, y, x + w, y + h],
            bbox_label=self.cat2label[ann['category_id']],
        )
        if ann.get('segmentation') or self._masks_needed:
            instance['mask'] = ann.get('segmentation') or []  # LoadAnnotations ignores objects without a usable one
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
