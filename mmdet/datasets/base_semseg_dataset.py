from __future__ import annotations

import difflib
import os.path as osp
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from mmengine import fileio

from mmdet.errors import UserFileError, UserValueError
from mmdet.registry import DATASETS
from mmdet.utils.pictures import is_local

from .base_det_dataset import BaseDetDataset
from .presence import missing_files
from .raw import RawAnnotations, parsed_annotations
from .reading.report import Report


@DATASETS.register_module()
class BaseSegDataset(BaseDetDataset):
    """Pictures with semantic maps: a folder of each, where a picture and its map differ by their suffixes.

    A map is a picture of one channel with the class of each pixel. A sample has ``img_path``, ``seg_map_path``,
    ``num_seg_classes`` and, with ``use_label_map``, ``label_map``; ``LoadAnnotations`` makes ``gt_seg_map`` of them.

    Args:
        ann_file: Text file with a name without suffix in each line; without it the folder of pictures is listed.
        data_prefix: ``img_path`` and ``seg_map_path``, the two folders. Without the latter there are no maps.
        use_label_map: The maps are numbered by the classes of ``METAINFO``, of which ``metainfo['classes']`` are some:
            they are renumbered, and other classes ignored (255). Else they are numbered by ``metainfo['classes']``.
    """

    METAINFO: dict = {}

    def __init__(
        self,
        ann_file: str = '',
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        metainfo: dict | None = None,
        data_root: str | None = None,
        data_prefix: dict = dict(img_path='', seg_map_path=''),
        filter_cfg: dict | None = None,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        pipeline: list[dict | Callable] = [],
        test_mode: bool = False,
        lazy_init: bool = False,
        use_label_map: bool = False,
        max_refetch: int = 1000,
        backend_args: dict | None = None,
        return_classes: bool = False,
    ) -> None:
        self.img_suffix = img_suffix
        self.use_label_map = use_label_map
        self.label_map: dict[int, int] | None = None
        super().__init__(
            ann_file=ann_file,
            seg_map_suffix=seg_map_suffix,
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=data_prefix,
            filter_cfg=filter_cfg,
            indices=indices,
            serialize_data=serialize_data,
            pipeline=pipeline,
            test_mode=test_mode,
            lazy_init=True,
            max_refetch=max_refetch,
            backend_args=backend_args,
            return_classes=return_classes,
        )
        self.label_map = self.get_label_map(self._metainfo.get('classes'))
        self._metainfo['label_map'] = self.label_map
        self._metainfo['palette'] = self._update_palette()
        if not lazy_init:
            self.full_init()

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int] | None:
        """New label of each label of ``METAINFO['classes']``, 255 for classes that are left out; None for no change.

        Raises:
            UserValueError: a class is not among those of the data set.
        """
        classes = cls.METAINFO.get('classes')
        if new_classes is None or classes is None or list(new_classes) == list(classes):
            return None
        unknown = [name for name in new_classes if name not in classes]
        if unknown:
            near = difflib.get_close_matches(str(unknown[0]), classes, n=3)
            hint = f'; did you mean {" or ".join(near)}?' if near else ''
            raise UserValueError(f'metainfo.classes: {unknown[0]!r} is no class of {cls.__name__}{hint}')
        label = {name: i for i, name in enumerate(new_classes)}
        return {old: label.get(name, 255) for old, name in enumerate(classes)}

    def _update_palette(self) -> list:
        """A colour for each class: those of the data set, or drawn at random (the same each time) where it has none."""
        palette, classes = self._metainfo.get('palette') or [], self._metainfo.get('classes')
        if classes is None or len(palette) == len(classes):
            return list(palette)
        if not palette:
            return np.random.RandomState(42).randint(0, 255, size=(len(classes), 3)).tolist()
        if len(palette) < len(classes) or self.label_map is None:
            raise UserValueError(
                f'{type(self).__name__}: metainfo has {len(palette)} colours in its palette for {len(classes)} classes'
            )
        colors = {new: palette[old] for old, new in self.label_map.items() if new != 255}
        return [colors[label] for label in range(len(classes))]

    def load_data_list(self) -> list[dict]:
        """One dict for each picture, in the order of the list or of the names."""
        self.report = Report(str(self.ann_file) or str(self.data_prefix.get('img_path')))
        maps, classes = self.data_prefix.get('seg_map_path'), self._metainfo.get('classes')
        shared: dict = dict(seg_fields=[], **self._text_fields())
        if classes is not None:
            shared['num_seg_classes'] = len(classes)
        if self.use_label_map:
            shared['label_map'] = self.label_map
        samples = []
        for index, name in enumerate(self._names()):
            sample = dict(shared, img_id=index, img_path=osp.join(self.data_prefix['img_path'], name + self.img_suffix))
            if maps:
                sample['seg_map_path'] = osp.join(maps, name + self.seg_map_suffix)
            samples.append(sample)
        if maps and any(getattr(transform, 'with_seg', False) for transform in self.pipeline.transforms):
            self._require_maps(samples)
        self.report.read['pictures'] = len(samples)
        return samples

    def _names(self) -> list[str]:
        """Names of the pictures, without suffix, below their folder."""
        folder = self.data_prefix.get('img_path')
        if folder is None:
            raise UserValueError(
                f'{type(self).__name__} needs data_prefix=dict(img_path=..., seg_map_path=...), not '
                f'{self.data_prefix!r}'
            )
        if self.ann_file:
            lines = fileio.get_text(self.ann_file, backend_args=self.backend_args).splitlines()
            return [line.strip() for line in lines if line.strip()]
        folder = folder or '.'
        if is_local(folder, self.backend_args) and not osp.isdir(folder):
            raise UserFileError(f'there is no folder {folder!r}: look at data_root and data_prefix.img_path')
        files = list(fileio.list_dir_or_file(folder, list_dir=False, recursive=True, backend_args=self.backend_args))
        names = [file.removesuffix(self.img_suffix) for file in files if file.endswith(self.img_suffix)]
        if not names:
            there = Counter(osp.splitext(file)[1] for file in files)
            told = ', '.join(f'{count} of {suffix!r}' for suffix, count in there.most_common(3)) or 'nothing'
            raise UserValueError(
                f'{folder!r} has no picture whose name ends with img_suffix={self.img_suffix!r}; it has {told}'
            )
        return sorted(names)

    def _require_maps(self, samples: list[dict]) -> None:
        paths = [sample['seg_map_path'] for sample in samples]
        missing = missing_files([path for path in paths if is_local(path, self.backend_args)])
        if missing:
            folder = osp.dirname(missing[0])
            hint = '' if osp.isdir(folder or '.') else f'; nor is there a folder {folder!r}'
            raise UserFileError(
                f'{len(missing)} of {len(paths)} semantic maps do not exist, such as {missing[0]!r}{hint}: look at '
                f'data_prefix.seg_map_path and seg_map_suffix={self.seg_map_suffix!r}'
            )

    def raw_annotations(self) -> RawAnnotations:
        raw = parsed_annotations(self)
        raw.source, raw.with_boxes = self.report.source, False
        return raw

    def get_cat_ids(self, idx: int) -> list[int]:
        raise UserValueError(
            f'{type(self).__name__} has maps, no boxes: nothing can be chosen by the classes of its pictures'
        )
