"""Open Images (arXiv:1811.00982): the v4 to v7 box annotations and the 2019 challenge."""

from __future__ import annotations

import csv
import json
import os.path as osp
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.fileio import get_local_path

from mmdet.errors import UserTypeError, UserValueError
from mmdet.registry import DATASETS
from mmdet.utils.unpickling import read_pickle

from .base_det_dataset import BaseDetDataset
from .reading.values import numbers

FLAGS = ('is_occluded', 'is_truncated', 'is_group_of', 'is_depiction', 'is_inside')


@DATASETS.register_module()
class OpenImagesDataset(BaseDetDataset):
    """Open Images boxes (a CSV file); an instance has ``is_group_of`` and its kin.

    Args:
        label_file: CSV of label id and class name, in label order.
        meta_file: Pickled list of ``filename`` and ``ori_shape`` by image, or '' to read the sizes from the images.
        hierarchy_file: JSON tree of the labels; gives ``metainfo['RELATION_MATRIX']`` (classes, classes), 1 where the
            class of the row is, or descends from, that of the column.
        image_level_ann_file: CSV of image labels; gives ``image_level_labels`` and ``confidences`` of a sample.
    """

    METAINFO: dict = dict(dataset_type='oid_v6')
    IMAGE_LABEL_COLUMNS = (2, 3)
    """Columns of the label id and of the confidence in ``image_level_ann_file``."""

    def __init__(
        self,
        label_file: str,
        meta_file: str,
        hierarchy_file: str,
        image_level_ann_file: str | None = None,
        **kwargs,
    ) -> None:
        self.label_file = label_file
        self.meta_file = meta_file
        self.hierarchy_file = hierarchy_file
        self.image_level_ann_file = image_level_ann_file
        super().__init__(**kwargs)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        for name in ('label_file', 'meta_file', 'hierarchy_file', 'image_level_ann_file'):
            path = getattr(self, name)
            if path and self.data_root and not osp.isabs(path):
                setattr(self, name, osp.join(self.data_root, path))

    def load_data_list(self) -> list[dict]:
        names, self.label_id_mapping = self._parse_label_file(self.label_file)
        self._metainfo['classes'] = names
        self._metainfo['RELATION_MATRIX'] = self._get_relation_matrix(self.hierarchy_file)
        image_labels = None
        if self.image_level_ann_file is not None:
            image_labels = self._parse_img_level_ann(self.image_level_ann_file)
        sizes = self._sizes()
        data_list = []
        for img_id, file_name, instances in self._images():
            img_path = osp.join(self.data_prefix.get('img') or '', file_name)
            size = sizes.get(img_id) or self._picture_size(img_path)
            height, width = size['height'], size['width']
            for instance in instances:  # the files hold parts of the sides
                x1, y1, x2, y2 = instance['bbox']
                instance['bbox'] = [x1 * width, y1 * height, x2 * width, y2 * height]
            info = dict(img_path=img_path, img_id=img_id, height=height, width=width, instances=instances)
            if image_labels is not None:
                found = image_labels.get(img_id, [])
                info['image_level_labels'] = np.array([item['image_level_label'] for item in found], dtype=np.int64)
                info['confidences'] = np.array([item['confidence'] for item in found], dtype=np.float32)
            data_list.append(info)
        return data_list

    def _rows(self, path: str) -> Iterator[list[str]]:
        with get_local_path(path, backend_args=self.backend_args) as local_path, open(local_path) as file:
            yield from csv.reader(file)

    def _parse_label_file(self, label_file: str) -> tuple[list[str], dict[str, int]]:
        """Class names in label order, and the label of each label id."""
        rows = [row for row in self._rows(label_file) if row]
        return [row[1] for row in rows], {row[0]: label for label, row in enumerate(rows)}

    def _label(self, label_id: str, source: str) -> int:
        if label_id not in self.label_id_mapping:
            raise UserValueError(f'{source!r}: label {label_id!r} is not in {self.label_file!r}')
        return self.label_id_mapping[label_id]

    def _images(self) -> Iterator[tuple[str, str, list[dict]]]:
        """Id, file name and instances (boxes as parts of the sides) of each image, in the order of the file."""
        images: dict[str, list[dict]] = {}
        rows = self._rows(self.ann_file)
        next(rows, None)
        for row in rows:
            if len(row) < 13:
                raise UserValueError(f'{self.ann_file!r}: {row} has not the 13 columns of a box annotation')
            x1, x2, y1, y2 = numbers(row[4:8], f'{self.ann_file!r}: the box of image {row[0]!r}')
            instance = dict(bbox=[x1, y1, x2, y2], bbox_label=self._label(row[2], self.ann_file), ignore_flag=0)
            instance.update((flag, row[column] == '1') for flag, column in zip(FLAGS, range(8, 13), strict=True))
            images.setdefault(row[0], []).append(instance)
        for img_id, instances in images.items():
            yield img_id, f'{img_id}.jpg', instances

    def _sizes(self) -> dict[str, dict[str, int]]:
        """``height`` and ``width`` by image id."""
        if not self.meta_file:
            return {}
        with get_local_path(self.meta_file, backend_args=self.backend_args) as local_path, open(local_path, 'rb') as f:
            try:
                metas = read_pickle(f)
            except Exception as error:  # a damaged pickle may raise nearly anything
                raise UserValueError(f'{self.meta_file!r} is not a plain list of image sizes: {error}') from error
        shapes = {osp.splitext(osp.basename(meta['filename']))[0]: meta['ori_shape'] for meta in metas}
        return {name: dict(height=shape[0], width=shape[1]) for name, shape in shapes.items()}

    def _parse_img_level_ann(self, img_level_ann_file: str) -> dict[str, list[dict]]:
        """``image_level_label`` and ``confidence`` of each label of an image, by its id."""
        labels = defaultdict(list)
        rows = self._rows(img_level_ann_file)
        next(rows, None)
        for row in rows:
            label, confidence = (row[column] for column in self.IMAGE_LABEL_COLUMNS)
            (certain,) = numbers([confidence], f'{img_level_ann_file!r}: the label of image {row[0]!r}')
            item = dict(image_level_label=self._label(label, img_level_ann_file), confidence=certain)
            labels[row[0]].append(item)
        return labels

    def _get_relation_matrix(self, hierarchy_file: str) -> np.ndarray:
        with get_local_path(hierarchy_file, backend_args=self.backend_args) as local_path, open(local_path) as file:
            tree = json.load(file)
        return self._convert_hierarchy_tree(tree, np.eye(len(self.label_id_mapping), dtype=np.int64))

    def _convert_hierarchy_tree(
        self,
        hierarchy_map: dict,
        relation_matrix: np.ndarray,
        parents: Sequence[int] = (),
        get_all_parents: bool = True,
    ) -> np.ndarray:
        """Mark below a node of the tree which label descends from which, in place.

        Args:
            parents: Labels of the node and above it.
            get_all_parents: Mark all ancestors, not only the nearest.
        """
        for child in hierarchy_map.get('Subcategory', ()):
            label = self.label_id_mapping.get(child['LabelName'])
            above = list(parents)
            if label is not None:
                relation_matrix[label, above if get_all_parents else above[-1:]] = 1
                above.append(label)
            self._convert_hierarchy_tree(child, relation_matrix, above, get_all_parents)
        return relation_matrix

    def filter_data(self) -> list[dict]:
        """Training samples after ``filter_cfg``: ``filter_empty_gt`` and ``min_size``."""
        return self.data_list if self.test_mode or self.filter_cfg is None else self._filter(self._plain_rules())


