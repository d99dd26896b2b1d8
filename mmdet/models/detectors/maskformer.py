from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmdet.registry import MODELS
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig

from .single_stage import SingleStageDetector


@MODELS.register_module()
class MaskFormer(SingleStageDetector):
    """`Per-Pixel Classification is Not All You Need for Semantic Segmentation <https://arxiv.org/abs/2107.06278>`_

    Args:
        panoptic_head: Predicts a class and a mask for each query.
        panoptic_fusion_head: Makes of them instances, a panoptic or a semantic map, as ``test_cfg`` says.
        train_cfg, test_cfg: Handed to the heads.
    """

    head_by_other_name = None

    def __init__(
        self,
        backbone: ConfigType,
        neck: OptConfigType = None,
        panoptic_head: OptConfigType = None,
        panoptic_fusion_head: OptConfigType = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super(SingleStageDetector, self).__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self._build_features(backbone, neck)
        panoptic_head, panoptic_fusion_head = copy.copy(panoptic_head), copy.copy(panoptic_fusion_head)
        panoptic_head.update(train_cfg=train_cfg, test_cfg=test_cfg)
        self.panoptic_head = MODELS.build(panoptic_head)
        panoptic_fusion_head.update(test_cfg=test_cfg)
        self.panoptic_fusion_head = MODELS.build(panoptic_fusion_head)
        self.num_things_classes = self.panoptic_head.num_things_classes
        self.num_stuff_classes = self.panoptic_head.num_stuff_classes
        self.num_classes = self.panoptic_head.num_classes
        self.train_cfg, self.test_cfg = train_cfg, test_cfg

    @property
    def num_labels(self) -> int | None:
        return self.num_things_classes

    @property
    def needed_truth(self) -> tuple[str, ...]:
        return ('masks',) if self.num_things_classes else ()

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        return self.panoptic_head.loss(self.extract_feat(batch_inputs), batch_data_samples)

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """The samples with ``pred_instances``, ``pred_panoptic_seg`` and ``pred_sem_seg``, those that are asked for."""
        found = self.panoptic_head.predict(self.extract_feat(batch_inputs), batch_data_samples)
        results = self.panoptic_fusion_head.predict(*found, batch_data_samples, rescale=rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> tuple[Any, Any]:
        """Logits and masks of every layer; without samples no cell is padding."""
        return self.panoptic_head.forward(self.extract_feat(batch_inputs), batch_data_samples)

    def add_pred_to_datasample(self, data_samples: SampleList, results_list: Sequence[dict]) -> SampleList:  # type: ignore[override]
        """Put what the fusion head made of each image into its sample."""
        fields = dict(pan_results='pred_panoptic_seg', sem_results='pred_sem_seg')
        for sample, results in zip(data_samples, results_list):
            for name, field in fields.items():
                if name in results:
                    setattr(sample, field, results[name])
            if 'ins_results' in results:
                super().add_pred_to_datasample([sample], [results['ins_results']])
        return data_samples


@MODELS.register_module()
class Mask2Former(MaskFormer):
    """`Masked-attention Mask Transformer for Universal Image Segmentation <https://arxiv.org/abs/2112.01527>`_"""
