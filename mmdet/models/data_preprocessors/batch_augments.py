"""Augmentations of a whole batch on the device, in training."""

from __future__ import annotations

import random

import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmdet.models.core import constant
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.mask import BaseInstanceMasks


@MODELS.register_module()
class BatchFixedSizePad(nn.Module):
    """Pads every batch to one size, for fixed shapes (compilation) or large-scale jittering.

    Args:
        size: Height and width; a larger batch stays as it is.
        pad_mask, mask_pad_value, pad_seg, seg_pad_value: As in ``DetDataPreprocessor``.
    """

    def __init__(
        self,
        size: tuple[int, int],
        img_pad_value: int = 0,
        pad_mask: bool = False,
        mask_pad_value: int = 0,
        pad_seg: bool = False,
        seg_pad_value: int = 255,
    ) -> None:
        super().__init__()
        self.size, self.img_pad_value = size, img_pad_value
        self.pad_mask, self.mask_pad_value = pad_mask, mask_pad_value
        self.pad_seg, self.seg_pad_value = pad_seg, seg_pad_value

    def forward(self, inputs: Tensor, data_samples: SampleList | None = None) -> tuple[Tensor, SampleList | None]:
        """Images ``(B, C, H, W)`` of at least ``size``; samples get the new shapes, and masks and maps of that size."""
        size = tuple(max(have, want) for have, want in zip(inputs.shape[-2:], self.size))
        if size == tuple(inputs.shape[-2:]):
            return inputs, data_samples
        inputs = F.pad(inputs, _margins(inputs.shape[-2:], size), value=self.img_pad_value)
        for sample in data_samples or ():
            sample.set_metainfo(dict(batch_input_shape=size, pad_shape=size))
            if self.pad_mask:
                for instances in (sample.get('gt_instances'), sample.get('ignored_instances')):
                    if instances is not None and 'masks' in instances:
                        instances.masks = instances.masks.pad(size, pad_val=self.mask_pad_value)
            if self.pad_seg and 'gt_sem_seg' in sample:
                seg = sample.gt_sem_seg.sem_seg
                padded = F.pad(seg, _margins(seg.shape[-2:], size), value=self.seg_pad_value)
                sample.gt_sem_seg = PixelData(metainfo=sample.gt_sem_seg.metainfo, sem_seg=padded)
        return inputs, data_samples


@MODELS.register_module()
class BatchSyncRandomResize(nn.Module):
    """Another input size every ``interval`` iterations, the same on every process (YOLOX, Sec. 2).

    The size is a function of the iteration, so a resumed run sees those of the uninterrupted one.

    Args:
        random_size_range: Lowest and highest height in pixels; the width keeps the aspect ratio.
        size_divisor: Height and width are multiples of it.
    """

    def __init__(self, random_size_range: tuple[int, int], interval: int = 10, size_divisor: int = 32) -> None:
        super().__init__()
        self._interval, self._size_divisor = interval, size_divisor
        self._random_size_range = tuple(round(side / size_divisor) for side in random_size_range)

    def forward(self, inputs: Tensor, data_samples: SampleList) -> tuple[Tensor, SampleList]:
        """Images ``(B, C, H, W)`` of the size of this interval, with the boxes and masks of the samples scaled."""
        inputs = inputs.float()
        height, width = inputs.shape[-2:]
        iteration = MessageHub.get_current_instance().get_info('iter', 0) or 0
        size = self._size(iteration // self._interval, (height, width))
        if size == (height, width):
            return inputs, data_samples
        inputs = F.interpolate(inputs, size=size, mode='bilinear', align_corners=False)
        scale_y, scale_x = size[0] / height, size[1] / width
        for sample in data_samples:
            shapes = {
                name: (int(sample.metainfo[name][0] * scale_y), int(sample.metainfo[name][1] * scale_x))
                for name in ('img_shape', 'pad_shape')
            }
            sample.set_metainfo(dict(**shapes, batch_input_shape=size))
            for instances in (sample.get('gt_instances'), sample.get('ignored_instances')):
                if instances is not None and 'bboxes' in instances:
                    instances.bboxes = instances.bboxes * constant([scale_x, scale_y] * 2, like=instances.bboxes)
                if instances is not None and isinstance(instances.get('masks'), BaseInstanceMasks):
                    masks = instances.masks
                    instances.masks = masks.resize((round(masks.height * scale_y), round(masks.width * scale_x)))
        return inputs, data_samples

    def _size(self, block: int, size: tuple[int, int]) -> tuple[int, int]:
        """Size of the ``block``-th stretch of iterations for a batch loaded at ``size``; the first keeps it."""
        if block == 0:
            return size
        steps = random.Random(f'{block} {self._random_size_range}').randint(*self._random_size_range)
        return steps * self._size_divisor, self._size_divisor * int(size[1] / size[0] * steps)


@MODELS.register_module()
class BatchResize(nn.Module):
    """Resizes a batch within ``scale`` (long side, short side), then pads it to multiples of ``pad_size_divisor``."""

    def __init__(self, scale: tuple[int, int], pad_size_divisor: int = 1, pad_value: float | int = 0) -> None:
        super().__init__()
        self.min_size, self.max_size = min(scale), max(scale)
        self.pad_size_divisor, self.pad_value = pad_size_divisor, pad_value

    def forward(self, inputs: Tensor, data_samples: SampleList) -> tuple[Tensor, SampleList]:
        """Images ``(B, C, H, W)``, resized and padded, with the samples adapted."""
        height, width = inputs.shape[-2:]
        size, scale = self.get_target_size(height, width)
        if scale != 1:
            inputs = F.interpolate(inputs, size=size, mode='bilinear', align_corners=False)
        padded = self.get_padded_tensor(inputs, self.pad_value)
        batch_size = tuple(padded.shape[-2:])
        for sample in data_samples:
            shape = tuple(int(side * scale) for side in sample.img_shape[:2])
            sample.set_metainfo(dict(img_shape=shape, pad_shape=batch_size, batch_input_shape=batch_size))
            sample.set_metainfo(dict(scale_factor=tuple(factor * scale for factor in sample.scale_factor)))
            for instances in (sample.get('gt_instances'), sample.get('ignored_instances')):
                if instances is not None and 'bboxes' in instances:
                    instances.bboxes = instances.bboxes * scale
        return padded, data_samples

    def get_target_size(self, height: int, width: int) -> tuple[tuple[int, int], float]:
        """Height and width within the limits, and the factor that gives them."""
        scale = min(self.max_size / max(height, width), self.min_size / min(height, width))
        return (round(height * scale), round(width * scale)), scale

    def get_padded_tensor(self, tensor: Tensor, pad_value: float) -> Tensor:
        """Images whose sides are multiples of ``pad_size_divisor``."""
        divisor = self.pad_size_divisor
        size = tuple(-(-side // divisor) * divisor for side in tensor.shape[-2:])
        return F.pad(tensor, _margins(tensor.shape[-2:], size), value=pad_value)


def _margins(have: tuple[int, int], want: tuple[int, int]) -> tuple[int, int, int, int]:
    """What :func:`torch.nn.functional.pad` takes to grow height and width at the lower right."""
    return 0, max(want[1] - have[1], 0), 0, max(want[0] - have[0], 0)
