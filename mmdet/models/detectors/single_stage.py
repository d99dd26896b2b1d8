"""Detectors of one stage: backbone, neck and one dense head. The algorithms differ in the head alone."""

from __future__ import annotations

import copy

import torch
from mmengine.dist import get_world_size
from mmengine.model import convert_sync_batchnorm
from torch import Tensor

from mmdet.registry import MODELS
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig

from .base import BaseDetector


@MODELS.register_module()
class SingleStageDetector(BaseDetector):
    """Predicts boxes at every location of the feature maps.

    Args:
        train_cfg, test_cfg: Handed to the head.
    """

    head_by_other_name = ('bbox_head', 'rpn_head')

    def __init__(
        self,
        backbone: ConfigType,
        neck: OptConfigType = None,
        bbox_head: OptConfigType = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self._build_features(backbone, neck)
        bbox_head = copy.copy(bbox_head)  # what the user passed stays as it is
        bbox_head.update(train_cfg=train_cfg, test_cfg=test_cfg)
        self.bbox_head = MODELS.build(bbox_head)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        return self._extract_feat_of(batch_inputs)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict | list:
        return self.bbox_head.loss(self.extract_feat(batch_inputs), batch_data_samples)

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        results = self.bbox_head.predict(self.extract_feat(batch_inputs), batch_data_samples, rescale=rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> tuple[list[Tensor], ...]:
        return self.bbox_head.forward(self.extract_feat(batch_inputs))


@MODELS.register_module()
class RetinaNet(SingleStageDetector):
    """`Focal Loss for Dense Object Detection <https://arxiv.org/abs/1708.02002>`_"""


@MODELS.register_module()
class FCOS(SingleStageDetector):
    """`FCOS: Fully Convolutional One-Stage Object Detection <https://arxiv.org/abs/1904.01355>`_"""


@MODELS.register_module()
class ATSS(SingleStageDetector):
    """`Bridging the Gap Between Anchor-based and Anchor-free Detection <https://arxiv.org/abs/1912.02424>`_"""


@MODELS.register_module()
class GFL(SingleStageDetector):
    """`Generalized Focal Loss <https://arxiv.org/abs/2006.04388>`_"""


@MODELS.register_module()
class PAA(SingleStageDetector):
    """`Probabilistic Anchor Assignment with IoU Prediction <https://arxiv.org/abs/2007.08103>`_"""


@MODELS.register_module()
class AutoAssign(SingleStageDetector):
    """`AutoAssign: Differentiable Label Assignment <https://arxiv.org/abs/2007.03496>`_"""


@MODELS.register_module()
class FSAF(SingleStageDetector):
    """`Feature Selective Anchor-Free Module <https://arxiv.org/abs/1903.00621>`_"""


@MODELS.register_module()
class RepPointsDetector(SingleStageDetector):
    """`RepPoints: Point Set Representation for Object Detection <https://arxiv.org/abs/1904.11490>`_"""


@MODELS.register_module()
class RetinaFace(SingleStageDetector):
    """`RetinaFace: Single-stage Dense Face Localisation in the Wild <https://arxiv.org/abs/1905.00641>`_"""


@MODELS.register_module()
class DDOD(SingleStageDetector):
    """`Disentangle Your Dense Object Detector <https://arxiv.org/abs/2107.02963>`_"""


@MODELS.register_module()
class FOVEA(SingleStageDetector):
    """`FoveaBox: Beyond Anchor-based Object Detection <https://arxiv.org/abs/1904.03797>`_"""


@MODELS.register_module()
class NASFCOS(SingleStageDetector):
    """`NAS-FCOS: Fast Neural Architecture Search for Object Detection <https://arxiv.org/abs/1906.04423>`_"""


@MODELS.register_module()
class TOOD(SingleStageDetector):
    """`TOOD: Task-aligned One-stage Object Detection <https://arxiv.org/abs/2108.07755>`_"""

    def set_epoch(self, epoch: int) -> None:
        """Tell the head the epoch, by which it changes its losses."""
        self.bbox_head.epoch = epoch


@MODELS.register_module()
class VFNet(SingleStageDetector):
    """`VarifocalNet: An IoU-aware Dense Object Detector <https://arxiv.org/abs/2008.13367>`_"""


@MODELS.register_module()
class YOLOF(SingleStageDetector):
    """`You Only Look One-level Feature <https://arxiv.org/abs/2103.09460>`_"""


@MODELS.register_module()
class YOLOV3(SingleStageDetector):
    """`YOLOv3: An Incremental Improvement <https://arxiv.org/abs/1804.02767>`_"""


@MODELS.register_module()
class YOLOX(SingleStageDetector):
    """`YOLOX: Exceeding YOLO Series in 2021 <https://arxiv.org/abs/2107.08430>`_"""


@MODELS.register_module()
class CenterNet(SingleStageDetector):
    """`Objects as Points <https://arxiv.org/abs/1904.07850>`_"""


@MODELS.register_module()
class CornerNet(SingleStageDetector):
    """`CornerNet: Detecting Objects as Paired Keypoints <https://arxiv.org/abs/1808.01244>`_"""


@MODELS.register_module()
class RTMDet(SingleStageDetector):
    """`RTMDet: An Empirical Study of Designing Real-Time Object Detectors <https://arxiv.org/abs/2212.07784>`_

    Args:
        use_syncbn: Whether batch norms are synchronised where several processes train on GPUs.
    """

    def __init__(
        self,
        backbone: ConfigType,
        neck: ConfigType,
        bbox_head: ConfigType,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
        use_syncbn: bool = True,
    ) -> None:
        super().__init__(backbone, neck, bbox_head, train_cfg, test_cfg, data_preprocessor, init_cfg)
        if use_syncbn and get_world_size() > 1 and torch.cuda.is_available():
            convert_sync_batchnorm(self, 'torch')
