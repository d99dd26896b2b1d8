from __future__ import annotations

import difflib
import os.path as osp
import posixpath
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mmdet.errors import UserValueError
from mmdet.registry import DATASETS

from .base_det_dataset import BaseDetDataset
from .reading.dsdl_file import DSDLFile, Field, Place, value_at
from .reading.values import numbers

TAKEN = ('image', 'imageshape', 'bbox', 'label', 'polygon', 'labelmap', 'ignore_flag', 'image_level_labels')


@DATASETS.register_module()
class DSDLDetDataset(BaseDetDataset):
    """A data set described in DSDL (https://opendatalab.github.io/dsdl-docs/), one YAML file for each of its parts.

    Values are found by their types (``Image ImageShape BBox Label Polygon LabelMap``) or, where several fields have
    one type, by their paths. The classes are those of the labels' domain; ``metainfo['classes']`` may be some of them.

    Args:
        with_bbox: Whether instances are read at all.
        with_polygon: Whether they have a ``mask``, their polygon.
        with_mask: Whether samples have a ``seg_map_path``, their ``LabelMap``.
        with_imagelevel_label: Whether samples have ``image_level_labels``, whose path must be given.
        with_hierarchy: Classes are the parts of names such as ``entity.animal.cat`` behind the first, sorted, and of a
            label the last one; gives ``metainfo['RELATION_MATRIX']`` as of ``OpenImagesDataset``.
        specific_key_path: Where what has no type of its own is, such as
            ``dict(ignore_flag='./annotations/*/iscrowd')``; what is not known here becomes a key of the instances.
        pre_transform: By the same names, functions of the list of values of a sample.
    """

    def __init__(
        self,
        with_bbox: bool = True,
        with_polygon: bool = False,
        with_mask: bool = False,
        with_imagelevel_label: bool = False,
        with_hierarchy: bool = False,
        specific_key_path: dict[str, str] = {},
        pre_transform: dict[str, Callable] = {},
        **kwargs: Any,
    ) -> None:
        if with_imagelevel_label and 'image_level_labels' not in specific_key_path:
            raise UserValueError(
                "with_imagelevel_label=True needs specific_key_path=dict(image_level_labels='./...'), the path to them"
            )
        self.with_bbox, self.with_polygon, self.with_mask = with_bbox, with_polygon, with_mask
        self.with_imagelevel_label, self.with_hierarchy = with_imagelevel_label, with_hierarchy
        self.specific_key_path = {key.lower(): path for key, path in specific_key_path.items()}
        self._names = {key.lower(): key for key in specific_key_path}
        self.pre_transform = {key.lower(): function for key, function in pre_transform.items()}
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict for each sample."""
        file = DSDLFile(str(self.ann_file), self.backend_args)
        fields = {name: file.at(path) for name, path in self.specific_key_path.items()}
        for kind in TAKEN[:6]:
            fields.setdefault(kind, file.of_kind(kind))
        self._number_classes(file, fields['label'])
        return [self._sample(file, fields, sample) for sample in file.samples]

    def _number_classes(self, file: DSDLFile, labels: list[Field]) -> None:
        names = list(dict.fromkeys(name for field in labels for name in file.domains_of(field)))
        every = list(dict.fromkeys(label for name in names for label in file.domains[name]))
        if self.with_hierarchy:
            every, relation = _hierarchy(every)
            self._metainfo['RELATION_MATRIX'] = relation
        classes = self._metainfo.setdefault('classes', tuple(every))
        for name in classes:
            if name not in every:
                near = difflib.get_close_matches(str(name), every, n=3)
                hint = f'; did you mean {" or ".join(near)}?' if near else ''
                raise UserValueError(f'metainfo.classes: {name!r} is no class of {self.ann_file!r}{hint}')
        self._labels = {name: i for i, name in enumerate(classes)}

    def _values(self, fields: Mapping[str, list[Field]], name: str, sample: dict) -> dict[Place, tuple[Field, Any]]:
        found = [(place, field, x) for field in fields.get(name, ()) for place, x in field.values_of(sample).items()]
        values = [value for *_, value in found]
        if name in self.pre_transform:
            values = self.pre_transform[name](values)
        return {place: (field, value) for (place, field, _), value in zip(found, values, strict=True)}

    def _sample(self, file: DSDLFile, fields: Mapping[str, list[Field]], sample: dict) -> dict:
        images = self._values(fields, 'image', sample)
        if not images:
            raise UserValueError(f'{self.ann_file!r}: a sample has no value of the type Image')
        location = str(next(iter(images.values()))[1])
        folder = self.data_prefix.get('img_path', self.data_prefix.get('img')) or ''
        info = dict(img_id=posixpath.splitext(location)[0], img_path=osp.join(folder, location), **self._text_fields())
        info.update(self._size(fields, sample, location, info['img_path']))
        if self.with_mask and (maps := self._values(fields, 'labelmap', sample)):
            info['seg_map_path'] = osp.join(folder, str(next(iter(maps.values()))[1]))
        if self.with_imagelevel_label:
            found = [self._label(file, *x) for x in self._values(fields, 'image_level_labels', sample).values()]
            info['image_level_labels'] = np.array([x for x in found if x is not None], dtype=np.int64)
        info['instances'] = self._instances(file, fields, sample, location) if self.with_bbox else []
        return info

    def _size(self, fields: Mapping[str, list[Field]], sample: dict, location: str, path: str) -> dict[str, int]:
        shapes = self._values(fields, 'imageshape', sample)
        if not shapes:
            return self._picture_size(path)
        field, shape = next(iter(shapes.values()))
        first, second = (int(x) for x in numbers(shape[:2], f'{self.ann_file!r}: the shape of {location!r}'))
        height, width = (second, first) if field.options.get('mode') == 'wh' else (first, second)
        return dict(height=height, width=width)

    def _label(self, file: DSDLFile, field: Field, value: Any) -> int | None:
        """The label of a class; None where ``metainfo`` leaves it out."""
        name = file.label(field, value)
        return self._labels.get(name.rpartition('.')[2] if self.with_hierarchy else name)

    def _instances(self, file: DSDLFile, fields: Mapping[str, list[Field]], sample: dict, location: str) -> list[dict]:
        extra = [name for name in fields if name not in TAKEN]
        boxes, labels, polygons, flags = (
            self._values(fields, name, sample) for name in ('bbox', 'label', 'polygon', 'ignore_flag')
        )
        others = {self._names[name]: self._values(fields, name, sample) for name in extra}
        instances = []
        for place, (field, box) in boxes.items():
            labelled = value_at(labels, place)
            if labelled is None:
                raise UserValueError(f'{self.ann_file!r}: a box of {location!r} at {field} has no label')
            label = self._label(file, *labelled)
            if label is None:
                self._left_out('not among the classes')
                continue
            x, y, right, bottom = numbers(box, f'{self.ann_file!r}: a box of {location!r}')
            if field.options.get('mode') != 'xyxy':
                right, bottom = x + right, y + bottom
            flag = value_at(flags, place, (field, 0))[1]
            instance = dict(bbox=[x, y, right, bottom], bbox_label=label, ignore_flag=int(bool(flag)))
            if self.with_polygon:
                rings = value_at(polygons, place, (field, []))[1]
                instance['mask'] = [[float(x) for point in ring for x in point] for ring in rings]
            instance.update({key: value_at(found, place, (field, None))[1] for key, found in others.items()})
            instances.append(instance)
        return instances

    def filter_data(self) -> list[dict]:
        """Training samples after ``filter_cfg``: ``filter_empty_gt`` and ``min_size``."""
        return self.data_list if self.test_mode or self.filter_cfg is None else self._filter(self._plain_rules())


def _hierarchy(names: list[str]) -> tuple[list[str], np.ndarray]:
    """The parts of dotted names behind the first, sorted, and which part is, or lies below, which: ``(n, n)``."""
    ways = [name.split('.')[1:] for name in names]
    parts = sorted({part for way in ways for part in way})
    label = {part: i for i, part in enumerate(parts)}
    relation = np.eye(len(parts), dtype=np.int64)
    for way in ways:
        for depth, part in enumerate(way):
            relation[label[part], [label[above] for above in way[: depth + 1]]] = 1
    return parts, relation
