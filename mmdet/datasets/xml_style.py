from __future__ import annotations

import difflib
import os
import os.path as osp
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mmengine.fileio import get_local_path, list_from_file

from mmdet.errors import UserFileError, UserValueError
from mmdet.registry import DATASETS
from mmdet.utils.pictures import PICTURE_SUFFIXES

from .base_det_dataset import BaseDetDataset
from .raw import RawAnnotations, RawBox, RawPicture
from .reading.report import Finding, Report
from .reading.values import as_flag, as_size, numbers, short


class MissingElement(ValueError):
    """An annotation lacks what it must have."""


def required_text(element: ElementTree.Element | None, key: str) -> str:
    """Text of a child of an element.

    Raises:
        MissingElement: where there is no such child.
    """
    text = None if element is None else element.findtext(key)
    if text is None:
        raise MissingElement(f'no {key!r} in {"an object" if element is None else repr(element.tag)}')
    return text


def xml_root(content: bytes) -> ElementTree.Element:
    """The root of an XML file in any encoding that Python knows; the parser itself knows none of several bytes."""
    declared = re.match(rb'\s*<\?xml[^>]*?encoding=["\']([\w.-]+)["\'][^>]*\?>', content)
    try:
        return ElementTree.fromstring(content)
    except ValueError:
        if declared is None:
            raise
        return ElementTree.fromstring(content[declared.end() :].decode(declared[1].decode('ascii')))


