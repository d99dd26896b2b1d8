from __future__ import annotations

import io
import os.path as osp
import random
from pickle import UnpicklingError
from typing import Any

from mmengine.fileio import get, get_local_path
from mmengine.utils import is_abs

from mmdet.errors import UserFileError, UserKeyError, UserValueError
from mmdet.registry import DATASETS
from mmdet.utils.unpickling import read_pickle

from .base_det_dataset import BaseDetDataset
from .raw import RawAnnotations, parsed_annotations
from .reading.coco_file import read_json, require

TEXT_MODES = ('original', 'random', 'concat', 'select_first')


@DATASETS.register_module()
class RefCocoDataset(BaseDetDataset):
    """RefCOCO, RefCOCO+ and RefCOCOg (arXiv:1608.00272) as published: masks of COCO, and a pickle of expressions.

    A sample is a picture. Its ``text`` are expressions, lower-cased, and its instances the object of each in the same
    order, with ``mask`` and ``bbox``; ``bbox_label`` numbers them.

    Args:
        ann_file: ``instances.json`` in COCO's format.
        split_file: Pickle of the expressions (``refs(unc).p`` and its kin).
        data_prefix: ``img_path``: folder of the pictures.
        split: Which expressions: ``train``, ``val``, ``testA``, ....
        text_mode: Of the expressions of an object, take one by chance (``random``), the first (``select_first``), all
            as one (``concat``), or all, each with the object (``original``).
    """

    ALL_STAY = True

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        split_file: str,
        data_prefix: dict,
        split: str = 'train',
        text_mode: str = 'random',
        **kwargs,
    ) -> None:
        if text_mode not in TEXT_MODES:
            raise UserValueError(f'text_mode must be one of {", ".join(TEXT_MODES)}, not {text_mode!r}')
        self.split_file, self.split, self.text_mode = split_file, split, text_mode
        super().__init__(data_root=data_root, ann_file=ann_file, data_prefix=data_prefix, **kwargs)

    def _join_prefix(self) -> None:
        if self.data_root and not is_abs(self.split_file):
            self.split_file = osp.join(self.data_root, self.split_file)
        super()._join_prefix()

    def _init_refs(self) -> None:
        """Set ``refs`` and ``ref_to_ann``, by the ids of expressions."""
        annotations = {entry['id']: entry for entry in self.instances['annotations']}
        self.refs = {ref['ref_id']: ref for ref in self.splits}
        self.ref_to_ann = {}
        for own, ref in self.refs.items():
            if ref['ann_id'] not in annotations:
                raise UserKeyError(
                    f'{self.split_file}: expression {own!r} is of annotation {ref["ann_id"]!r}, which {self.ann_file} '
                    'does not have'
                )
            self.ref_to_ann[own] = annotations[ref['ann_id']]

    def _read(self) -> None:
        with get_local_path(self.ann_file, backend_args=self.backend_args) as local:
            self.instances = read_json(str(local), self.ann_file)
        require(self.instances, ('images', 'annotations'), 'the file', self.ann_file)
        for key, keys in (('images', ('id', 'file_name')), ('annotations', ('id', 'image_id', 'segmentation'))):
            for entry in self.instances[key]:
                require(entry, keys, f'an entry of "{key}"', self.ann_file)
        try:
            self.splits: Any = read_pickle(io.BytesIO(get(self.split_file, backend_args=self.backend_args)))
        except FileNotFoundError:
            raise UserFileError(f'split_file {self.split_file!r} does not exist') from None
        except (UnpicklingError, EOFError, LookupError, ValueError, TypeError) as error:
            raise UserValueError(f'split_file {self.split_file!r} is no pickle of expressions: {error}') from error
        for number, ref in enumerate(self.splits, start=1):
            require(ref, ('ref_id', 'ann_id', 'split', 'sentences'), f'expression {number}', self.split_file)

    def load_data_list(self) -> list[dict]:
        self._read()
        self._init_refs()
        chosen = [own for own, ref in self.refs.items() if ref['split'] == self.split]
        if not chosen:
            known = ', '.join(sorted({str(ref['split']) for ref in self.refs.values()}))
            raise UserValueError(f'{self.split_file} has no expressions of the split {self.split!r}; it has {known}')
        # the last of several references to an object counts, at the place of the first
        by_object = {self.ref_to_ann[own]['id']: own for own in chosen}
        by_image: dict[Any, list] = {}
        for own in by_object.values():
            by_image.setdefault(self.ref_to_ann[own]['image_id'], []).append(own)
        images = {image['id']: image for image in self.instances['images']}
        data_list = []
        for img_id, owns in by_image.items():
            if img_id not in images:
                raise UserKeyError(f'{self.ann_file}: no image has the id {img_id!r}, which an annotation belongs to')
            instances: list[dict] = []
            texts: list[str] = []
            for own in owns:
                for text in self._texts(self.refs[own]):
                    instances.append(self._instance(self.ref_to_ann[own], len(texts)))
                    texts.append(text)
            image = images[img_id]
            info = dict(img_path=osp.join(self.data_prefix.get('img_path') or '', image['file_name']), img_id=img_id)
            info.update({key: image[key] for key in ('height', 'width') if key in image})
            data_list.append(dict(info, instances=instances, text=texts))
        del self.instances, self.splits
        return data_list

    def _texts(self, ref: dict) -> list[str]:
        try:
            texts = [sentence['raw'].lower() for sentence in ref['sentences']]
        except (KeyError, TypeError, AttributeError):
            raise UserValueError(
                f'{self.split_file}: a sentence of expression {ref["ref_id"]!r} has no text "raw"'
            ) from None
        if self.text_mode == 'original' or not texts:
            return texts
        if self.text_mode == 'concat':
            return [''.join(texts)]
        return [random.choice(texts) if self.text_mode == 'random' else texts[0]]

    @staticmethod
    def _instance(annotation: dict, number: int) -> dict:
        x, y, w, h = annotation.get('bbox') or (0, 0, 0, 0)
        return dict(mask=annotation['segmentation'], bbox=[x, y, x + w, y + h], bbox_label=number, ignore_flag=0)

    def filter_data(self) -> list[dict]:
        """All samples: an expression is one whatever its picture."""
        return self.data_list

    def raw_annotations(self) -> RawAnnotations:
        return parsed_annotations(self, lambda sample, instance: sample['text'][instance['bbox_label']])
