"""pycocotools' index under snake_case names, of files that are read quietly, checked and repaired."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pycocotools.coco import COCO as _COCO

from mmdet.datasets.reading.coco_file import CocoCheck, MissingKeyError, read_json, require
from mmdet.datasets.reading.report import Report
from mmdet.errors import UserKeyError

__all__ = ['COCO', 'COCOPanoptic', 'MissingKeyError', 'read_json']


class COCO(_COCO):
    """Index of a COCO annotation file.

    Args:
        annotation_file: Path of the JSON file, or its parsed content.
        report: Takes what is found in the file, and nothing stops at what has to be refused: the caller looks at the
            report. Without one the first such thing is raised.
        name: Of the file for messages, where it is not its path.

    Raises:
        UserError: the file is not JSON or not an object, or what it holds has no meaning; with file, entry and value.
    """

    IMAGE_KEYS: tuple[str, ...] = ('id', 'file_name')
    OWN_IDS = True
    """Whether annotations have ids of their own."""

    def __init__(
        self, annotation_file: str | dict | None = None, report: Report | None = None, name: str | None = None
    ) -> None:
        self.imgs: dict[Any, dict]
        self.cats: dict[Any, dict]
        self.anns: dict[Any, Any]
        self.imgToAnns: dict[Any, list]
        self.catToImgs: dict[Any, list]
        super().__init__()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs
        self.annotation_file = name or (annotation_file if isinstance(annotation_file, str) else '<dict>')
        if annotation_file is not None:
            self.dataset = read_json(annotation_file) if isinstance(annotation_file, str) else annotation_file
            self.check(report)
            self.createIndex()

    def check(self, report: Report | None = None, unique: bool = False) -> None:
        """Check the entries and their ids, once; boxes and masks are checked by who needs them."""
        self.report = Report(self.annotation_file) if report is None else report
        self.checked = CocoCheck(self.dataset, self.report, self.IMAGE_KEYS)
        self.set_entries(self.checked.entries(self.entries(), self.OWN_IDS, unique))
        if report is None:
            self.report.raise_refused()

    def entries(self) -> list[dict]:
        """The objects of the file."""
        return self.dataset.get('annotations', [])

    def set_entries(self, entries: list[dict]) -> None:
        """Leave out the objects that are not among ``entries``, which are some of :meth:`entries` in their order."""
        if 'annotations' in self.dataset:
            self.dataset['annotations'] = entries

    def createIndex(self) -> None:
        """Tables by id of what the file holds.

        Raises:
            ValueError: where an entry lacks a key.
        """
        self.imgs = {image['id']: image for image in self.dataset.get('images', ())}
        self.cats = {category['id']: category for category in self.dataset.get('categories', ())}
        self.anns, self.imgToAnns, self.catToImgs = {}, defaultdict(list), defaultdict(list)
        self._index_annotations()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def _index_annotations(self) -> None:
        for ann in self.entries():
            self.imgToAnns[ann['image_id']].append(ann)
            self.anns[ann['id']] = ann
            self.catToImgs[ann['category_id']].append(ann['image_id'])

    def _require(self, entry: dict, keys: tuple[str, ...], where: str) -> None:
        require(entry, keys, where, self.annotation_file)

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

    OWN_IDS = False
    ANNOTATION_KEYS = ('image_id', 'file_name', 'segments_info')

    def entries(self) -> list[dict]:
        """The segments of all pictures, each with its ``image_id``, ``height`` and ``width``."""
        images = {image.get('id'): image for image in self.dataset['images']}
        entries = []
        for ann in self.dataset.get('annotations', ()):
            self._require(ann, self.ANNOTATION_KEYS, 'an entry of "annotations"')
            image = images.get(ann['image_id'])
            if image is None:
                raise UserKeyError(
                    f'{self.annotation_file}: an entry of "annotations" belongs to image {ann["image_id"]!r}, '
                    'which the file does not have'
                )
            image['segm_file'] = ann['file_name']
            for segment in ann['segments_info']:
                self._require(segment, ('id', 'category_id'), f'a segment of {ann["file_name"]!r}')
                segment.update(image_id=ann['image_id'], height=image.get('height'), width=image.get('width'))
            entries += ann['segments_info']
        return entries

    def set_entries(self, entries: list[dict]) -> None:
        """Leave out the segments that are not among ``entries``."""
        kept = {id(entry) for entry in entries}
        for ann in self.dataset.get('annotations', ()):
            ann['segments_info'] = [segment for segment in ann['segments_info'] if id(segment) in kept]

    def _index_annotations(self) -> None:
        self.anns = defaultdict(list)
        for segment in self.entries():
            self.imgToAnns[segment['image_id']].append(segment)
            self.anns[segment['id']].append(segment)
            self.catToImgs[segment['category_id']].append(segment['image_id'])

    def load_anns(self, ids=()):
        """All segments that have one of these ids, which are unique only within an image."""
        ids = ids if isinstance(ids, (list, tuple)) else [ids]
        return [segment for i in ids for segment in self.anns[i]]
