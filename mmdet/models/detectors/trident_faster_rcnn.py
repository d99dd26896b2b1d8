from __future__ import annotations

from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS
from mmdet.structures import SampleList

from .two_stage import FasterRCNN


@MODELS.register_module()
class TridentFasterRCNN(FasterRCNN):
    """`Scale-Aware Trident Networks for Object Detection <https://arxiv.org/abs/1901.01892>`_

    Every branch of the backbone sees all images, one branch after the other along the batch, so the data samples are
    repeated likewise.
    """

    def __init__(
        self, backbone, rpn_head, roi_head, train_cfg, test_cfg, neck=None, data_preprocessor=None, init_cfg=None
    ) -> None:
        super().__init__(backbone, rpn_head, roi_head, train_cfg, test_cfg, neck, data_preprocessor, init_cfg)
        for name in ('num_branch', 'test_branch_idx'):
            of_backbone, of_head = getattr(self.backbone, name), getattr(self.roi_head, name)
            if of_backbone != of_head:
                raise UserValueError(
                    f'{name} must be the same in backbone and roi_head, not {of_backbone} and {of_head}'
                )

    def _repeated(self, samples: SampleList) -> SampleList:
        every = self.training or self.backbone.test_branch_idx == -1
        return list(samples) * (self.backbone.num_branch if every else 1)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple:
        return super()._forward(batch_inputs, self._repeated(batch_data_samples))

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        return super().loss(batch_inputs, self._repeated(batch_data_samples))

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        x, samples = self.extract_feat(batch_inputs), self._repeated(batch_data_samples)
        results = self.roi_head.predict(x, self._proposals(x, samples), samples, rescale=rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)
