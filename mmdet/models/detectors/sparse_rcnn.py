from __future__ import annotations

from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList

from .two_stage import TwoStageDetector


@MODELS.register_module()
class SparseRCNN(TwoStageDetector):
    """`Sparse R-CNN: End-to-End Object Detection with Learnable Proposals <https://arxiv.org/abs/2011.12450>`_"""

    def __init__(
        self,
        backbone,
        neck=None,
        rpn_head=None,
        roi_head=None,
        train_cfg=None,
        test_cfg=None,
        data_preprocessor=None,
        init_cfg=None,
    ) -> None:
        if rpn_head is None:
            raise UserValueError(f'{type(self).__name__} learns its proposals: it needs an rpn_head')
        super().__init__(backbone, neck, rpn_head, roi_head, train_cfg, test_cfg, data_preprocessor, init_cfg)

    def _proposals(self, x: tuple[Tensor, ...], samples: SampleList) -> InstanceList:
        """The learned ones, whatever the data set has: others have no features."""
        return self.rpn_head.predict(x, samples)


@MODELS.register_module()
class QueryInst(SparseRCNN):
    """`Instances as Queries <https://arxiv.org/abs/2105.01928>`_"""

    def __init__(
        self, backbone, rpn_head, roi_head, train_cfg, test_cfg, neck=None, data_preprocessor=None, init_cfg=None
    ) -> None:
        super().__init__(backbone, neck, rpn_head, roi_head, train_cfg, test_cfg, data_preprocessor, init_cfg)
