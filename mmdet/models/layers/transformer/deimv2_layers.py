"""Decoder of DEIMv2 (arXiv:2509.20787, Sec. 3). Letters: B images, Q queries, C channels."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.models.layers.mlp import MLP, GatedMLP

from .attention import MultiheadAttention
from .dfine_layers import DFINETransformerDecoder, DFINETransformerDecoderLayer, GatedSum
from .rt_detr_layers import SampledAttention


class NormedSum(BaseModule):
    """A residual and a norm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """``(B, Q, C)`` of two of the same."""
        return self.norm(first + second)


class GatedFFN(GatedMLP):
    """A gated feed-forward block with a residual; ``feedforward_channels`` counts those of both factors."""

    def __init__(self, embed_dims: int, feedforward_channels: int) -> None:
        super().__init__(embed_dims, feedforward_channels // 2)
        for layer in (self.w12, self.w3):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, Q, C)`` of the same."""
        return x + super().forward(x)


class DEIMv2TransformerDecoderLayer(DFINETransformerDecoderLayer):
    """D-FINE's, with norms by the root of the mean square and a gated feed-forward block.

    Args:
        gateway: Whether the sum after the cross attention is gated.
    """

    def __init__(self, *args: Any, gateway: bool = True, **kwargs: Any) -> None:
        self.with_gateway = gateway
        super().__init__(*args, **kwargs)

    def _init_layers(self) -> None:
        self.self_attn = MultiheadAttention(**self.self_attn_cfg)
        self.cross_attn = SampledAttention(**{**self.cross_attn_cfg, 'with_projection': False, 'add_identity': False})
        self.embed_dims = self.self_attn.embed_dims
        norm, *norms = (nn.RMSNorm(self.embed_dims, 1e-6) for _ in range(3))
        self.gateway = GatedSum(self.embed_dims, norm) if self.with_gateway else NormedSum(norm)
        self.ffn = GatedFFN(**self.ffn_cfg)
        self.norms = nn.ModuleList(norms)


class DEIMv2TransformerDecoder(DFINETransformerDecoder):
    """D-FINE's with other layers and a deeper network for the positions of queries."""

    layer_class = DEIMv2TransformerDecoderLayer

    def _init_layers(self) -> None:
        super()._init_layers()
        self.ref_point_head = MLP(4, self.embed_dims, self.embed_dims, 3)
