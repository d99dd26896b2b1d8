"""From what the data loader gives to what a detector takes."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any, Self

import torch
from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserKeyError, UserValueError
from mmdet.models.core import rgb_to_lab, unfold_wo_center
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import BaseBoxes, get_box_tensor
from mmdet.structures.ground_truth import check_ground_truth
from mmdet.structures.mask import BitmapMasks
from mmdet.structures.mask.windows import MaskWindows, move_together

from .batch_augments import BatchFixedSizePad, BatchResize, BatchSyncRandomResize

__all__ = [
    'BatchFixedSizePad',
    'BatchResize',
    'BatchSyncRandomResize',
    'BoxInstDataPreprocessor',
    'DetDataPreprocessor',
    'MultiBranchDataPreprocessor',
]


@MODELS.register_module()
class DetDataPreprocessor(ImgDataPreprocessor):
    """Moves a batch to the device, then normalises and pads it there.

    Pictures travel as the bytes they were decoded to, and the boxes and labels of a batch as one tensor of each type.
    Before that, in training, the ground truth is checked, whatever data set and transforms it comes from:
    :func:`mmdet.structures.ground_truth.check_ground_truth`.

    Args:
        mean, std: Of each channel, after a change of channel order; both or neither.
        pad_size_divisor: Height and width of the batch are multiples of it.
        pad_value: Value of padding, after normalisation.
        pad_mask, mask_pad_value: Whether ground-truth masks are padded to the batch's size in training, and with what.
        pad_seg, seg_pad_value: The same for semantic segmentation maps.
        bgr_to_rgb, rgb_to_bgr: Whether channels are reversed.
        boxtype2tensor: Whether boxes become plain tensors.
        non_blocking: Taken for compatibility; pinned memory is always copied without waiting.
        batch_augments: Configs of augmentations of a whole batch in training, such as ``BatchSyncRandomResize``.
        mixed_test_sizes: Whether pictures of different padded sizes share a batch in testing too. They are predicted
            size by size by default, as if each were alone; a mixed batch may be faster on a GPU, and its scores differ.
    """

    num_labels: int | None = None
    """Labels of the ground truth are below it; a detector sets it when it is told to train."""
    needed: tuple[str, ...] = ()
    """What each picture's ground truth must have; set likewise."""
    semantic_labels: tuple[int, int] | None = None
    """Labels of semantic maps are below the first number, or are the second, which is ignored; set likewise."""

    def __init__(
        self,
        mean: Sequence[Number] | None = None,
        std: Sequence[Number] | None = None,
        pad_size_divisor: int = 1,
        pad_value: float | int = 0,
        pad_mask: bool = False,
        mask_pad_value: int = 0,
        pad_seg: bool = False,
        seg_pad_value: int = 255,
        bgr_to_rgb: bool = False,
        rgb_to_bgr: bool = False,
        boxtype2tensor: bool = True,
        non_blocking: bool | None = False,
        batch_augments: list[dict] | None = None,
        mixed_test_sizes: bool = False,
    ) -> None:
        super().__init__(
            mean=mean,
            std=std,
            pad_size_divisor=pad_size_divisor,
            pad_value=pad_value,
            bgr_to_rgb=bgr_to_rgb,
            rgb_to_bgr=rgb_to_bgr,
            non_blocking=non_blocking,
        )
        self.batch_augments = (
            torch.nn.ModuleList(MODELS.build(augment) for augment in batch_augments)
            if batch_augments is not None
            else None
        )
        self.pad_mask, self.mask_pad_value = pad_mask, mask_pad_value
        self.pad_seg, self.seg_pad_value = pad_seg, seg_pad_value
        self.boxtype2tensor = boxtype2tensor
        self.mixed_test_sizes = mixed_test_sizes

    def _apply(self, fn: Any, recurse: bool = True) -> DetDataPreprocessor:
        exact = {name: value for name, value in self._buffers.items() if value is not None}
        super()._apply(fn, recurse)
        for name, value in exact.items():  # pictures are normalised in float32, whatever the network computes in
            self._buffers[name] = value.to(self._buffers[name].device)
        return self

    def groups_of_one_size(self, data: Any) -> list[list[int]]:
        """Places in a batch of the pictures that are predicted together, in the order of their first ones."""
        images = data.get('inputs') if isinstance(data, dict) else None
        if self.mixed_test_sizes or not isinstance(images, (list, tuple)):
            return []
        groups: dict[tuple[int, int], list[int]] = {}
        for place, shape in enumerate(self._get_pad_shape(data)):
            groups.setdefault(shape, []).append(place)
        return list(groups.values())

    def forward(self, data: dict, training: bool = False) -> dict:
        """``inputs (B, 3, H, W)`` float and ``data_samples``, both on the device.

        Args:
            data: ``inputs``, a list of ``(3, h, w)`` or a tensor ``(B, 3, h, w)``, and maybe ``data_samples``.
        """
        if 'inputs' not in data:
            raise UserKeyError(
                f"a batch has no 'inputs', only {', '.join(map(repr, data)) or 'nothing'}: PackDetInputs makes them, "
                'as the last transform of a pipeline'
            )
        images, samples = data['inputs'], data.get('data_samples')
        if training and samples is not None:
            check_ground_truth(samples, self.num_labels, self.needed, self.semantic_labels)
        inputs = self.pad_batch(images)
        if samples is not None:
            if self.boxtype2tensor:
                for sample in samples:
                    boxes_to_tensors(sample)
            samples = to_device(samples, self.device)
            for sample, shape in zip(samples, self._get_pad_shape(dict(inputs=images))):
                sample.set_metainfo(dict(batch_input_shape=tuple(inputs.shape[-2:]), pad_shape=shape))
            if training and self.pad_mask:
                self.pad_gt_masks(samples)  # packed masks take the new size without a copy
            if training and self.pad_seg:
                self.pad_gt_sem_seg(samples)
        if training and self.batch_augments is not None:
            for augment in self.batch_augments:
                inputs, samples = augment(inputs, samples)
        return dict(inputs=inputs, data_samples=samples)

    def pad_batch(self, images: Sequence[Tensor] | Tensor) -> Tensor:
        """Images ``(3, h, w)``, each in the upper left corner of ``(B, 3, H, W)``."""
        for image in images:
            if image.dim() != 3:
                raise UserValueError(f'an image must be (channels, height, width), not {tuple(image.shape)}')
            if self._enable_normalize and self.mean.shape[0] == 3 and image.shape[0] != 3:
                raise UserValueError(f'mean has 3 values, but an image has {image.shape[0]} channels')
        size = [self._padded(max(image.shape[axis] for image in images)) for axis in (-2, -1)]
        channels = images[0].shape[0]
        if self.device.type != 'cpu' and len({(image.dtype, image.shape[0]) for image in images}) == 1:
            return self._normalized_together(images, size)
        batch = torch.full((len(images), channels, *size), float(self.pad_value), device=self.device)
        for place, image in zip(batch, images):
            image = image.to(self.device, non_blocking=True)
            place = place[:, : image.shape[1], : image.shape[2]]
            if not self._channel_conversion:
                self._fill(place, image)
                continue
            for c, channel in enumerate(image.unbind()[::-1]):  # one by one, so that no reversed copy is made
                self._fill(place[c : c + 1], channel[None], c)
        return batch

    def _normalized_together(self, images: Sequence[Tensor] | Tensor, size: Sequence[int]) -> Tensor:
        """:meth:`pad_batch` of images of one type, for devices to which a few large steps come cheaper than many small
        ones; the numbers are the same."""
        shapes = [tuple(image.shape[1:]) for image in images]
        if set(shapes) == {tuple(size)}:
            whole = (images if isinstance(images, Tensor) else torch.stack(list(images))).to(
                self.device, non_blocking=True
            )
        else:
            whole = torch.zeros(len(images), len(images[0]), *size, dtype=images[0].dtype, device=self.device)
            for place, image, (height, width) in zip(whole, images, shapes):
                place[:, :height, :width].copy_(image, non_blocking=True)
        if self._channel_conversion:
            whole = whole.flip(1)
        batch = torch.sub(whole, self.mean).div_(self.std).float() if self._enable_normalize else whole.float()
        for place, (height, width) in zip(batch, shapes):
            if height < size[0]:
                place[:, height:] = float(self.pad_value)
            if width < size[1]:
                place[:, :height, width:] = float(self.pad_value)
        return batch

    def _fill(self, place: Tensor, image: Tensor, channel: int | None = None) -> None:
        """Write ``image``, or its one ``channel``, normalised into ``place``."""
        if not self._enable_normalize:
            place.copy_(image)
            return
        mean, std = (self.mean, self.std) if channel is None else (self.mean[channel], self.std[channel])
        torch.sub(image, mean, out=place).div_(std)

    def _padded(self, side: int) -> int:
        return -(-side // self.pad_size_divisor) * self.pad_size_divisor

    def _get_pad_shape(self, data: dict) -> list[tuple[int, int]]:
        """Height and width of each of the ``inputs`` after padding to a multiple of ``pad_size_divisor``."""
        return [(self._padded(image.shape[-2]), self._padded(image.shape[-1])) for image in data['inputs']]

    def pad_gt_masks(self, batch_data_samples: Sequence[DetDataSample]) -> None:
        """Pad the masks of samples, in place, to the size of the batch."""
        for sample in batch_data_samples:
            for instances in (sample.get('gt_instances'), sample.get('ignored_instances')):
                if instances is not None and 'masks' in instances:
                    instances.masks = instances.masks.pad(sample.batch_input_shape, pad_val=self.mask_pad_value)

    def pad_gt_sem_seg(self, batch_data_samples: Sequence[DetDataSample]) -> None:
        """Pad the semantic maps of samples, in place, to the size of the batch."""
        from mmengine.structures import PixelData

        for sample in batch_data_samples:
            if 'gt_sem_seg' not in sample:
                continue
            seg = sample.gt_sem_seg.sem_seg
            height, width = seg.shape[-2:]
            pad = (0, max(sample.batch_input_shape[1] - width, 0), 0, max(sample.batch_input_shape[0] - height, 0))
            padded = torch.nn.functional.pad(seg, pad, value=self.seg_pad_value)
            sample.gt_sem_seg = PixelData(metainfo=sample.gt_sem_seg.metainfo, sem_seg=padded)


@MODELS.register_module()
class BoxInstDataPreprocessor(DetDataPreprocessor):
    """Gives each box a mask that fills it, and the picture the pairs of neighbouring pixels of like colour.

    In training ``gt_instances`` get ``masks``, and ``pairwise_masks (n, K, h, w)``: whether a pixel and each of its K
    neighbours are alike, the same for all boxes of a picture.

    Args:
        mask_stride: Stride of the pairs' pixels.
        pairwise_size, pairwise_dilation: Size of the neighbourhood of a pixel and the steps within it.
        pairwise_color_thresh: Likeness from which on they are alike (Eq. 5).
        bottom_pixels_removed: Rows at the bottom, of a picture of the batch's height, that are not looked at: in COCO
            they hold frames.
    """

    def __init__(
        self,
        *arg: Any,
        mask_stride: int = 4,
        pairwise_size: int = 3,
        pairwise_dilation: int = 2,
        pairwise_color_thresh: float = 0.3,
        bottom_pixels_removed: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(*arg, **kwargs)
        self.mask_stride, self.bottom_pixels_removed = mask_stride, bottom_pixels_removed
        self.pairwise_size, self.pairwise_dilation = pairwise_size, pairwise_dilation
        self.pairwise_color_thresh = pairwise_color_thresh

    def get_images_color_similarity(self, inputs: Tensor, image_masks: Tensor) -> Tensor:
        """Likeness ``(B, K, h, w)`` of pixels ``(B, 3, h, w)`` and their neighbours.

        It is 0 for a neighbour that does not lie where masks ``(B, h, w)`` are 1.
        """
        size, step = self.pairwise_size, self.pairwise_dilation
        distance = (inputs[:, :, None] - unfold_wo_center(inputs, size, step)).norm(dim=1)
        near = unfold_wo_center(image_masks.reshape(len(inputs), 1, *inputs.shape[2:]).to(inputs), size, step)
        return (-0.5 * distance).exp() * near[:, 0]

    def forward(self, data: dict, training: bool = False) -> dict:
        if not training:
            return super().forward(data, training)
        check_ground_truth(data['data_samples'], self.num_labels, self.needed)  # which may take boxes out
        shapes = self._get_pad_shape(data)
        height, width = (max(sides) for sides in zip(*shapes))
        for sample in data['data_samples']:
            boxes = get_box_tensor(sample.gt_instances.bboxes)
            sample.gt_instances.masks = BitmapMasks([], height, width).with_windows(
                MaskWindows.filled(boxes.detach().cpu().numpy(), height, width)
            )
        data = super().forward(data, training)
        stride, start = self.mask_stride, self.mask_stride // 2
        images, samples = data['inputs'], data['data_samples']
        seen = torch.zeros(len(images), *images.shape[2:], device=images.device)
        for place, sample in zip(seen, samples):
            rows, columns = sample.img_shape[:2]
            removed = int(self.bottom_pixels_removed * rows / images.shape[2])
            place[: rows - removed, :columns] = 1
        colours = images * self.std + self.mean if self._enable_normalize else images
        small = torch.nn.functional.avg_pool2d(colours.float(), stride).clamp(0, 255).floor()
        similarity = self.get_images_color_similarity(
            rgb_to_lab(small / 255).float(), seen[:, start::stride, start::stride]
        )
        alike = (similarity >= self.pairwise_color_thresh).float()
        for sample, pairs in zip(samples, alike):
            sample.gt_instances.pairwise_masks = pairs.expand(len(sample.gt_instances.bboxes), -1, -1, -1)
        return data


def _of_inner(name: str) -> Any:
    """An attribute of the preprocessor inside."""
    return property(
        lambda self: getattr(self.data_preprocessor, name),
        lambda self, value: setattr(self.data_preprocessor, name, value),
        doc='As of the preprocessor inside.',
    )


@MODELS.register_module()
class MultiBranchDataPreprocessor(BaseDataPreprocessor):
    """Batches of several branches (semi-supervised learning), each prepared on its own.

    Args:
        data_preprocessor: Config of what prepares a batch, of each branch in training and the only one in testing.
    """

    num_labels, needed, semantic_labels = map(_of_inner, ('num_labels', 'needed', 'semantic_labels'))

    def __init__(self, data_preprocessor: dict) -> None:
        super().__init__()
        self.data_preprocessor = MODELS.build(data_preprocessor)

    def forward(self, data: dict, training: bool = False) -> dict:
        """In training ``{key: {branch: value}}`` of ``{key: {branch: list}}``, whose lists have None for each picture
        that has no part in the branch; in testing as the preprocessor inside.
        """
        if not training:
            return self.data_preprocessor(data, training)
        prepared: dict[str, dict] = {}
        for branch in dict.fromkeys(branch for values in data.values() for branch in values):
            part = {key: [v for v in values[branch] if v is not None] for key, values in data.items()}
            for key, value in self.data_preprocessor(part, training).items():
                prepared.setdefault(key, {})[branch] = value
        return prepared

    def groups_of_one_size(self, data: Any) -> list[list[int]]:
        """As the preprocessor inside does it."""
        return self.data_preprocessor.groups_of_one_size(data)

    @property
    def device(self) -> torch.device:
        """That of the preprocessor inside."""
        return self.data_preprocessor.device

    def to(self, device: str | torch.device | None, *args: Any, **kwargs: Any) -> Self:
        self.data_preprocessor.to(device, *args, **kwargs)
        return self

    def cuda(self, *args: Any, **kwargs: Any) -> Self:
        self.data_preprocessor.cuda(*args, **kwargs)
        return self

    def cpu(self, *args: Any, **kwargs: Any) -> Self:
        self.data_preprocessor.cpu(*args, **kwargs)
        return self


def boxes_to_tensors(sample: DetDataSample) -> None:
    """Replace the box containers of a sample by their tensors."""
    for name in ('gt_instances', 'ignored_instances', 'proposals', 'pred_instances'):
        instances = sample.get(name)
        if instances is None:
            continue
        for key in ('bboxes', 'priors'):
            value = instances.get(key)
            if isinstance(value, BaseBoxes):
                setattr(instances, key, value.tensor)


def to_device(samples: Sequence[DetDataSample], device: torch.device) -> list[DetDataSample]:
    """Samples on ``device``; their instances and label maps cross in one copy for each data type, as views of it.

    Bitmaps cross together, as windows of one bit a pixel.
    """
    if device.type == 'cpu':
        return [sample.to(device) for sample in samples]
    from mmengine.structures import PixelData

    slots, groups, bitmaps = [], {}, []
    for sample in samples:
        for name in ('gt_instances', 'ignored_instances', 'proposals', 'gt_sem_seg'):
            instances = sample.get(name)
            if not isinstance(instances, (InstanceData, PixelData)):
                continue
            for key, value in instances.items():
                if isinstance(value, Tensor) and value.device.type == 'cpu':
                    slots.append((instances, key, value))
                    groups.setdefault(value.dtype, []).append(value)
                elif isinstance(value, BitmapMasks):
                    packed = value.packed()
                    if packed.windows is not None and packed.windows.bits.device.type == 'cpu':
                        bitmaps.append((instances, key, packed))
    moved = {}
    for dtype, tensors in groups.items():
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        if device.type == 'cuda':
            flat = flat.pin_memory()
        parts = flat.to(device, non_blocking=True).split([tensor.numel() for tensor in tensors])
        moved[dtype] = iter(part.view(tensor.shape) for part, tensor in zip(parts, tensors))
    for instances, key, value in slots:
        instances.set_field(next(moved[value.dtype]), key)
    if bitmaps:
        windows = move_together([packed.windows for *_, packed in bitmaps], device)
        for (instances, key, packed), part in zip(bitmaps, windows):
            instances.set_field(packed.with_windows(part), key)
    return [sample.to(device, non_blocking=True) for sample in samples]
