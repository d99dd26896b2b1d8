from __future__ import annotations

from abc import ABCMeta, abstractmethod
from contextlib import nullcontext
from typing import Any, Self

import torch
from mmengine.model import BaseModel
from torch import Tensor
from torch.nn import ModuleList

from mmdet.errors import UserRuntimeError
from mmdet.models.core.precision import HALF
from mmdet.models.necks.levels import check_map_channels
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, OptSampleList, SampleList
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig

ForwardResults = dict[str, Tensor] | list[DetDataSample] | tuple[Tensor, ...] | Tensor


class BaseDetector(BaseModel, metaclass=ABCMeta):
    """Base of all detectors.

    Args:
        data_preprocessor: Config of the module that pads, normalises and moves a batch, ``DetDataPreprocessor`` mostly.
    """

    head_by_other_name: tuple[str, str] | None = None
    """Own name of a head, and its name in detectors of another kind, whose weights load as well."""

    needs_besides: str | None = None
    """What it needs besides pictures to predict, for which exported files have no input."""

    def __init__(self, data_preprocessor: OptConfigType = None, init_cfg: OptMultiConfig = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)

    def parse_losses(self, losses: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of all losses, and what is logged of each: mmengine's, with one operation for the numbers among them.

        Args:
            losses: Tensors, or lists of tensors, by name. Those without "loss" in their name are logged only.
        """
        if not all(isinstance(value, Tensor) and value.dim() == 0 for value in losses.values()):
            losses = super().parse_losses(losses)[1]
            del losses['loss']
        parts = [value for name, value in losses.items() if 'loss' in name]
        total = torch.stack(parts).sum() if len({(x.dtype, x.device) for x in parts}) == 1 else sum(parts)
        return total, {'loss': total, **losses}

    @property
    def num_labels(self) -> int | None:
        """Labels of the ground truth are below it; None where the heads do not say."""
        heads = getattr(self, 'bbox_head', None), getattr(getattr(self, 'roi_head', None), 'bbox_head', None)
        head = next((head for head in (*heads, getattr(self, 'mask_head', None)) if head is not None), None)
        count = getattr(head[0] if isinstance(head, ModuleList) and len(head) else head, 'num_classes', None)
        return count if isinstance(count, int) else None

    @property
    def needed_truth(self) -> tuple[str, ...]:
        """What its losses read of each picture's ground truth, as far as it is known."""
        if self.num_labels is None:
            return ()
        masks = getattr(getattr(self, 'roi_head', None), 'with_mask', False) or any(
            getattr(getattr(self, name, None), 'learns_from_masks', False) for name in ('bbox_head', 'mask_head')
        )
        return ('bboxes', 'masks') if masks else ('bboxes',)

    @property
    def semantic_labels(self) -> tuple[int, int] | None:
        """Labels of semantic maps are below the first number, or are the second; None where none are learned."""
        return None

    def train(self, mode: bool = True) -> Self:
        """As torch's; what prepares the batches learns which labels there are."""
        if hasattr(self.data_preprocessor, 'num_labels'):
            self.data_preprocessor.num_labels = self.num_labels
            self.data_preprocessor.needed = self.needed_truth
            self.data_preprocessor.semantic_labels = self.semantic_labels
        return super().train(mode)

    def _build_features(self, backbone: ConfigType, neck: OptConfigType) -> None:
        self.backbone = MODELS.build(backbone)
        if neck is not None:
            self.neck = MODELS.build(neck)
            if hasattr(self.backbone, 'feature_channels'):  # known before the first picture
                check_map_channels(self.neck, self.backbone.feature_channels)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        if self.head_by_other_name is not None:
            own, other = (f'{prefix}{name}.' for name in self.head_by_other_name)
            if not any(key.startswith(own) for key in state_dict):
                for key in [key for key in state_dict if key.startswith(other)]:
                    state_dict[own + key.removeprefix(other)] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @property
    def with_neck(self) -> bool:
        """Whether there is a neck."""
        return getattr(self, 'neck', None) is not None

    @property
    def with_shared_head(self) -> bool:
        """Whether layers stand between the regions and all heads."""
        return getattr(getattr(self, 'roi_head', None), 'with_shared_head', False)

    @property
    def with_bbox(self) -> bool:
        """Whether boxes are predicted."""
        in_roi_head = getattr(getattr(self, 'roi_head', None), 'with_bbox', False)
        return in_roi_head or getattr(self, 'bbox_head', None) is not None

    @property
    def with_mask(self) -> bool:
        """Whether masks are predicted."""
        in_roi_head = getattr(getattr(self, 'roi_head', None), 'with_mask', False)
        return in_roi_head or getattr(self, 'mask_head', None) is not None

    def test_step(self, data: Any) -> SampleList:
        """Detections on a batch as the data loader gives it, in its order.

        Pictures of different padded sizes go through the network one size after another, unless the preprocessor has
        ``mixed_test_sizes``: what a picture's padding ends in, norms and convolutions see, so that its detections would
        depend on its company.
        """
        groups = getattr(self.data_preprocessor, 'groups_of_one_size', lambda data: [])(data)
        if len(groups) < 2:
            return super().test_step(data)
        count = sum(map(len, groups))
        results: list[Any] = [None] * count
        for group in groups:
            part = {
                name: [value[i] for i in group] if isinstance(value, (list, tuple)) and len(value) == count else value
                for name, value in data.items()
            }
            for place, result in zip(group, super().test_step(part)):
                results[place] = result
        return results

    val_step = test_step

    def forward(self, inputs: Tensor, data_samples: OptSampleList = None, mode: str = 'tensor') -> ForwardResults:
        """The entry that the runner calls.

        Args:
            inputs: ``(B, 3, H, W)`` padded and normalised.
            mode: 'loss' for losses by name, 'predict' for samples with ``pred_instances``, 'tensor' for the bare
                outputs of the network.

        A network of float16 or bfloat16 weights takes inputs of any type; its results are float32.
        """
        weight = next((p for p in self.parameters() if p.is_floating_point()), None)
        dtype, autocast = torch.float32 if weight is None else weight.dtype, nullcontext()
        if isinstance(inputs, Tensor) and inputs.dtype != dtype:
            inputs = inputs.to(dtype)
        if dtype in HALF:  # autocast brings together what modules make of numbers in float32, such as positions
            autocast = torch.autocast(weight.device.type, dtype=dtype)
        with autocast:
            return self._run(inputs, data_samples, mode)

    def _run(self, inputs: Tensor, data_samples: OptSampleList, mode: str) -> ForwardResults:
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            return self._forward(inputs, data_samples)
        raise UserRuntimeError(f"mode must be 'loss', 'predict' or 'tensor', not {mode!r}")

    @abstractmethod
    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict | tuple:
        """Losses by name."""

    @abstractmethod
    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> SampleList:
        """The samples with detections in ``pred_instances``."""

    @abstractmethod
    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None):
        """Outputs of the network without post-processing."""

    @abstractmethod
    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of each level."""

    def add_pred_to_datasample(self, data_samples: SampleList, results_list: InstanceList) -> SampleList:
        """Put the detections of each image into its sample, as plain tensors, floats as float32."""
        for sample, instances in zip(data_samples, results_list):
            for name, value in instances.items():
                if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float32:
                    instances.set_field(value.float(), name)
            sample.pred_instances = instances
            if 'bboxes' in instances and not isinstance(instances.bboxes, Tensor):
                instances.bboxes = get_box_tensor(instances.bboxes)
        return data_samples

    def _extract_feat_of(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        x = self.backbone(batch_inputs)
        return self.neck(x) if self.with_neck else x
