from __future__ import annotations

import os.path as osp
from collections.abc import Iterable, Iterator, Sequence
from xml.etree import ElementTree

from mmdet.errors import UserValueError
from mmdet.registry import DATASETS
from mmdet.utils.class_names import WIDER_FACE_CLASSES

from .raw import RawAnnotations, parsed_annotations
from .reading.values import numbers
from .xml_style import XMLDataset

# Eyes, nose tip, corners of the mouth: left and right change places in a mirror.
FLIP_INDICES = (1, 0, 2, 4, 3)
NO_LANDMARKS = [0.0] * 15


@DATASETS.register_module()
class WIDERFaceDataset(XMLDataset):
    """WIDER FACE (arXiv:1511.06523) with the five landmarks of RetinaFace (arXiv:1905.00641) where there are any.

    ``ann_file`` is one of

    - a list of image ids with one VOC-style XML file each under ``<img prefix>/Annotations``, in which landmarks
      stand as ``<lm><x1/><y1/> ... <x5/><y5/></lm>``;
    - ``wider_face_*_bbx_gt.txt`` of the official download; faces marked invalid get ``ignore_flag=1``;
    - ``label.txt`` of RetinaFace, whose lines that begin with ``#`` name images.

    The images of the last two lie under ``<img prefix>/images`` or under the prefix itself. An instance has
    ``keypoints``, 15 numbers x, y, visibility (0: not annotated); ``LoadAnnotations(with_keypoints=True)`` loads them.
    """

    METAINFO = dict(classes=WIDER_FACE_CLASSES, palette=[(0, 255, 0)])
    counts_from_one = False

    def load_data_list(self) -> list[dict]:
        lines = self._image_ids()
        if not _names_pictures(lines):
            return super().load_data_list()
        read = _retinaface if lines[0].startswith('#') else _official
        return [self._from_text(name, faces) for name, faces in read(lines, self.ann_file)]

    def raw_annotations(self) -> RawAnnotations:
        return parsed_annotations(self) if _names_pictures(self._image_ids()) else super().raw_annotations()

    def _from_text(self, name: str, faces: list[dict]) -> dict:
        prefix = self.data_prefix.get('img') or ''
        img_path = osp.join(prefix, 'images', name)
        if not osp.exists(img_path):
            img_path = osp.join(prefix, name)
        return dict(
            img_path=img_path,
            img_id=osp.splitext(name)[0],
            flip_indices=FLIP_INDICES,
            **self._picture_size(img_path),
            instances=[face for face in faces if self._is_large_enough(face)],
        )

    def _is_large_enough(self, face: dict) -> bool:
        """Marks what ``bbox_min_size`` asks to ignore; false for a face without area."""
        x1, y1, x2, y2 = face['bbox']
        if self.bbox_min_size is not None and min(x2 - x1, y2 - y1) < self.bbox_min_size:
            face['ignore_flag'] = 1
        return x2 > x1 and y2 > y1

    def _raw_info(self, img_id: str) -> dict:
        return dict(
            img_id=img_id,
            file_name=f'{img_id}.jpg',
            xml_path=osp.join(self.data_prefix.get('img') or '', 'Annotations', f'{img_id}.xml'),
        )

    def _other_fields(self) -> dict:
        return dict(super()._other_fields(), flip_indices=FLIP_INDICES)

    def _picture_path(self, img_info: dict, root: ElementTree.Element) -> str:
        return osp.join(self.data_prefix.get('img') or '', root.findtext('folder') or '', img_info['file_name'])

    def _parse_instance_info(self, raw_ann_info: ElementTree.Element, minus_one: bool = True) -> list[dict]:
        instances = super()._parse_instance_info(raw_ann_info, minus_one)
        faces = [x for x in raw_ann_info.findall('object') if (x.findtext('name') or '').strip() in self.cat2label]
        for instance, face in zip(instances, faces, strict=True):
            instance['keypoints'] = self._landmarks(face)
        return instances

    @staticmethod
    def _landmarks(face: ElementTree.Element) -> list[float]:
        marks = face.find('lm')
        if marks is None or face.findtext('has_lm', '1').strip() == '0':
            return NO_LANDMARKS
        texts = [[marks.findtext(f'{axis}{i}', '-1') for axis in 'xy'] for i in range(1, 6)]
        return _keypoints(numbers(point, 'the landmarks') for point in texts)


def _names_pictures(lines: list[str]) -> bool:
    """Whether the file is one of the two text formats, and no list of ids."""
    return bool(lines) and (lines[0].startswith('#') or lines[0].endswith(('.jpg', '.png')))


def _keypoints(points: Iterable[Sequence[float]]) -> list[float]:
    """x, y and 1 of each point; zeros for one that is not annotated, which has a negative coordinate."""
    return [value for x, y in points for value in ((x, y, 1.0) if x >= 0 and y >= 0 else (0.0, 0.0, 0.0))]


def _face(box: Sequence[float], keypoints: list[float] = NO_LANDMARKS, ignored: bool = False) -> dict:
    x, y, w, h = box
    return dict(bbox=[x, y, x + w, y + h], bbox_label=0, ignore_flag=int(ignored), keypoints=keypoints)


def _official(lines: list[str], source: str) -> Iterator[tuple[str, list[dict]]]:
    """Image, count, then ``x y w h blur expression illumination invalid occlusion pose``; one row of 0 for no face."""
    at = 0
    while at < len(lines):
        name, count = lines[at], lines[at + 1] if at + 1 < len(lines) else ''
        if not count.isdigit():
            raise UserValueError(f'{source!r}: after {name!r} stands {count!r}, not the number of its faces')
        rows = lines[at + 2 : at + 2 + max(int(count), 1)]
        values = [numbers(row.split(), f'{source!r}: {name!r}') for row in rows]
        if any(len(value) < 4 for value in values) or len(values) < int(count):
            raise UserValueError(f'{source!r}: the faces of {name!r} are not {count} rows of numbers')
        yield name, [_face(value[:4], ignored=len(value) > 7 and value[7] == 1) for value in values[: int(count)]]
        at += 2 + len(rows)


def _retinaface(lines: list[str], source: str) -> Iterator[tuple[str, list[dict]]]:
    """``# image``, then ``x y w h`` and, in the training set, five times ``x y flag`` (-1: not annotated)."""
    name = ''
    faces: list[dict] = []
    for line in lines:
        if line.startswith('#'):
            if name:
                yield name, faces
            name, faces = line.lstrip('# ').strip(), []
            continue
        values = numbers(line.split(), f'{source!r}: {name!r}')
        if len(values) < 4:
            raise UserValueError(f'{source!r}: {line!r} of {name!r} is no face')
        keypoints = NO_LANDMARKS
        if len(values) >= 19:
            keypoints = _keypoints(values[i : i + 2] for i in range(4, 19, 3))
        faces.append(_face(values[:4], keypoints))
    if name:
        yield name, faces
