"""Detectors of two stages with a semantic branch, whose results are fused to panoptic segmentations."""

from __future__ import annotations

from mmengine.structures import PixelData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import stretched
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import OptConfigType, OptMultiConfig

from .two_stage import TwoStageDetector


@MODELS.register_module()
class TwoStagePanopticSegmentor(TwoStageDetector):
    """A detector of two stages with masks, a semantic head, and a head that fuses what both find.

    Args:
        test_cfg: ``rpn`` and ``rcnn``, and ``panoptic`` for the fusion.
    """

    def __init__(
        self,
        backbone: OptConfigType,
        neck: OptConfigType = None,
        rpn_head: OptConfigType = None,
        roi_head: OptConfigType = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
        semantic_head: OptConfigType = None,
        panoptic_fusion_head: OptConfigType = None,
    ) -> None:
        super().__init__(backbone, neck, rpn_head, roi_head, train_cfg, test_cfg, data_preprocessor, init_cfg)
        if semantic_head is not None:
            self.semantic_head = MODELS.build(semantic_head)
        if panoptic_fusion_head is not None:
            fusion = {**panoptic_fusion_head, 'test_cfg': test_cfg.panoptic if test_cfg is not None else None}
            self.panoptic_fusion_head = MODELS.build(fusion)
            self.num_things_classes = self.panoptic_fusion_head.num_things_classes
            self.num_stuff_classes = self.panoptic_fusion_head.num_stuff_classes
            self.num_classes = self.panoptic_fusion_head.num_classes
            self._check_classes()

    def _check_classes(self) -> None:
        counted = {'panoptic_fusion_head.num_things_classes': self.num_things_classes}
        semantic = getattr(self, 'semantic_head', None)
        if hasattr(semantic, 'num_things_classes'):
            counted['semantic_head.num_things_classes'] = semantic.num_things_classes
        if self.num_labels is not None:
            counted['roi_head.bbox_head.num_classes'] = self.num_labels
        stuff = {'panoptic_fusion_head.num_stuff_classes': self.num_stuff_classes}
        if hasattr(semantic, 'num_stuff_classes'):
            stuff['semantic_head.num_stuff_classes'] = semantic.num_stuff_classes
        for numbers in (counted, stuff):
            if len(set(numbers.values())) > 1:
                told = ', '.join(f'{name}={number}' for name, number in numbers.items())
                raise UserValueError(f'heads must agree on the number of classes, but {told}')

    @property
    def with_semantic_head(self) -> bool:
        """Whether there is a semantic branch."""
        return getattr(self, 'semantic_head', None) is not None

    @property
    def with_panoptic_fusion_head(self) -> bool:
        """Whether results are fused."""
        return getattr(self, 'panoptic_fusion_head', None) is not None

    @property
    def semantic_labels(self) -> tuple[int, int] | None:
        if not self.with_semantic_head or not self.with_panoptic_fusion_head:
            return None
        ignored = getattr(self.semantic_head.loss_seg, 'ignore_index', None)
        return self.num_classes, -100 if ignored is None else ignored

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        x = self.extract_feat(batch_inputs)
        losses = self._loss_of(x, batch_data_samples)
        losses.update(self.semantic_head.loss(x, batch_data_samples))
        return losses

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """The samples with ``pred_panoptic_seg``, of the original image if ``rescale``, else of the padded batch."""
        x = self.extract_feat(batch_inputs)
        metas = [sample.metainfo for sample in batch_data_samples]
        proposals = self._proposals(x, batch_data_samples)
        masks = self.roi_head.predict(x, proposals, batch_data_samples, rescale=rescale)
        if is_fixed_size():
            probabilities = stretched(masks[0].masks, masks[0].bboxes, metas[0]['batch_input_shape'])
            masks[0].masks = probabilities >= self.roi_head.test_cfg.mask_thr_binary
        logits = self.semantic_head.predict(x, metas, rescale)
        results = self.panoptic_fusion_head.predict(masks, logits)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple:
        """Semantic logits, then the outputs of the second stage."""
        x = self.extract_feat(batch_inputs)
        proposals = self._proposals(x, batch_data_samples)
        return self.semantic_head(x)['seg_preds'], *self.roi_head.forward(x, proposals, batch_data_samples)

    def add_pred_to_datasample(self, data_samples: SampleList, results_list: list[PixelData]) -> SampleList:
        """Put the segmentation of each image into its sample."""
        for sample, segments in zip(data_samples, results_list):
            sample.pred_panoptic_seg = segments
        return data_samples


@MODELS.register_module()
class PanopticFPN(TwoStagePanopticSegmentor):
    """`Panoptic Feature Pyramid Networks <https://arxiv.org/abs/1901.02446>`_"""
