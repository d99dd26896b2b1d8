from __future__ import annotations

import math

import torch
from mmcv.cnn import build_activation_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.models.layers.building import build_norm_layer
from mmdet.models.layers.mlp import MLP
from mmdet.models.layers.patch import AdaptivePadding, PatchEmbed, PatchMerging, nchw_to_nlc, nlc_to_nchw
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptMultiConfig

from .attention import ConditionalAttention

__all__ = [
    'MLP',
    'AdaptivePadding',
    'ConditionalAttention',
    'DynamicConv',
    'PatchEmbed',
    'PatchMerging',
    'coordinate_to_encoding',
    'get_text_sine_pos_embed',
    'inverse_sigmoid',
    'nchw_to_nlc',
    'nlc_to_nchw',
    'wave_features',
]


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """The logit of x, which is clamped to [0, 1]; both x and 1 - x count as at least ``eps``."""
    return (x.clamp(eps, 1) / (1 - x).clamp(eps, 1)).log()


def wave_features(values: Tensor, num_feats: int, temperature: float = 10000) -> Tensor:
    """``(..., num_feats)``: sine and cosine in turn of waves whose length grows geometrically (arXiv:1706.03762,
    Sec. 3.5)."""
    step = torch.arange(num_feats, dtype=torch.float32, device=values.device)
    length = temperature ** (2 * (step // 2) / num_feats)
    phase = values.float()[..., None] / length
    return torch.stack([phase[..., 0::2].sin(), phase[..., 1::2].cos()], -1).flatten(-2)


def coordinate_to_encoding(
    coord_tensor: Tensor, num_feats: int = 128, temperature: int = 10000, scale: float = 2 * math.pi
) -> Tensor:
    """Waves of points ``(..., 2)`` or of boxes cx, cy, w, h ``(..., 4)`` in parts of the image, as
    :class:`SinePositionalEncoding` has them: ``num_feats`` channels for y, then x, and then for w and h."""
    order = torch.cat([coord_tensor[..., :2].flip(-1), coord_tensor[..., 2:]], -1)
    return wave_features(order * scale, num_feats, temperature).flatten(-2)


def get_text_sine_pos_embed(
    pos_tensor: Tensor, num_pos_feats: int = 128, temperature: int = 10000, exchange_xy: bool = True
) -> Tensor:
    """``(..., N * num_pos_feats)`` waves of numbers ``(..., N)``, of which the first two change places if
    ``exchange_xy``."""
    waves = wave_features(pos_tensor * 2 * math.pi, num_pos_feats, temperature)
    if exchange_xy and waves.shape[-2] > 1:
        waves = torch.cat([waves[..., :2, :].flip(-2), waves[..., 2:, :]], -2)
    return waves.flatten(-2)


@MODELS.register_module()
class DynamicConv(BaseModule):
    """Two 1x1 convolutions of a region whose weights its query makes (Sparse R-CNN, arXiv:2011.12450, Sec. 3.2).

    Args:
        in_channels: Channels of queries and of regions.
        feat_channels: Channels between the convolutions.
        out_channels: As ``in_channels`` if not given.
        input_feat_shape: Height and width of a region.
        with_proj: Whether a linear layer makes one vector of the region, as boxes need it and masks do not.
    """

    def __init__(
        self,
        in_channels: int = 256,
        feat_channels: int = 64,
        out_channels: int | None = None,
        input_feat_shape: int = 7,
        with_proj: bool = True,
        act_cfg: ConfigType = dict(type='ReLU', inplace=True),
        norm_cfg: ConfigType = dict(type='LN'),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels, self.feat_channels = in_channels, feat_channels
        self.out_channels = out_channels or in_channels
        self.input_feat_shape, self.with_proj = input_feat_shape, with_proj
        self.act_cfg, self.norm_cfg = act_cfg, norm_cfg
        self.num_params_in = in_channels * feat_channels
        self.num_params_out = feat_channels * self.out_channels
        self.dynamic_layer = nn.Linear(in_channels, self.num_params_in + self.num_params_out)
        self.norm_in = build_norm_layer(norm_cfg, feat_channels)[1]
        self.norm_out = build_norm_layer(norm_cfg, self.out_channels)[1]
        self.activation = build_activation_layer(act_cfg)
        if with_proj:
            self.fc_layer = nn.Linear(self.out_channels * input_feat_shape**2, self.out_channels)
            self.fc_norm = build_norm_layer(norm_cfg, self.out_channels)[1]

    def forward(self, param_feature: Tensor, input_feature: Tensor) -> Tensor:
        """``(K, out)``, or ``(K, h * w, out)`` without the projection, of regions ``(K, C, h, w)`` and their queries
        ``(K, C)``."""
        first, second = self.dynamic_layer(param_feature).split([self.num_params_in, self.num_params_out], 1)
        features = input_feature.flatten(2).transpose(1, 2)  # (K, h * w, C)
        features = features @ first.view(-1, self.in_channels, self.feat_channels)
        features = self.activation(self.norm_in(features))
        features = features @ second.view(-1, self.feat_channels, self.out_channels)
        features = self.activation(self.norm_out(features))
        if self.with_proj:
            features = self.activation(self.fc_norm(self.fc_layer(features.flatten(1))))
        return features
