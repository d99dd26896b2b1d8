from __future__ import annotations

import os.path as osp

from mmdet.registry import DATASETS
from mmdet.utils.class_names import COCO_CLASSES, COCO_PALETTE, COCO_STUFF_CLASSES, COCO_STUFF_PALETTE

from .api_wrappers import COCOPanoptic
from .coco import CocoDataset
from .reading.report import kind_of_thin


@DATASETS.register_module()
class CocoPanopticDataset(CocoDataset):
    """COCO panoptic segmentation: ``segments_info`` (``id``, ``category``, ``is_thing``) beside the instances.

    Args:
        data_prefix: ``img`` and ``seg``, the folder of the PNG files.
    """

    METAINFO = dict(
        classes=(*COCO_CLASSES, *COCO_STUFF_CLASSES),
        thing_classes=COCO_CLASSES,
        stuff_classes=COCO_STUFF_CLASSES,
        palette=[*COCO_PALETTE, *COCO_STUFF_PALETTE],
    )
    COCOAPI = COCOPanoptic
    ANN_ID_UNIQUE = False

    def __init__(
        self,
        ann_file: str = '',
        metainfo: dict | None = None,
        data_root: str | None = None,
        data_prefix: dict = dict(img=None, ann=None, seg=None),
        filter_cfg: dict | None = None,
        indices=None,
        serialize_data: bool = True,
        pipeline: list = [],
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 1000,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(
            ann_file=ann_file,
            metainfo=metainfo,
            data_root=data_root,
            data_prefix={key: prefix for key, prefix in data_prefix.items() if prefix is not None},
            filter_cfg=filter_cfg,
            indices=indices,
            serialize_data=serialize_data,
            pipeline=pipeline,
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
            backend_args=backend_args,
            **kwargs,
        )

    @property
    def loads_masks(self) -> bool:
        """False: masks are in the PNG files."""
        return False

    def _number_classes(self) -> None:
        super()._number_classes()
        self._is_thing = {category['id']: bool(category.get('isthing', 1)) for category in self._categories()}

    def parse_data_info(self, raw_data_info: dict) -> dict:
        image = raw_data_info['raw_img_info']
        info = self._image_fields(image)
        seg_prefix = self.data_prefix.get('seg')
        png = image.get('segm_file') or osp.splitext(image['file_name'])[0] + '.png'
        info['seg_map_path'] = osp.join(seg_prefix, png) if seg_prefix else None
        info['instances'], info['segments_info'] = [], []
        for segment in raw_data_info['raw_ann_info']:
            x, y, w, h = segment['bbox']
            if segment['category_id'] not in self.cat2label:
                self._left_out('not among the classes')
                continue
            if w < 1 or h < 1:
                self._left_out(kind_of_thin(w, h))
                continue
            label = self.cat2label[segment['category_id']]
            is_thing = self._is_thing[segment['category_id']]
            crowd = int(bool(segment.get('iscrowd', False)))
            if is_thing:
                info['instances'].append(dict(bbox=[x, y, x + w, y + h], bbox_label=label, ignore_flag=crowd))
            entry = dict(id=segment['id'], category=label, is_thing=is_thing)
            info['segments_info'].append({**entry, **(dict(iscrowd=1) if crowd else {})})
        return info

    def _empty_rule(self):
        return lambda info: not any(segment['is_thing'] for segment in info['segments_info'])
