from __future__ import annotations

import os.path as osp
from xml.etree import ElementTree

from mmdet.registry import DATASETS

from .xml_style import XMLDataset

# Eyes, nose tip, corners of the mouth: left and right change places in a mirror.
FLIP_INDICES = (1, 0, 2, 4, 3)


@DATASETS.register_module()
class WIDERFaceDataset(XMLDataset):
    """WIDER FACE (CVPR 2016) with one VOC-style XML file for each image under ``<img prefix>/Annotations``.

    Where a face has the five landmarks that RetinaFace (arXiv:1905.00641) added to the set, its instance has
    ``keypoints``: 15 numbers x, y, visibility (0: not annotated); load them with
    ``LoadAnnotations(with_keypoints=True)``. In the XML they stand as ``<lm><x1/><y1/> ... <x5/><y5/></lm>``.
    """

    METAINFO = dict(classes=('face',), palette=[(0, 255, 0)])

    def _raw_info(self, img_id: str) -> dict:
        return dict(
            img_id=img_id,
            file_name=f'{img_id}.jpg',
            xml_path=osp.join(self.data_prefix['img'], 'Annotations', f'{img_id}.xml'),
        )

    def parse_data_info(self, raw_data_info: dict) -> dict:
        root = self._read_xml(raw_data_info['xml_path'])
        img_path = osp.join(self.data_prefix['img'], root.findtext('folder') or '', raw_data_info['file_name'])
        return dict(
            img_path=img_path,
            img_id=raw_data_info['img_id'],
            xml_path=raw_data_info['xml_path'],
            flip_indices=FLIP_INDICES,
            **self._size(root, img_path),
            instances=self._parse_instance_info(root, minus_one=False),
        )

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
            return [0.0] * 15
        values: list[float] = []
        for i in range(1, 6):
            x, y = (float(marks.findtext(f'{axis}{i}', '-1')) for axis in 'xy')
            values += [x, y, 1.0] if x >= 0 and y >= 0 else [0.0, 0.0, 0.0]
        return values
