from __future__ import annotations

from torch import Tensor

from mmdet.registry import MODELS

from .standard_roi_head import StandardRoIHead


@MODELS.register_module()
class DoubleHeadRoIHead(StandardRoIHead):
    """Boxes are predicted on larger regions than classes (Double-Head R-CNN, arXiv:1904.06493).

    Args:
        reg_roi_scale_factor: How much larger.
    """

    def __init__(self, reg_roi_scale_factor: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.reg_roi_scale_factor = reg_roi_scale_factor

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        maps = x[: self.bbox_roi_extractor.num_inputs]
        cls_feats = self.bbox_roi_extractor(maps, rois)
        reg_feats = self.bbox_roi_extractor(maps, rois, roi_scale_factor=self.reg_roi_scale_factor)
        if self.with_shared_head:
            cls_feats, reg_feats = self.shared_head(cls_feats), self.shared_head(reg_feats)
        cls_score, bbox_pred = self.bbox_head(cls_feats, reg_feats)
        return dict(cls_score=cls_score, bbox_pred=bbox_pred, bbox_feats=cls_feats)
