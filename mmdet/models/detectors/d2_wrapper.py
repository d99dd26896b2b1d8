"""Detectors of Detectron2 in this toolbox."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserImportError, UserNotImplementedError, UserValueError
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import get_box_tensor
from mmdet.structures.mask import PolygonMasks
from mmdet.utils import ConfigType

from .base import BaseDetector


@MODELS.register_module()
class Detectron2Wrapper(BaseDetector):
    """A model of the package ``detectron2``, with the data, the loops and the metrics of this one.

    It normalises and pads by itself, so there is no data preprocessor: the pictures come as a list.

    Args:
        detector: What Detectron2 has under ``MODEL``, its keys in small letters.
        bgr_to_rgb, rgb_to_bgr: Turn the channels of the pictures round.
    """

    def __init__(self, detector: ConfigType, bgr_to_rgb: bool = False, rgb_to_bgr: bool = False) -> None:
        try:
            from detectron2.config import get_cfg
            from detectron2.modeling import build_model
            from detectron2.utils.events import EventStorage
        except ImportError as error:
            raise UserImportError(
                f'Detectron2Wrapper needs detectron2, see https://github.com/facebookresearch/detectron2 ({error})'
            ) from error
        if bgr_to_rgb and rgb_to_bgr:
            raise UserValueError('bgr_to_rgb and rgb_to_bgr undo each other: set one of them')
        super().__init__()
        self._channel_conversion = bgr_to_rgb or rgb_to_bgr
        self.cfg = get_cfg()
        self.cfg.merge_from_list([part for pair in _flat('MODEL', detector) for part in pair])
        self.d2_model = build_model(self.cfg)
        self.storage = EventStorage()

    def init_weights(self) -> None:
        """Load the weights that ``detector`` names, by Detectron2."""
        from detectron2.checkpoint import DetectionCheckpointer

        DetectionCheckpointer(model=self.d2_model).load(self.cfg.MODEL.WEIGHTS, checkpointables=[])

    def loss(self, batch_inputs: Sequence[Tensor], batch_data_samples: SampleList) -> dict:
        inputs = self._convert_to_d2_inputs(batch_inputs, batch_data_samples)
        with self.storage as storage:  # in which the model writes
            losses = self.d2_model(inputs)
        storage.clear_images()
        return losses

    def predict(self, batch_inputs: Sequence[Tensor], batch_data_samples: SampleList) -> SampleList:
        inputs = self._convert_to_d2_inputs(batch_inputs, batch_data_samples, training=False)
        with self.storage:
            results = self.d2_model(inputs)
        return convert_d2_pred_to_datasample(batch_data_samples, results)

    def _forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        raise UserNotImplementedError("a detector of Detectron2 has the modes 'loss' and 'predict', not 'tensor'")

    def extract_feat(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        raise UserNotImplementedError('the features of a detector of Detectron2 are inside d2_model')

    def _convert_to_d2_inputs(
        self, batch_inputs: Sequence[Tensor], batch_data_samples: SampleList, training: bool = True
    ) -> list[dict]:
        """One dict for each picture: its pixels and original size, and while training the ground truth."""
        batch = []
        for image, sample in zip(batch_inputs, batch_data_samples):
            height, width = sample.ori_shape
            pixels = image.flip(0) if self._channel_conversion else image
            entry = dict(image=pixels, height=height, width=width, image_id=sample.get('img_id'))
            entry['file_name'] = sample.get('img_path')
            if training:
                entry['instances'] = _ground_truth(sample, image.device)
            batch.append(entry)
        return batch


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Keys of Detectron2, such as MODEL.BACKBONE.NAME, and their values."""
    if not isinstance(value, dict):
        yield name, value if isinstance(value, str) else str(value)  # which Detectron2 reads as a literal
        return
    for key, inner in value.items():
        yield from _flat(f'{name}.{key.upper()}', inner)


def _ground_truth(sample: Any, device: torch.device) -> Any:
    from detectron2.structures import BitMasks, Boxes, Instances
    from detectron2.structures import PolygonMasks as Polygons

    truth = sample.gt_instances
    instances = Instances(sample.img_shape, gt_boxes=Boxes(get_box_tensor(truth.bboxes)), gt_classes=truth.labels)
    if 'masks' in truth:
        polygons = isinstance(truth.masks, PolygonMasks)
        masks = Polygons(truth.masks.masks) if polygons else BitMasks(truth.masks.to_tensor(torch.bool, device))
        instances.set('gt_masks', masks)
    return instances


def convert_d2_pred_to_datasample(data_samples: SampleList, d2_results_list: list[dict]) -> SampleList:
    """The samples with what Detectron2 has found as ``pred_instances``, one result for each."""
    if len(data_samples) != len(d2_results_list):
        raise UserValueError(
            f'{len(d2_results_list)} results of detectron2 are not those of {len(data_samples)} pictures'
        )
    for sample, result in zip(data_samples, d2_results_list):
        found = result['instances']
        fields = dict(bboxes=found.pred_boxes.tensor, scores=found.scores, labels=found.pred_classes)
        if found.has('pred_masks'):
            fields['masks'] = found.pred_masks
        sample.pred_instances = InstanceData(**fields)
    return data_samples
