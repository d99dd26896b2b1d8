from __future__ import annotations

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.layers import build_plugin_layer
from mmdet.ops.roi_align_levels import roi_align_levels
from mmdet.registry import MODELS
from mmdet.utils import OptConfigType

from .base_roi_extractor import BaseRoIExtractor


@MODELS.register_module()
class GenericRoIExtractor(BaseRoIExtractor):
    """Pools each region from every level and joins the results (GRoIE, arXiv:2004.13665).

    Args:
        aggregation: 'sum' or 'concat', along channels.
        pre_cfg, post_cfg: Plugins before and after.
    """

    def __init__(
        self, aggregation: str = 'sum', pre_cfg: OptConfigType = None, post_cfg: OptConfigType = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        if aggregation not in ('sum', 'concat'):
            raise UserValueError(f"aggregation must be 'sum' or 'concat', not {aggregation!r}")
        self.aggregation = aggregation
        self.with_pre, self.with_post = pre_cfg is not None, post_cfg is not None
        if self.with_post:
            self.post_module = build_plugin_layer(post_cfg, '_post_module')[1]
        if self.with_pre:
            self.pre_module = build_plugin_layer(pre_cfg, '_pre_module')[1]

    def forward(self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        rois = self._as_rois(rois, feats[0])
        if roi_scale_factor is not None and len(feats) > 1:
            rois = self.roi_rescale(rois, roi_scale_factor)
        if len(feats) == 1:
            return self.roi_layers[0](feats[0], rois)
        options = self._at_once(feats)
        if options is None:
            pooled = [layer(feat, rois) for layer, feat in zip(self.roi_layers, feats)]
        else:
            levels = torch.arange(len(feats), device=rois.device)[:, None].expand(-1, len(rois)).flatten()
            pooled = list(roi_align_levels(feats, rois.repeat(len(feats), 1), levels, **options).chunk(len(feats)))
        if self.with_pre:
            pooled = [self.pre_module(part) for part in pooled]
        joined = torch.cat(pooled, 1) if self.aggregation == 'concat' else sum(pooled)
        if joined.shape[1] != self.out_channels and self.aggregation == 'concat' and not self.with_post:
            raise UserValueError(f'out_channels={self.out_channels}, but the levels together have {joined.shape[1]}')
        return self.post_module(joined) if self.with_post else joined
