"""An exported file in the place of a detector, so that everything that tests a detector tests the file.

Letters: B images, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmdet.errors import UserRuntimeError
from mmdet.models.core import aligned_bilinear, paste_masks, resized_masks
from mmdet.models.core.masks import PASTE_BUDGET
from mmdet.models.detectors.base import BaseDetector
from mmdet.ops import batched_nms
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import OptConfigType

from .metadata import Metadata
from .runtime import Session, open_file

MAPS = dict(panoptic='pred_panoptic_seg', semantic='pred_sem_seg')
"""Outputs that are maps of labels, and the fields of samples that hold them."""


@MODELS.register_module()
class ExportedDetector(BaseDetector):
    """Predicts by an exported file; it cannot be trained.

    Args:
        file: The file.
        data_preprocessor: That of the detector; what the file does itself is left out.
        device: Where the file runs, if its runtime has a choice.
    """

    def __init__(self, file: str, data_preprocessor: OptConfigType = None, device: str = 'cpu') -> None:
        self.session: Session
        session = open_file(file, device)
        super().__init__(data_preprocessor=_left_over(data_preprocessor, session))
        self.session = session

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        raise UserRuntimeError(f'{self.session.path} gives detections alone, no features')

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        raise UserRuntimeError(f'{self.session.path} is an exported file: it predicts, but cannot be trained')

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> dict[str, Tensor]:
        return self.session(batch_inputs)

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        about = self.session.metadata
        inputs = fit_images(batch_inputs, batch_data_samples, about, self.session.path)
        found = self.session(inputs)
        for b, sample in enumerate(batch_data_samples):
            outputs = {name: value[b] for name, value in found.items()}
            target = tuple((sample.ori_shape if rescale else sample.img_shape)[:2])
            for name in set(MAPS) & set(outputs):
                sample.set_data({MAPS[name]: PixelData(sem_seg=_resized_map(outputs[name], sample.img_shape, target))})
            if 'boxes' not in outputs:
                continue
            image = instances_of(outputs, about)
            height, width = sample.img_shape[:2]
            limits = image.bboxes.new_tensor([width, height, width, height])
            image.bboxes = image.bboxes.clamp(min=0).minimum(limits)
            if rescale:
                image.bboxes = image.bboxes / limits.new_tensor(sample.scale_factor).repeat(2)
            if about.masks:
                image.masks = whole_masks(image, about.masks, tuple(inputs.shape[-2:]), sample.img_shape, target)
            sample.pred_instances = image
        return batch_data_samples


def fit_images(images: Tensor, samples: SampleList, about: Metadata, name: Any) -> Tensor:
    """Pictures in the upper left corner of an input of a size that the file takes, with the padding it expects.

    Raises:
        RuntimeError: they are larger than a fixed input.
    """
    height, width = images.shape[-2:]
    if about.dynamic_size:
        sides = [-(-side // about.divisor) * about.divisor for side in (height, width)]
    else:
        sides = list(about.size)
        valid = [max(sample.img_shape[axis] for sample in samples) for axis in (0, 1)]
        if valid[0] > sides[0] or valid[1] > sides[1]:
            raise UserRuntimeError(
                f'{name} takes pictures of at most {sides[0]} x {sides[1]} (height, width), not {valid[0]} x '
                f'{valid[1]}: resize them in the test pipeline, or export with a dynamic size'
            )
        images = images[..., : sides[0], : sides[1]]
    images = F.pad(images, (0, max(sides[1] - width, 0), 0, max(sides[0] - height, 0))).clone()
    fill = images.new_tensor(about.fill)[:, None, None]
    for image, sample in zip(images, samples):
        height, width = sample.img_shape[:2]
        image[:, height:] = fill
        image[:, :, width:] = fill
    return images


def instances_of(found: dict[str, Tensor], about: Metadata) -> InstanceData:
    """Detections of one image from its outputs, in pixels of the input; masks as the file gives them."""
    fields = dict(boxes='bboxes', scores='scores', labels='labels', masks='masks')
    rows = InstanceData(**{field: found[name] for name, field in fields.items() if name in found})[found['labels'] >= 0]
    rows.bboxes, rows.scores, rows.labels = rows.bboxes.float(), rows.scores.float(), rows.labels.long()
    if about.nms is not None:
        rows = rows[rows.scores > about.nms.get('score_thr', 0.0)]
        dets, order = batched_nms(rows.bboxes, rows.scores, rows.labels, about.nms['nms'])
        order = order[: about.nms['max_per_img']]
        rows = rows[order]
        rows.scores = dets[: len(order), 4]
    return rows


def whole_masks(
    image: InstanceData, kind: dict[str, Any], size: tuple[int, int], inside: Sequence[int], target: tuple[int, int]
) -> Tensor:
    """Masks ``(n, H, W)`` of a picture of the size ``target``, of detections with boxes in its pixels.

    Args:
        kind: As ``masks`` of the metadata.
        size: Of the input, of whose upper left corner the picture takes the part ``inside``.
    """
    values, threshold = image.masks.float(), kind['threshold']
    if kind['of'] == 'box':
        return paste_masks(values, image.bboxes, target, threshold)
    if kind['enlarged'] == 'logits':
        meta = dict(img_shape=inside, ori_shape=target)
        return resized_masks(values, size, meta, True, threshold)
    parts = [torch.zeros(0, *target, dtype=torch.bool)]
    for part in values[:, None].split(max(1, PASTE_BUDGET // (size[0] * size[1]))):
        if kind['enlarged'] == 'aligned':
            part = aligned_bilinear(part, size[0] // part.shape[2])
        else:
            part = F.interpolate(part, size, mode='bilinear', align_corners=False)
        part = part[..., : inside[0], : inside[1]]
        if tuple(part.shape[-2:]) != target:
            part = F.interpolate(part, target, mode='bilinear', align_corners=False)
        parts.append(part[:, 0] > threshold)
    return torch.cat(parts)


def _resized_map(labels: Tensor, inside: Sequence[int], target: tuple[int, int]) -> Tensor:
    """``(1, H, W)`` of the size ``target``, of the part ``inside`` of a map of labels."""
    part = labels[None, None, : inside[0], : inside[1]].double()  # which tells all labels apart
    return F.interpolate(part, target, mode='nearest-exact')[0].to(labels.dtype)


def _left_over(cfg: Any, session: Session) -> dict:
    """The preprocessor's config without what the file does itself."""
    left = dict(cfg or dict(type='DetDataPreprocessor'))
    left.pop('batch_augments', None)
    if session.metadata.preprocess:
        for name in ('mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr'):
            left.pop(name, None)
    if not session.metadata.dynamic_size:
        left['pad_size_divisor'] = 1
    return left


