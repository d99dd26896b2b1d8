from __future__ import annotations

import os.path as osp
from collections.abc import Iterator
from pathlib import Path

from mmengine import fileio

from mmdet.errors import UserValueError
from mmdet.registry import DATASETS

from .base_det_dataset import BaseDetDataset
from .raw import RawAnnotations, parsed_annotations


@DATASETS.register_module()
class CocoCaptionDataset(BaseDetDataset):
    """Pictures of COCO and what people say about them (arXiv:1504.00325).

    A sample has ``img_path``, ``img_id`` (a string, the number at the end of the file's name) and ``gt_caption``, a
    sentence or a list of them. The annotation file is a list of dicts with ``image``, a path below
    ``data_prefix['img_path']``, and ``caption``, as in Karpathy's splits; or it is COCO's own of captions, of which
    each picture is one sample with all its sentences.
    """

    def load_data_list(self) -> list[dict]:
        """One dict for each entry of the file."""
        folder = self.data_prefix.get('img_path', self.data_prefix.get('img')) or ''
        return [
            dict(img_id=Path(name).stem.split('_')[-1], img_path=osp.join(folder, name), gt_caption=caption)
            for name, caption in self._captions()
        ]

    def _captions(self) -> Iterator[tuple[str, str | list[str]]]:
        content = fileio.load(self.ann_file, backend_args=self.backend_args)
        if isinstance(content, dict) and 'images' in content:
            sentences: dict = {image['id']: [] for image in content['images']}
            for annotation in content['annotations']:
                sentences[annotation['image_id']].append(annotation['caption'])
            yield from ((image['file_name'], sentences[image['id']]) for image in content['images'])
        elif isinstance(content, list):
            yield from ((entry['image'], entry['caption']) for entry in content)
        else:
            raise UserValueError(
                f'{self.ann_file!r} is neither a list of dicts with image and caption nor a COCO file with images and '
                f'annotations, but a {type(content).__name__}'
            )

    def raw_annotations(self) -> RawAnnotations:
        raw = parsed_annotations(self)
        raw.with_boxes = False
        return raw

    def get_cat_ids(self, idx: int) -> list[int]:
        raise UserValueError(
            f'{type(self).__name__} has sentences, no boxes: nothing can be chosen by the classes of its pictures'
        )
