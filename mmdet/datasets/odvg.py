from __future__ import annotations

import os.path as osp
from typing import Any

from mmdet.errors import UserValueError
from mmdet.registry import DATASETS

from .base_det_dataset import BaseDetDataset
from .raw import RawAnnotations, parsed_annotations
from .reading.odvg_file import detection_of, grounding_of, read_label_map, read_lines
from .reading.report import Finding, Report, kind_of_thin
from .reading.values import as_size, short


@DATASETS.register_module()
class ODVGDataset(BaseDetDataset):
    """Detection or grounding data with texts (arXiv:2401.02361), see :mod:`mmdet.datasets.reading.odvg_file`.

    A sample has a ``dataset_mode``. With ``OD`` its ``text`` are the names of all classes by their label, which is a
    number as text; ``bbox_label`` is that number. With ``VG`` its ``text`` is a caption, and ``bbox_label`` the number
    of a region, whose ``phrase`` and ``tokens_positive`` (spans of letters) ``phrases`` has. Boxes that lie outside of
    their picture or are thinner than a pixel are left out.

    Args:
        label_map_file: JSON file of names by label, below ``data_root``; with it the file is one of detection.
        need_text: Whether samples of detection have ``text``. Without it ``RandomSamplingNegPos`` needs its own
            ``label_map_file``.

    Raises:
        UserValueError: ``return_classes`` is not set, or the file is of the other kind than ``label_map_file`` says.
    """

    def __init__(
        self, *args, data_root: str = '', label_map_file: str | None = None, need_text: bool = True, **kwargs
    ) -> None:
        self.dataset_mode = 'VG' if label_map_file is None else 'OD'
        self.label_map_file = label_map_file and osp.join(data_root or '', label_map_file)
        self.label_map: dict[str, str] | None = None
        self.need_text = need_text
        super().__init__(*args, data_root=data_root, **kwargs)
        if not self.return_classes:
            raise UserValueError('ODVGDataset gives texts with its pictures: set return_classes=True')

    def load_data_list(self) -> list[dict]:
        if not self.return_classes:
            raise UserValueError('ODVGDataset gives texts with its pictures: set return_classes=True')
        if self.label_map_file is not None:
            self.label_map = read_label_map(self.label_map_file, self.backend_args)
        parse = self._detection if self.dataset_mode == 'OD' else self._grounding
        data_list: list[dict] = []
        for number, record in read_lines(self.ann_file, self.backend_args):
            where = f'{self.ann_file!r}, line {number}'
            size = as_size(record['height'], record['width'])
            if size is None:
                given = f'{short(record["width"])}x{short(record["height"])}'
                raise UserValueError(f'{where}: width x height is {given}, which is no size of a picture')
            info = dict(
                img_path=osp.join(self.data_prefix.get('img') or '', record['filename']),
                img_id=len(data_list),
                height=size[0],
                width=size[1],
                dataset_mode=self.dataset_mode,
            )
            data_list.append({**info, **parse(record, info, where)})
        return data_list

    def _detection(self, record: dict, info: dict, where: str) -> dict:
        if 'detection' not in record and 'grounding' in record:
            raise UserValueError(
                f'{where}: has captions and no classes: leave out label_map_file={self.label_map_file!r}'
            )
        record.setdefault('detection', {})
        assert self.label_map is not None
        instances = []
        for number, entry in enumerate(detection_of(record, where), start=1):
            if str(entry['label']) not in self.label_map:
                raise UserValueError(
                    f'{where}, object {number}: label {entry["label"]} is not in {self.label_map_file!r}, which has '
                    f'{len(self.label_map)} classes'
                )
            instances += self._kept(entry['bbox'], entry['label'], info, f'{where}, object {number}')
        return dict(instances=instances)

    def _grounding(self, record: dict, info: dict, where: str) -> dict:
        if 'grounding' not in record:
            raise UserValueError(
                f"{where}: has no key 'grounding': {short(list(record))}. For files of detection, label_map_file says "
                'what the labels mean'
            )
        caption, regions = grounding_of(record, where)
        instances, phrases = [], {}
        for number, region in enumerate(regions):
            for box in region['bbox']:
                instances += self._kept(box, number, info, f'{where}, region {number + 1}')
            phrases[number] = dict(phrase=region['phrase'], tokens_positive=region['tokens_positive'])
        return dict(text=caption, instances=instances, phrases=phrases)

    def _kept(self, box: list[float], label: int, info: dict, where: str) -> list[dict]:
        """The instance of a box, in a list; none for a box that no detector can learn from."""
        x1, y1, x2, y2 = box
        kind = ''
        if min(x2, info['width']) <= max(x1, 0) or min(y2, info['height']) <= max(y1, 0):
            kind = 'box outside' if x2 > x1 and y2 > y1 else 'degenerate box'
        elif x2 - x1 < 1 or y2 - y1 < 1:
            kind = kind_of_thin(x2 - x1, y2 - y1)
        if not kind:
            return [dict(bbox=box, bbox_label=label, ignore_flag=0)]
        if self.report.wants(kind):
            entry = where.rpartition(', ')[2]
            detail = f'has the box {short(box)} in a picture of {info["width"]}x{info["height"]}'
            self.report.add(Finding(kind, osp.basename(info['img_path']), entry, detail, box, info['img_id']))
        else:
            self.report.count(kind)
        return []

    def get_data_info(self, idx: int) -> dict:
        """A sample; the names of its classes are the data set's own, which are held once."""
        info = super().get_data_info(idx)
        if self.dataset_mode == 'OD' and self.need_text and self.label_map is not None:
            info['text'] = dict(self.label_map)
        return info

    def filter_data(self) -> list[dict]:
        """Training samples after ``filter_cfg``: ``filter_empty_gt`` and ``min_size``."""
        return self.data_list if self.test_mode or self.filter_cfg is None else self._filter(self._plain_rules())

    def raw_annotations(self) -> RawAnnotations:
        self.report = Report(str(self.ann_file), limit=None)
        raw = parsed_annotations(self, self._name_of)
        if self.label_map is not None:
            raw.categories = list(self.label_map.values())
        return raw

    def _name_of(self, sample: dict, instance: dict) -> str:
        if self.label_map is not None:
            return self.label_map[str(instance['bbox_label'])]
        phrase: Any = sample['phrases'][instance['bbox_label']]['phrase']
        return phrase if isinstance(phrase, str) else ' '.join(map(str, phrase))
