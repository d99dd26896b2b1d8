from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform, ImageToTensor, ToTensor, to_tensor
from mmengine.structures import InstanceData, PixelData

from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import BaseBoxes
from mmdet.structures.mask import BitmapMasks

TRANSFORMS.register_module(module=ToTensor)
TRANSFORMS.register_module(module=ImageToTensor)


def image_to_tensor(img: np.ndarray) -> torch.Tensor:
    """(H, W) or (H, W, C) array -> contiguous (C, H, W) tensor: the worker transposes, not the training process."""
    img = np.ascontiguousarray(img if img.ndim > 2 else img[..., None])
    return torch.from_numpy(img).permute(2, 0, 1).contiguous()


@TRANSFORMS.register_module()
class PackDetInputs(BaseTransform):
    """The end of a pipeline: ``inputs`` (C, H, W) and ``data_samples`` (a :class:`DetDataSample`).

    Instances with ``gt_ignore_flags`` go to ``ignored_instances``, the others to ``gt_instances``.

    Args:
        meta_keys: Keys that become metainfo of the data sample, where the sample has them.
    """

    mapping_table = {'gt_bboxes': 'bboxes', 'gt_bboxes_labels': 'labels', 'gt_masks': 'masks'}

    def __init__(
        self,
        meta_keys: tuple[str, ...] = (
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'flip',
            'flip_direction',
        ),
    ) -> None:
        self.meta_keys = meta_keys

    def transform(self, results: dict) -> dict:
        packed = {}
        if 'img' in results:
            packed['inputs'] = image_to_tensor(results['img'])
        sample = DetDataSample()
        sample.gt_instances, sample.ignored_instances = self._instances(results)
        if 'proposals' in results:
            sample.proposals = InstanceData(
                bboxes=to_tensor(results['proposals']), scores=to_tensor(results['proposals_scores'])
            )
        if results.get('gt_seg_map') is not None:
            sample.gt_sem_seg = PixelData(sem_seg=to_tensor(results['gt_seg_map'][None].copy()))
            if 'ignore_index' in results:
                sample.gt_sem_seg.set_metainfo(dict(ignore_index=results['ignore_index']))
        sample.set_metainfo({key: results[key] for key in self.meta_keys if key in results})
        packed['data_samples'] = sample
        return packed

    def _instances(self, results: dict) -> tuple[InstanceData, InstanceData]:
        fields = {name: results[key] for key, name in self.mapping_table.items() if key in results}
        if results.get('gt_keypoints') is not None:  # (N, K, 3)
            fields['keypoints'] = results['gt_keypoints'][..., :2]
            fields['keypoints_visible'] = results['gt_keypoints'][..., 2]
        flags = results.get('gt_ignore_flags')
        if flags is None or not flags.any():
            empty = np.zeros(0, dtype=np.int64)
            ignored = {} if flags is None else {name: value[empty] for name, value in fields.items()}
        else:
            ignored = {name: value[np.flatnonzero(flags)] for name, value in fields.items()}
            fields = {name: value[np.flatnonzero(~flags)] for name, value in fields.items()}
        return _as_instances(fields), _as_instances(ignored)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys})'


def _as_instances(fields: dict) -> InstanceData:
    instances = InstanceData()
    for name, value in fields.items():
        if isinstance(value, BitmapMasks):
            value = value.packed()  # in the worker: what travels depends on the objects, not on the picture
        keep = name == 'masks' or isinstance(value, BaseBoxes)
        setattr(instances, name, value if keep else to_tensor(value))
    return instances


@TRANSFORMS.register_module()
class Transpose(BaseTransform):
    """Transpose the arrays under ``keys`` by ``order``."""

    def __init__(self, keys: list[str], order: list[int]) -> None:
        self.keys = keys
        self.order = order

    def transform(self, results: dict) -> dict:
        for key in self.keys:
            results[key] = results[key].transpose(self.order)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(keys={self.keys}, order={self.order})'


@TRANSFORMS.register_module()
class WrapFieldsToLists(BaseTransform):
    """Put every value of the sample into a list of one: the shape that test-time augmentation has."""

    def transform(self, results: dict) -> dict:
        return {key: [value] for key, value in results.items()}

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
