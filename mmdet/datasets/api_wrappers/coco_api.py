"""pycocotools' index under snake_case names, read quietly and with errors that name the file and the key."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from pycocotools.coco import COCO as _COCO

from mmdet.errors import UserFileError, UserKeyError, UserValueError


class COCO(_COCO):
    """Index of a COCO annotation file.

    Args:
        annotation_file: Path of the JSON file, or its parsed content.

    Raises:
        ValueError: the file is not JSON or not an object.
        KeyError: a key is missing; the message names the file, the entry and the key.
    """

    IMAGE_KEYS = ('id', 'file_name')
    ANNOTATION_KEYS = ('id', 'image_id', 'category_id')

    def __init__(self, annotation_file: str | dict | None = None) -> None:
        self.imgs: dict[Any, dict]
        self.cats: dict[Any, dict]
        self.anns: dict[Any, Any]
        self.imgToAnns: dict[Any, list]
        self.catToImgs: dict[Any, list]
        super().__init__()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs
        self.annotation_file = annotation_file if isinstance(annotation_file, str) else '<dict>'
        if annotation_file is not None:
            self.dataset = read_json(annotation_file) if isinstance(annotation_file, str) else annotation_file
            self.createIndex()

    def createIndex(self) -> None:
        """Tables by id of what the file holds.

        Raises:
            ValueError: where an entry lacks a key.
        """
        self._require(self.dataset, ('images', 'categories'), 'the file')
        for key in ('images', 'categories', 'annotations'):
            if not isinstance(self.dataset.get(key, []), list):
                raise UserValueError(f'{self.annotation_file}: "{key}" is {_short(self.dataset[key])}, not a list')
        self.imgs, self.cats, self.anns = {}, {}, {}
        self.imgToAnns, self.catToImgs = defaultdict(list), defaultdict(list)
        for image in self.dataset['images']:
            self._require(image, self.IMAGE_KEYS, 'an entry of "images"')
            self.imgs[image['id']] = image
        for category in self.dataset['categories']:
            self._require(category, ('id', 'name'), 'an entry of "categories"')
            self.cats[category['id']] = category
        self._index_annotations()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def _index_annotations(self) -> None:
        for ann in self.dataset.get('annotations', ()):
            self._require(ann, self.ANNOTATION_KEYS, 'an entry of "annotations"')
            self.imgToAnns[ann['image_id']].append(ann)
            self.anns[ann['id']] = ann
            self.catToImgs[ann['category_id']].append(ann['image_id'])

    def _require(self, entry: dict, keys: tuple[str, ...], where: str) -> None:
        if not isinstance(entry, dict):
            raise UserValueError(f'{self.annotation_file}: {where} is {_short(entry)}, not an object')
        for key in keys:
            if key not in entry:
                raise MissingKeyError(f'{self.annotation_file}: {where} has no key {key!r}: {_short(entry)}')

    def get_ann_ids(self, img_ids=(), cat_ids=(), area_rng=(), iscrowd=None):
        """As ``getAnnIds``."""
        return self.getAnnIds(img_ids, cat_ids, area_rng, iscrowd)

    def get_cat_ids(self, cat_names=(), sup_names=(), cat_ids=()):
        """As ``getCatIds``."""
        return self.getCatIds(cat_names, sup_names, cat_ids)

    def get_img_ids(self, img_ids=(), cat_ids=()):
        """As ``getImgIds``."""
        return self.getImgIds(img_ids, cat_ids)

    def load_anns(self, ids):
        """As ``loadAnns``."""
        return self.loadAnns(ids)

    def load_cats(self, ids):
        """As ``loadCats``."""
        return self.loadCats(ids)

    def load_imgs(self, ids):
        """As ``loadImgs``."""
        return self.loadImgs(ids)


class COCOPanoptic(COCO):
    """Index of a COCO panoptic file: the annotations of an image are its segments.

    Segment ids are unique within an image only, so :attr:`anns` maps an id to the list of segments with it.
    """

    ANNOTATION_KEYS = ('image_id', 'file_name', 'segments_info')

    def _index_annotations(self) -> None:
        self.anns = defaultdict(list)
        for ann in self.dataset.get('annotations', ()):
            self._require(ann, self.ANNOTATION_KEYS, 'an entry of "annotations"')
            image = self.imgs.get(ann['image_id'])
            if image is None:
                raise UserKeyError(
                    f'{self.annotation_file}: an entry of "annotations" belongs to image {ann["image_id"]!r}, '
                    'which the file does not have'
                )
            image['segm_file'] = ann['file_name']
            for segment in ann['segments_info']:
                segment.update(image_id=ann['image_id'], height=image['height'], width=image['width'])
                self.imgToAnns[ann['image_id']].append(segment)
                self.anns[segment['id']].append(segment)
                self.catToImgs[segment['category_id']].append(ann['image_id'])

    def load_anns(self, ids=()):
        """All segments that have one of these ids, which are unique only within an image."""
        ids = ids if isinstance(ids, (list, tuple)) else [ids]
        return [segment for i in ids for segment in self.anns[i]]


class MissingKeyError(UserKeyError):
    """An annotation file lacks a key."""


def _short(value: Any) -> str:
    shown = json.dumps(value, default=str)
    return shown if len(shown) < 160 else shown[:160] + ' ...'


def read_json(path: str) -> dict:
    """The object in a JSON file; ``ValueError`` with the path when it is none."""
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except FileNotFoundError:
        raise UserFileError(f'annotation file {path!r} does not exist') from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserValueError(f'annotation file {path!r} is not valid JSON: {error}') from error
    if not isinstance(content, dict):
        raise UserValueError(f'annotation file {path!r} holds a {type(content).__name__}, not an object with "images"')
    return content
