from __future__ import annotations

import io
import os.path as osp
from pickle import UnpicklingError

from mmengine.fileio import get

from mmdet.errors import UserFileError, UserKeyError, UserValueError
from mmdet.registry import DATASETS
from mmdet.utils.unpickling import read_pickle

from .base_det_dataset import BaseDetDataset
from .captioned import read_checked
from .raw import RawAnnotations, parsed_annotations


@DATASETS.register_module()
class DODDataset(BaseDetDataset):
    """The descriptions of D3 (arXiv:2307.12813): a sample has those of the group of its picture as ``text``.

    ``sent_ids`` are their ids. ``sentences.pkl``, ``images.pkl`` and ``groups.pkl`` are read by this package, which
    needs no other for it.

    Args:
        data_prefix: ``img``: folder of the pictures, ``anno``: folder of the pickles, both below ``data_root``.
    """

    def __init__(self, *args, data_root: str = '', data_prefix: dict = dict(img_path=''), **kwargs) -> None:
        if not isinstance(data_prefix, dict) or not {'img', 'anno'} <= set(data_prefix):
            raise UserKeyError(f'DODDataset needs data_prefix with img and anno, not {data_prefix!r}')
        self.img_root = osp.join(data_root or '', data_prefix['img'])
        self.anno_root = osp.join(data_root or '', data_prefix['anno'])
        self._backend = kwargs.get('backend_args')
        self.sentences = self._table('sentences')
        classes = tuple(sentence['raw_sent'] for sentence in self.sentences.values())
        metainfo = {'classes': classes, **(kwargs.pop('metainfo', None) or {})}
        super().__init__(*args, data_root=data_root, data_prefix=data_prefix, metainfo=metainfo, **kwargs)

    def _table(self, name: str) -> dict:
        """Entries by id."""
        path = osp.join(self.anno_root, f'{name}.pkl')
        try:
            table = read_pickle(io.BytesIO(get(path, backend_args=self._backend)))
        except FileNotFoundError:
            raise UserFileError(f'annotation file {path!r} does not exist') from None
        except (UnpicklingError, EOFError, LookupError, ValueError, TypeError) as error:
            raise UserValueError(f'annotation file {path!r} is no pickle of D3: {error}') from error
        if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
            raise UserValueError(f'annotation file {path!r} holds no dict of dicts, as those of D3 do')
        return table

    def load_data_list(self) -> list[dict]:
        images, groups = self._table('images'), self._table('groups')
        coco = read_checked(self)
        data_list = []
        for img_id, image in images.items():
            try:
                # D3 asks for the sentences of a group by a set of its ids
                sent_ids = list(set(groups[image['group_id']]['inner_sent_id']))
                text = [self.sentences[own]['raw_sent'] for own in sent_ids]
                path, height, width = osp.join(self.img_root, image['file_name']), image['height'], image['width']
            except (KeyError, TypeError) as error:
                raise UserKeyError(
                    f'{self.anno_root}: image {img_id!r} of images.pkl: no {error} to be found'
                ) from None
            instances = []
            for annotation in coco.img_ann_map.get(img_id, []):
                if annotation['category_id'] in sent_ids:
                    x, y, w, h = annotation['bbox']
                    label = sent_ids.index(annotation['category_id'])
                    instances.append(dict(bbox=[x, y, x + w, y + h], bbox_label=label, ignore_flag=0))
            data_list.append(
                dict(
                    img_path=path,
                    img_id=img_id,
                    height=height,
                    width=width,
                    text=text,
                    sent_ids=sent_ids,
                    custom_entities=True,
                    instances=instances,
                )
            )
        return data_list

    def raw_annotations(self) -> RawAnnotations:
        return parsed_annotations(self, lambda sample, instance: sample['text'][instance['bbox_label']])
