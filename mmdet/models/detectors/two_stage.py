"""Detectors of two stages: proposals, then a head on the features of each region."""

from __future__ import annotations

import copy

from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig

from .base import BaseDetector
from .single_stage import SingleStageDetector


@MODELS.register_module()
class TwoStageDetector(BaseDetector):
    """Proposals of ``rpn_head``, or of the data set where there is none, refined by ``roi_head``.

    Args:
        train_cfg: ``rpn``, ``rpn_proposal`` and ``rcnn``.
        test_cfg: ``rpn`` and ``rcnn``.
    """

    head_by_other_name = ('rpn_head', 'bbox_head')

    def __init__(
        self,
        backbone: ConfigType,
        neck: OptConfigType = None,
        rpn_head: OptConfigType = None,
        roi_head: OptConfigType = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self._build_features(backbone, neck)
        if rpn_head is not None:
            rpn_head = copy.copy(rpn_head)
            rpn_head.update(train_cfg=train_cfg.rpn if train_cfg is not None else None, test_cfg=test_cfg.rpn)
            if rpn_head.get('num_classes') is None:
                rpn_head['num_classes'] = 1
            elif rpn_head['num_classes'] != 1:
                raise UserValueError(
                    f'rpn_head tells objects from background: its num_classes must be 1, not {rpn_head["num_classes"]}'
                )
            self.rpn_head = MODELS.build(rpn_head)
        if roi_head is not None:
            roi_head = copy.copy(roi_head)
            roi_head.update(train_cfg=train_cfg.rcnn if train_cfg is not None else None, test_cfg=test_cfg.rcnn)
            self.roi_head = MODELS.build(roi_head)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg

    @property
    def with_rpn(self) -> bool:
        """Whether the detector makes its own proposals."""
        return getattr(self, 'rpn_head', None) is not None

    @property
    def with_roi_head(self) -> bool:
        """Whether there is a second stage."""
        return getattr(self, 'roi_head', None) is not None

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        return self._extract_feat_of(batch_inputs)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        return self._loss_of(self.extract_feat(batch_inputs), batch_data_samples)

    def _loss_of(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict:
        if not self.with_rpn:
            return self.roi_head.loss(x, _given_proposals(batch_data_samples), batch_data_samples)
        proposal_cfg = self.train_cfg.get('rpn_proposal', self.test_cfg.rpn)
        losses, proposals = self.rpn_head.loss_and_predict(
            x, class_agnostic(batch_data_samples), proposal_cfg=proposal_cfg
        )
        losses = {name if 'rpn' in name else f'rpn_{name}': loss for name, loss in losses.items()}
        losses.update(self.roi_head.loss(x, proposals, batch_data_samples))
        return losses

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        x = self.extract_feat(batch_inputs)
        proposals = self._proposals(x, batch_data_samples)
        results = self.roi_head.predict(x, proposals, batch_data_samples, rescale=rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple:
        x = self.extract_feat(batch_inputs)
        return (*self.roi_head.forward(x, self._proposals(x, batch_data_samples), batch_data_samples),)

    def _proposals(self, x: tuple[Tensor, ...], samples: SampleList) -> list[InstanceData]:
        given = [sample.get('proposals') for sample in samples]
        if self.with_rpn and any(proposals is None for proposals in given):
            return self.rpn_head.predict(x, samples, rescale=False)
        return _given_proposals(samples)


def _given_proposals(samples: SampleList) -> list[InstanceData]:
    for sample in samples:
        if sample.get('proposals') is None:
            raise UserValueError(
                f'{sample.metainfo.get("img_path", "an image")} has no proposals, and the detector has no rpn_head; '
                'set proposal_file of the dataset and put LoadProposals into its pipeline'
            )
    return [sample.proposals for sample in samples]


def class_agnostic(samples: SampleList) -> SampleList:
    """Samples whose ground truths all have label 0. Boxes are shared, not copied."""
    agnostic = []
    for sample in samples:
        gt = InstanceData(bboxes=sample.gt_instances.bboxes, labels=sample.gt_instances.labels * 0)
        other = sample.new()
        other.gt_instances = gt
        if 'ignored_instances' in sample:
            other.ignored_instances = sample.ignored_instances
        agnostic.append(other)
    return agnostic


@MODELS.register_module()
class FasterRCNN(TwoStageDetector):
    """`Faster R-CNN <https://arxiv.org/abs/1506.01497>`_"""

    def __init__(
        self,
        backbone,
        rpn_head,
        roi_head,
        train_cfg,
        test_cfg,
        neck=None,
        data_preprocessor=None,
        init_cfg=None,
    ) -> None:
        super().__init__(backbone, neck, rpn_head, roi_head, train_cfg, test_cfg, data_preprocessor, init_cfg)


@MODELS.register_module()
class MaskRCNN(FasterRCNN):
    """`Mask R-CNN <https://arxiv.org/abs/1703.06870>`_"""


@MODELS.register_module()
class GridRCNN(FasterRCNN):
    """`Grid R-CNN <https://arxiv.org/abs/1811.12030>`_"""


@MODELS.register_module()
class CrowdDet(FasterRCNN):
    """`Detection in Crowded Scenes: One Proposal, Multiple Predictions <https://arxiv.org/abs/2003.09163>`_"""


@MODELS.register_module()
class MaskScoringRCNN(FasterRCNN):
    """`Mask Scoring R-CNN <https://arxiv.org/abs/1903.00241>`_"""


@MODELS.register_module()
class PointRend(FasterRCNN):
    """`PointRend: Image Segmentation as Rendering <https://arxiv.org/abs/1912.08193>`_"""


@MODELS.register_module()
class CascadeRCNN(TwoStageDetector):
    """`Cascade R-CNN: Delving into High Quality Object Detection <https://arxiv.org/abs/1906.09756>`_"""


@MODELS.register_module()
class HybridTaskCascade(CascadeRCNN):
    """`Hybrid Task Cascade for Instance Segmentation <https://arxiv.org/abs/1901.07518>`_"""

    @property
    def with_semantic(self) -> bool:
        """Whether there is a semantic branch."""
        return self.roi_head.with_semantic


@MODELS.register_module()
class SCNet(CascadeRCNN):
    """`SCNet: Training Inference Sample Consistency for Instance Segmentation <https://arxiv.org/abs/2012.10150>`_"""


@MODELS.register_module()
class FastRCNN(TwoStageDetector):
    """`Fast R-CNN <https://arxiv.org/abs/1504.08083>`_ on proposals of the data set."""

    needs_besides = 'proposals'

    def __init__(
        self, backbone, roi_head, train_cfg, test_cfg, neck=None, data_preprocessor=None, init_cfg=None
    ) -> None:
        super().__init__(backbone, neck, None, roi_head, train_cfg, test_cfg, data_preprocessor, init_cfg)


@MODELS.register_module()
class RPN(SingleStageDetector):
    """Proposals alone (Faster R-CNN, Sec. 3), evaluated by their recall."""

    num_labels = None  # all objects are one class to it, whatever their labels

    def __init__(
        self, backbone, neck, rpn_head, train_cfg, test_cfg, data_preprocessor=None, init_cfg=None, **kwargs
    ) -> None:
        super(SingleStageDetector, self).__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck) if neck is not None else None
        rpn_head = copy.copy(rpn_head)
        rpn_head['num_classes'] = 1
        rpn_head.update(train_cfg=train_cfg['rpn'] if train_cfg is not None else None, test_cfg=test_cfg['rpn'])
        self.bbox_head = MODELS.build(rpn_head)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        return self.bbox_head.loss(self.extract_feat(batch_inputs), class_agnostic(batch_data_samples))