@DATASETS.register_module()
class OpenImagesChallengeDataset(OpenImagesDataset):
    """The 500 classes of the 2019 challenge, from its text file.

    Args:
        label_file: CSV of label id, class name and number, which counts from 1.
        hierarchy_file: A numpy file of the relation matrix with a first row and column for the background.
        image_level_ann_file: CSV of image, label id and confidence.
    """

    METAINFO: dict = dict(dataset_type='oid_challenge')
    IMAGE_LABEL_COLUMNS = (1, 2)

    def __init__(self, ann_file: str, **kwargs) -> None:
        if not ann_file.endswith('txt'):
            raise UserTypeError(f'the annotations of the challenge are a text file (*.txt), not {ann_file!r}')
        super().__init__(ann_file=ann_file, **kwargs)

    def _parse_label_file(self, label_file: str) -> tuple[list[str], dict[str, int]]:
        rows = sorted((row for row in self._rows(label_file) if row), key=lambda row: int(row[2]))
        return [row[1] for row in rows], {row[0]: int(row[2]) - 1 for row in rows}

    def _images(self) -> Iterator[tuple[str, str, list[dict]]]:
        with get_local_path(self.ann_file, backend_args=self.backend_args) as local_path, open(local_path) as file:
            lines = file.read().splitlines()
        at = 0
        while at < len(lines):
            name, count_text = lines[at].strip(), ''.join(lines[at + 2 : at + 3]).strip()
            count = int(count_text) if count_text.isdecimal() else -1  # between them stands the number of the image
            rows = [line.split() for line in lines[at + 3 : at + 3 + count]]
            if count < 0 or len(rows) < count or any(len(row) < 6 for row in rows):
                raise UserValueError(
                    f'{self.ann_file!r}: after {name!r} stands {count_text!r}, not the number of its rows of label, '
                    'box and flag'
                )
            where = f'{self.ann_file!r}: a box of {name!r}'
            instances = [
                dict(
                    bbox=numbers(row[1:5], where),
                    bbox_label=int(numbers(row[:1], where)[0]) - 1,
                    ignore_flag=0,
                    is_group_of=row[5] == '1',
                )
                for row in rows
            ]
            yield osp.splitext(osp.basename(name))[0], name, instances
            at += 3 + count

    def _get_relation_matrix(self, hierarchy_file: str) -> np.ndarray:
        with get_local_path(hierarchy_file, backend_args=self.backend_args) as local_path:
            try:
                tree = np.load(local_path, allow_pickle=False)
            except ValueError as error:
                raise UserValueError(f'{hierarchy_file!r} is not a plain numpy array: {error}') from error
        return tree[1:, 1:]
