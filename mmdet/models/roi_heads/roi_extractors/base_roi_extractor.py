from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.ops.roi_align import RoIAlign, RoIPool, SimpleRoIAlign
from mmdet.ops.roi_align_levels import has_kernel
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptMultiConfig


class BaseRoIExtractor(BaseModule, metaclass=ABCMeta):
    """Pools features of regions. RoIs are ``(K, 5)``: image and xyxy in pixels of the network input.

    Args:
        roi_layer: Config of the pooling layer, made once for each level.
        featmap_strides: Stride of each level that is pooled from.
    """

    def __init__(
        self,
        roi_layer: ConfigType,
        out_channels: int,
        featmap_strides: Sequence[int],
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.roi_layers = self.build_roi_layers(roi_layer, featmap_strides)
        self.out_channels, self.featmap_strides = out_channels, featmap_strides

    @property
    def num_inputs(self) -> int:
        """Levels that regions are cut out of; coarser ones of the neck are not used."""
        return len(self.featmap_strides)

    def build_roi_layers(self, layer_cfg: ConfigType, featmap_strides: Sequence[int]) -> nn.ModuleList:
        """One layer for each level, with the scale of its stride."""
        return nn.ModuleList(MODELS.build(dict(layer_cfg, spatial_scale=1 / s)) for s in featmap_strides)

    def roi_rescale(self, rois: Tensor, scale_factor: float | tuple[float, float]) -> Tensor:
        """RoIs of the same centres with sides multiplied by (height, width) factors."""
        scale_h, scale_w = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * 2
        image, x1, y1, x2, y2 = rois.unbind(1)
        cx, cy = (x1 + x2) * 0.5, (y1 + y2) * 0.5
        half_w, half_h = (x2 - x1) * scale_w * 0.5, (y2 - y1) * scale_h * 0.5
        return torch.stack([image, cx - half_w, cy - half_h, cx + half_w, cy + half_h], -1)

    def _at_once(self, feats: Sequence[Tensor]) -> dict[str, Any] | None:
        """Options of :func:`roi_align_levels` that pools from all levels what the layers would; None if it cannot.

        It can where it has a kernel and the layers are RoIAlign with the same options.
        """
        if not has_kernel(feats):
            return None
        options = []
        for layer in list(self.roi_layers)[: len(feats)]:
            if type(layer) is not RoIAlign or layer.pool_mode != 'avg' or layer._forward_hooks:
                return None
            options.append((layer.output_size, layer.sampling_ratio, layer.aligned))
        if len(set(options)) > 1:
            return None
        size, ratio, aligned = options[0]
        scales = [layer.spatial_scale for layer in self.roi_layers[: len(feats)]]
        return dict(output_size=size, scales=scales, sampling_ratio=ratio, aligned=aligned)

    def _as_rois(self, rois: Tensor, feat: Tensor) -> Tensor:
        """RoIs in the type of the features; in single precision for our own layers, if that is half precision."""
        own = all(isinstance(layer, (RoIAlign, RoIPool, SimpleRoIAlign)) for layer in self.roi_layers)
        return rois.to(torch.promote_types(feat.dtype, torch.float32) if own else feat.dtype)

    @abstractmethod
    def forward(self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """Features ``(K, C, h, w)``."""