def config_inside(file: str, cfg_options: dict | None = None) -> Any:
    """The config with which a file was exported."""
    from mmdet.config.stored import stored_config

    cfg = stored_config(open_file(file).metadata.config, file)
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    object.__setattr__(cfg, 'translation_notes', [])
    return cfg


def in_the_place_of(cfg: Any, file: str, device: str = 'cpu') -> None:
    """Let a config test an exported file in the place of its model; pictures are made to fit a fixed size."""
    session = open_file(file, device)
    preprocessor = (cfg.model or {}).get('data_preprocessor')
    cfg.model = dict(type='ExportedDetector', file=str(file), data_preprocessor=preprocessor, device=device)
    if session.metadata.dynamic_size:
        return
    height, width = session.metadata.size
    for loader in ('val_dataloader', 'test_dataloader'):
        if cfg.get(loader) is not None:
            for pipeline in _pipelines(cfg[loader]):
                fit_pipeline(pipeline, height, width)


def fit_pipeline(pipeline: list[dict], height: int, width: int) -> None:
    """Let the transforms of a pipeline make no picture that is larger."""
    for transform in pipeline:
        if transform.get('type') in ('Resize', 'FixScaleResize'):
            transform['scale'] = _scale(height, width, bool(transform.get('keep_ratio')))
        if transform.get('type') == 'Pad' and transform.get('size') is not None:
            transform['size'] = (width, height)


def _scale(height: int, width: int, keep_ratio: bool) -> tuple[int, int]:
    """A picture resized to it fits, whichever way it lies: with its proportions kept, a scale is no more than the
    lengths of the sides."""
    return (min(height, width),) * 2 if keep_ratio else (width, height)


def _pipelines(loader: dict) -> list[list[dict]]:
    from mmdet.config.sections import innermost_datasets

    found = [dataset.get('pipeline') for _, dataset in innermost_datasets({'loader': loader}, 'loader')]
    return [pipeline for pipeline in found if pipeline]
