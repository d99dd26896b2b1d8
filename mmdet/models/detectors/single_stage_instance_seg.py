"""Detectors of one stage that predict masks: backbone, neck, maybe a box head, and a mask head."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig

from .base import BaseDetector


@MODELS.register_module()
class SingleStageInstanceSegmentor(BaseDetector):
    """Masks of objects by a mask head, with or without boxes that a box head finds first.

    Args:
        train_cfg, test_cfg: Handed to the heads.
    """

    def __init__(
        self,
        backbone: ConfigType,
        neck: OptConfigType = None,
        bbox_head: OptConfigType = None,
        mask_head: OptConfigType = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if mask_head is None:
            raise UserValueError(f'{type(self).__name__} needs a mask_head')
        self._build_features(backbone, neck)
        configs = dict(train_cfg=copy.deepcopy(train_cfg), test_cfg=copy.deepcopy(test_cfg))
        self.bbox_head = None if bbox_head is None else MODELS.build({**bbox_head, **configs})
        self.mask_head = MODELS.build({**mask_head, **configs})
        self.train_cfg, self.test_cfg = train_cfg, test_cfg

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        return self._extract_feat_of(batch_inputs)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList, **kwargs: Any) -> dict:
        x = self.extract_feat(batch_inputs)
        losses, positives = {}, None
        if self.bbox_head is not None:
            losses.update(self.bbox_head.loss(x, batch_data_samples, **kwargs))
            positives = self.bbox_head.get_positive_infos()
        mask_losses = self.mask_head.loss(x, batch_data_samples, positive_infos=positives, **kwargs)
        twice = sorted(set(losses) & set(mask_losses))
        if twice:
            raise UserValueError(f'both heads have a loss named {", ".join(twice)}')
        return losses | mask_losses

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True, **kwargs: Any
    ) -> SampleList:
        x = self.extract_feat(batch_inputs)
        results = None
        if self.bbox_head is not None:  # whose boxes are rescaled together with their masks
            results = self.bbox_head.predict(x, batch_data_samples, rescale=False, **kwargs)
        results = self.mask_head.predict(x, batch_data_samples, rescale=rescale, results_list=results, **kwargs)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None, **kwargs: Any) -> tuple:
        """The outputs of the box head if there is one, then those of the mask head.

        A mask head that needs detections sees none here: there are no masks without them.
        """
        x = self.extract_feat(batch_inputs)
        if self.bbox_head is None:
            return self.mask_head.forward(x)
        boxes = self.bbox_head.forward(x)
        metas = [sample.metainfo for sample in batch_data_samples or ()]
        if not metas:
            return boxes
        results = self.bbox_head.predict_by_feat(*boxes, batch_img_metas=metas, rescale=False)
        return *boxes, *self.mask_head.forward(x, results)


@MODELS.register_module()
class BoxInst(SingleStageInstanceSegmentor):
    """`BoxInst: High-Performance Instance Segmentation with Box Annotations <https://arxiv.org/abs/2012.02310>`_"""


@MODELS.register_module()
class CondInst(SingleStageInstanceSegmentor):
    """`Conditional Convolutions for Instance Segmentation <https://arxiv.org/abs/2003.05664>`_"""


@MODELS.register_module()
class SOLO(SingleStageInstanceSegmentor):
    """`SOLO: Segmenting Objects by Locations <https://arxiv.org/abs/1912.04488>`_"""


@MODELS.register_module()
class SOLOv2(SingleStageInstanceSegmentor):
    """`SOLOv2: Dynamic and Fast Instance Segmentation <https://arxiv.org/abs/2003.10152>`_"""


@MODELS.register_module()
class YOLACT(SingleStageInstanceSegmentor):
    """`YOLACT: Real-time Instance Segmentation <https://arxiv.org/abs/1904.02689>`_"""