@DATASETS.register_module()
class XMLDataset(BaseDetDataset):
    """Images with one PASCAL VOC XML file each, listed by id in a text file.

    Boxes marked difficult, smaller than ``filter_cfg['bbox_min_size']`` (training only) or without area get
    ``ignore_flag=1``: no loss sees a box of width 0. XML coordinates count from 1. A size that is
    missing, 0 or no number is that of the picture.

    Args:
        img_subdir, ann_subdir: Folders under ``data_prefix['sub_data_root']``.
    """

    counts_from_one = True

    def __init__(self, img_subdir: str = 'JPEGImages', ann_subdir: str = 'Annotations', **kwargs) -> None:
        self.img_subdir = img_subdir
        self.ann_subdir = ann_subdir
        self._listed: dict[str, set[str]] = {}
        self._xml_path = ''  # of the annotation that is being read
        self._in_parts: list[str] = []
        self._boxes_seen = 0
        super().__init__(**kwargs)

    @property
    def sub_data_root(self) -> str:
        """Folder of the pictures, from ``data_prefix``."""
        return self.data_prefix.get('sub_data_root', '')

    @property
    def bbox_min_size(self) -> int | None:
        """Boxes with a shorter side, in pixels, are ignored; None keeps all."""
        return self.filter_cfg.get('bbox_min_size') if self.filter_cfg is not None else None

    def load_data_list(self) -> list[dict]:
        classes = self._metainfo.get('classes')
        if not classes:
            raise UserValueError(f'{type(self).__name__} has no classes: set metainfo=dict(classes=(...))')
        if isinstance(classes, str):
            raise UserValueError(f'metainfo.classes is the string {classes!r}; one class is written ({classes!r},)')
        self.cat2label = {name: label for label, name in enumerate(classes)}
        self._known: set[str] = set()
        self._unknown: set[str] = set()
        self.report = Report(str(self.ann_file))
        self._in_parts, self._boxes_seen = [], 0
        data_list = [self._checked_info(self._raw_info(img_id)) for img_id in self._listed_once()]
        if 2 * len(self._in_parts) > self._boxes_seen:
            raise UserValueError(
                f'annotation file {self._in_parts[0]!r}: {len(self._in_parts)} of {self._boxes_seen} boxes of '
                f'{self.ann_file!r} lie in 0..1, as if they were parts of the sides; VOC boxes are in pixels'
            )
        self._check_names(classes)
        return data_list

    def _checked_info(self, raw_info: dict) -> dict:
        self._xml_path = raw_info['xml_path']
        try:
            return self.parse_data_info(raw_info)
        except MissingElement as error:
            raise UserValueError(f'annotation file {raw_info["xml_path"]!r}: {error}') from None
        except UserValueError as error:
            if raw_info['xml_path'] in str(error):
                raise
            raise UserValueError(f'annotation file {raw_info["xml_path"]!r}: {error}') from None

    def _listed_once(self) -> list[str]:
        """The ids of the list; one that comes again is the same picture."""
        ids = self._image_ids()
        once = list(dict.fromkeys(ids))
        for img_id in once if len(once) < len(ids) else ():
            if (again := ids.count(img_id) - 1) > 0:
                where = osp.basename(str(self.ann_file))
                finding = Finding('picture listed twice', where, f'image {img_id!r}', 'is listed twice', img_id)
                self.report.add(finding, again)
        return once

    def _tell(self, kind: str, entry: str, detail: str, value: Any = None) -> None:
        self.report.add(Finding(kind, osp.basename(self._xml_path), entry, detail, value, self._xml_path))

    def raw_annotations(self) -> RawAnnotations:
        self.report = Report(str(self.ann_file), limit=None)
        raw = RawAnnotations(self.ann_file, [], report=self.report)
        pictures = {}
        for img_id in self._listed_once():
            info = self._raw_info(img_id)
            self._xml_path = info['xml_path']
            try:
                root = self._read_xml(info['xml_path'])
                picture = RawPicture(img_id, self._picture_path(info, root), self._written_size(root))
            except (OSError, ValueError) as error:
                self._tell('unreadable annotation', 'file', str(error))
                continue
            pictures[info['xml_path']] = picture
            for number, (name, item) in enumerate(self._objects(root), start=1):
                entry = f'object {number}, {name or "without a name"}'
                try:
                    x1, y1, x2, y2 = self._corners(item, entry)
                    self._difficult(item, entry)
                except ValueError as error:
                    self._tell('unreadable annotation', entry, f'cannot be read: {error}')
                    continue
                picture.boxes.append(RawBox((x1, y1, x2, y2), name, f'object {number}'))
        raw.pictures += pictures.values()
        raw.take_faults(pictures)
        raw.categories = list(dict.fromkeys(box.category or '' for picture in raw.pictures for box in picture.boxes))
        return raw

    def _check_names(self, classes: tuple[str, ...]) -> None:
        """Classes that occur nowhere are in order, unless a name that does occur is much like one of them."""
        there = ', '.join(sorted(self._unknown))
        if self._unknown and not self._known:
            raise UserValueError(
                f'{self.ann_file!r}: none of the classes {tuple(classes)} is in the XML files, which name {there}. '
                f'Set metainfo=dict(classes={tuple(sorted(self._unknown))})'
            )
        for name in set(classes) - self._known:
            lower = {other.lower(): other for other in self._unknown}
            near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.8)
            if near:
                raise UserValueError(
                    f'{self.ann_file!r}: the class {name!r} is not in the XML files, but {lower[near[0]]!r} is, which '
                    f'metainfo.classes lacks. All names that it lacks: {there}'
                )

    def _image_ids(self) -> list[str]:
        try:
            lines = list_from_file(self.ann_file, backend_args=self.backend_args)
        except FileNotFoundError:
            raise UserFileError(f'annotation file {self.ann_file!r} does not exist') from None
        return [line.strip() for line in lines if line.strip()]

    def _raw_info(self, img_id: str) -> dict:
        return dict(
            img_id=img_id,
            file_name=osp.join(self.img_subdir, f'{img_id}.jpg'),
            xml_path=osp.join(self.sub_data_root, self.ann_subdir, f'{img_id}.xml'),
        )

    def parse_data_info(self, img_info: dict) -> dict:
        root = self._read_xml(img_info['xml_path'])
        img_path = self._picture_path(img_info, root)
        return dict(
            img_path=img_path,
            img_id=img_info['img_id'],
            xml_path=img_info['xml_path'],
            **self._size(root, img_path),
            **self._other_fields(),
            instances=self._parse_instance_info(root, minus_one=self.counts_from_one),
        )

    def _other_fields(self) -> dict:
        """What all samples have in common."""
        return self._text_fields()

    def _picture_path(self, img_info: dict, root: ElementTree.Element) -> str:
        """The picture of the annotation's id, whatever its suffix; else the one that the annotation names."""
        img_path = osp.join(self.sub_data_root, img_info['file_name'])
        folder, name = osp.split(img_path)
        there = self._names_in(folder)
        named = osp.basename((root.findtext('filename') or '').strip().replace('\\', '/'))
        stem, suffixes = osp.splitext(name)[0], (osp.splitext(named)[1], '.jpg', *PICTURE_SUFFIXES)
        candidates = [stem + suffix for suffix in suffixes if suffix]
        candidates += [stem + suffix.upper() for suffix in suffixes] + [named]
        return osp.join(folder, next((found for found in candidates if found in there), name))

    def _names_in(self, folder: str) -> set[str]:
        """What a folder of this machine holds; it is looked at once."""
        if folder not in self._listed:
            try:
                self._listed[folder] = set(os.listdir(folder or '.'))
            except OSError:
                self._listed[folder] = set()
        return self._listed[folder]

    def _read_xml(self, path: str) -> ElementTree.Element:
        try:
            with get_local_path(path, backend_args=self.backend_args) as local_path:
                return xml_root(Path(local_path).read_bytes())
        except FileNotFoundError:
            raise UserFileError(f'annotation file {path!r} does not exist (listed in {self.ann_file!r})') from None
        except (ElementTree.ParseError, ValueError) as error:  # ValueError: an encoding that the parser does not know
            raise UserValueError(f'annotation file {path!r} is not valid XML: {error}') from error

    def _size(self, root: ElementTree.Element, img_path: str) -> dict:
        size = self._written_size(root)
        return self._picture_size(img_path) if size is None else dict(height=size[1], width=size[0])

    def _written_size(self, root: ElementTree.Element) -> tuple[int, int] | None:
        """Width and height, where the file has them as whole numbers of pixels."""
        size = root.find('size')
        if size is None:
            return None
        width, height = ((size.findtext(key) or '').strip() for key in ('width', 'height'))
        found = as_size(height, width)
        if found is None:
            detail = f'has {short(width)} and {short(height)}, taken from the picture'
            self._tell('size taken from the picture', 'the size', detail, (width, height))
            return None
        return found[1], found[0]

    @staticmethod
    def _objects(root: ElementTree.Element) -> Iterator[tuple[str, ElementTree.Element]]:
        """Class name and element of each object."""
        for item in root.findall('object'):
            yield (item.findtext('name') or '').strip(), item

    def _corners(self, item: ElementTree.Element, entry: str = 'an object') -> list[float]:
        """x1, y1, x2, y2 as they stand in the file; corners that are named the other way round change places."""
        box = item.find('bndbox')
        x1, y1, x2, y2 = numbers(
            [required_text(box, key).strip() for key in ('xmin', 'ymin', 'xmax', 'ymax')], f'{entry}: its box'
        )
        if x1 > x2 or y1 > y2:
            given = [x1, y1, x2, y2]
            x1, y1, x2, y2 = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
            self._tell('corners in the other order', entry, f'has the corners {short(given)}', given)
        return [x1, y1, x2, y2]

    def _difficult(self, item: ElementTree.Element, entry: str = 'an object') -> int:
        """Whether an object is marked difficult, 0 or 1."""
        text = (item.findtext('difficult') or '0').strip()
        if text in ('0', '1'):
            return int(text)
        meant = as_flag(text)
        if meant is None:
            raise MissingElement(f'{entry} has difficult={text!r}, which is no 0 or 1')
        self._tell('flag that is no 0 or 1', entry, f'has difficult={text!r}, taken as {meant}', text)
        return meant

    def _parse_instance_info(self, raw_ann_info: ElementTree.Element, minus_one: bool = True) -> list[dict]:
        """The boxes of an annotation; ``minus_one`` makes coordinates that count from 1 count from 0."""
        instances = []
        for number, (name, item) in enumerate(self._objects(raw_ann_info), start=1):
            if name not in self.cat2label:
                self._unknown.add(name)
                self._left_out('not among the classes')
                continue
            self._known.add(name)
            entry = f'object {number}, {name!r}'
            corners = self._corners(item, entry)
            self._boxes_seen += 1
            if min(corners) >= 0 and max(corners) <= 1 and corners[2] > corners[0] and corners[3] > corners[1]:
                self._in_parts.append(self._xml_path)
            bbox = [int(value) - minus_one for value in corners]
            width, height = bbox[2] - bbox[0], bbox[3] - bbox[1]
            ignored = self._difficult(item, entry) != 0 or width <= 0 or height <= 0
            if self.bbox_min_size is not None:
                if self.test_mode:
                    raise UserValueError('filter_cfg.bbox_min_size is for training, not with test_mode=True')
                ignored |= width < self.bbox_min_size or height < self.bbox_min_size
            instances.append(dict(bbox=bbox, bbox_label=self.cat2label[name], ignore_flag=int(ignored)))
        return instances

    def filter_data(self) -> list[dict]:
        """Training samples after ``filter_cfg``: ``filter_empty_gt`` and ``min_size``."""
        return self.data_list if self.test_mode or self.filter_cfg is None else self._filter(self._plain_rules())
