from __future__ import annotations

import torch
from torch import Tensor

from mmdet.ops.fixed_size import is_fixed_size
from mmdet.ops.roi_align_levels import roi_align_levels
from mmdet.registry import MODELS

from .base_roi_extractor import BaseRoIExtractor


@MODELS.register_module()
class SingleRoIExtractor(BaseRoIExtractor):
    """Pools each region from the one level that fits its size (FPN, arXiv:1612.03144, Eq. 1).

    A region without a size, which learned proposals and a network that has diverged may have, gets zeros.

    Args:
        finest_scale: Regions smaller than twice this, in pixels, belong to the first level.
    """

    def __init__(self, roi_layer, out_channels, featmap_strides, finest_scale: int = 56, init_cfg=None) -> None:
        super().__init__(roi_layer, out_channels, featmap_strides, init_cfg)
        self.finest_scale = finest_scale

    def map_roi_levels(self, rois: Tensor, num_levels: int) -> Tensor:
        """Level ``(K,)`` of each RoI, by the root of its area; below 0 if that is negative or not a number."""
        scale = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).sqrt()
        return (scale / self.finest_scale + 1e-6).log2().floor().clamp(0, num_levels - 1).long()

    def forward(self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        rois = self._as_rois(rois, feats[0])
        num_levels = len(feats)
        if num_levels == 1:
            regions = rois if roi_scale_factor is None else self.roi_rescale(rois, roi_scale_factor)
            return self.roi_layers[0](feats[0], regions)
        levels = self.map_roi_levels(rois, num_levels)
        if roi_scale_factor is not None:
            rois = self.roi_rescale(rois, roi_scale_factor)
        options = self._at_once(feats)
        if options is not None:
            return roi_align_levels(feats, rois, levels, **options)
        if is_fixed_size() or not rois.is_cpu:
            return self._pool_everywhere(feats, rois, levels)
        # Sorted by level and pooled level by level; a level without regions still takes part in the graph, so that no
        # process of a distributed run waits for the gradient of its convolutions.
        order = levels.argsort(stable=True)
        nowhere, *counts = torch.bincount(levels.clamp(min=-1) + 1, minlength=num_levels + 1).tolist()
        parts = rois[order[nowhere:]].split(counts)
        pooled = [layer(feat, part) for layer, feat, part in zip(self.roi_layers, feats, parts)]
        if nowhere:
            pooled.insert(0, pooled[0].new_zeros(nowhere, *pooled[0].shape[1:]))
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return torch.cat(pooled)[back]

    def _pool_everywhere(self, feats: tuple[Tensor, ...], rois: Tensor, levels: Tensor) -> Tensor:
        """Every level pools every region, those of other levels without extent, which costs a kernel next to nothing:
        so the host does not wait for the device to know how many each level has."""
        pooled: Tensor | None = None
        for i, (layer, feat) in enumerate(zip(self.roi_layers, feats)):
            here = levels == i
            boxes = torch.where(here[:, None], rois[:, 1:], 0.0)  # of what is not a number too
            part = layer(feat, torch.cat([rois[:, :1], boxes], 1))
            part = part * here[:, None, None, None]
            pooled = part if pooled is None else pooled + part
        assert pooled is not None  # there is a level
        return pooled
