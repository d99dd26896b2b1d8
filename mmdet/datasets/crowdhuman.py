from __future__ import annotations

import json
import os.path as osp

from mmengine.fileio import get_text

from mmdet.errors import UserValueError
from mmdet.registry import DATASETS

from .base_det_dataset import BaseDetDataset
from .reading.coco_file import read_json
from .reading.values import as_box, as_flag, as_size, short


@DATASETS.register_module()
class CrowdHumanDataset(BaseDetDataset):
    """CrowdHuman (arXiv:1805.00123), whose annotation file has one JSON object (``ID``, ``gtboxes``) in each line.

    The full-body boxes are used. What is marked to be ignored, or is no person, gets ``ignore_flag=1`` and label -1.

    Args:
        extra_ann_file: JSON file of [height, width] by id; ``id_hw_<split>.json`` beside the annotation file by
            default. Where there is none, sizes are read from the images.
    """

    METAINFO = dict(classes=('person',), palette=[(220, 20, 60)])

    def __init__(self, *args, extra_ann_file: str | None = None, **kwargs) -> None:
        self.extra_ann_file = extra_ann_file
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        lines = get_text(self.ann_file, backend_args=self.backend_args).splitlines()
        sizes = self._sizes()
        data_list = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                img_id, boxes = entry['ID'], entry['gtboxes']
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise UserValueError(
                    f'{self.ann_file!r}, line {number}: no object with ID and gtboxes: {error!r}'
                ) from error
            img_path = osp.join(self.data_prefix.get('img') or '', f'{img_id}.jpg')
            size = sizes[img_id] if img_id in sizes else self._picture_size(img_path)
            where = f'{self.ann_file!r}, line {number}'
            if not isinstance(boxes, list):
                raise UserValueError(f'{where}: gtboxes is {short(boxes)}, not a list')
            instances = [self._instance(box, f'{where}, object {i}') for i, box in enumerate(boxes, 1)]
            data_list.append(dict(img_path=img_path, img_id=img_id, **size, instances=instances))
        return data_list

    def _sizes(self) -> dict[str, dict[str, int]]:
        split = 'train' if 'train' in osp.basename(self.ann_file) else 'val'
        path = self.extra_ann_file or osp.join(osp.dirname(self.ann_file), f'id_hw_{split}.json')
        if not osp.isfile(path):
            return {}
        sizes = {}
        for img_id, hw in read_json(path).items():
            size = as_size(*hw) if isinstance(hw, list) and len(hw) == 2 else None
            if size is not None:  # else it is read from the picture
                sizes[img_id] = dict(height=size[0], width=size[1])
        return sizes

    def _instance(self, box: dict, where: str) -> dict:
        values = box.get('fbox') if isinstance(box, dict) else None
        numbers = as_box(values)
        if numbers is None or 'tag' not in box:
            raise UserValueError(f'{where} is {short(box)}, without a tag or four finite numbers as fbox')
        x, y, w, h = numbers
        classes = self._metainfo['classes']
        ignored = box['tag'] not in classes or as_flag((box.get('extra') or {}).get('ignore', 0)) != 0
        label = -1 if ignored else classes.index(box['tag'])
        return dict(bbox=[x, y, x + w, y + h], bbox_label=label, ignore_flag=int(ignored))

    def filter_data(self) -> list[dict]:
        """Training samples after ``filter_cfg``: ``filter_empty_gt`` and ``min_size``."""
        return self.data_list if self.test_mode or self.filter_cfg is None else self._filter(self._plain_rules())
