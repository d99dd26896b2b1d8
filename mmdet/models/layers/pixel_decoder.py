"""The pixel decoders of MaskFormer (arXiv:2107.06278, Sec. 3.3). Letters: B images, C channels, S cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, ModuleList, caffe2_xavier_init
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import padded_cells
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig

from .positional_encoding import SinePositionalEncoding
from .transformer import DetrTransformerEncoder


@MODELS.register_module()
class PixelDecoder(BaseModule):
    """A feature pyramid whose finest map becomes what masks are read from.

    Args:
        in_channels: Of the feature maps, finest first.
        feat_channels: Of the pyramid.
        out_channels: Of the map for masks.
    """

    def __init__(
        self,
        in_channels: list[int] | tuple[int, ...],
        feat_channels: int,
        out_channels: int,
        norm_cfg: ConfigType = dict(type='GN', num_groups=32),
        act_cfg: ConfigType = dict(type='ReLU'),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.in_channels = in_channels
        self.num_inputs = len(in_channels)
        options = dict(bias=norm_cfg is None, norm_cfg=norm_cfg)
        self.lateral_convs = ModuleList(
            ConvModule(channels, feat_channels, 1, act_cfg=None, **options) for channels in in_channels[:-1]
        )
        self.output_convs = ModuleList(
            ConvModule(feat_channels, feat_channels, 3, padding=1, act_cfg=act_cfg, **options) for _ in in_channels[:-1]
        )
        self._init_coarsest(in_channels[-1], feat_channels, dict(act_cfg=act_cfg, **options))
        self.mask_feature = nn.Conv2d(feat_channels, out_channels, 3, padding=1)

    def _init_coarsest(self, in_channels: int, feat_channels: int, options: dict) -> None:
        self.last_feat_conv = ConvModule(in_channels, feat_channels, 3, padding=1, **options)

    def init_weights(self) -> None:
        """Xavier initialisation as Caffe2 has it, of every convolution."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                caffe2_xavier_init(module, bias=0)

    def _refined(self, coarsest: Tensor, feats: Sequence[Tensor]) -> Tensor:
        """The map for masks, of the pyramid that begins with its coarsest level."""
        y = coarsest
        for feat, lateral, output in zip(feats[-2::-1], list(self.lateral_convs)[::-1], list(self.output_convs)[::-1]):
            y = output(lateral(feat) + F.interpolate(y, feat.shape[-2:], mode='nearest'))
        return self.mask_feature(y)

    def forward(self, feats: list[Tensor], batch_img_metas: list[dict]) -> tuple[Tensor, Tensor]:
        """Map for masks ``(B, out_channels, h, w)`` of the finest level's size, and what a decoder attends to.

        Args:
            feats: ``[(B, C, H, W)]``, finest first.
        """
        return self._refined(self.last_feat_conv(feats[-1]), feats), feats[-1]


@MODELS.register_module()
class TransformerEncoderPixelDecoder(PixelDecoder):
    """A pyramid whose coarsest level passes a transformer encoder.

    Args:
        encoder: Arguments of :class:`DetrTransformerEncoder`.
        positional_encoding: Arguments of :class:`SinePositionalEncoding`.
    """

    def __init__(
        self,
        in_channels: list[int] | tuple[int, ...],
        feat_channels: int,
        out_channels: int,
        norm_cfg: ConfigType = dict(type='GN', num_groups=32),
        act_cfg: ConfigType = dict(type='ReLU'),
        encoder: OptConfigType = None,
        positional_encoding: ConfigType = dict(num_feats=128, normalize=True),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(in_channels, feat_channels, out_channels, norm_cfg, act_cfg, init_cfg)
        self.encoder = DetrTransformerEncoder(**(encoder or {}))
        self.encoder_embed_dims = self.encoder.embed_dims
        if self.encoder_embed_dims != feat_channels:
            raise UserValueError(
                f'embed_dims={self.encoder_embed_dims} of the encoder must be feat_channels={feat_channels}'
            )
        self.positional_encoding = SinePositionalEncoding(**positional_encoding)

    def _init_coarsest(self, in_channels: int, feat_channels: int, options: dict) -> None:
        self.encoder_in_proj = nn.Conv2d(in_channels, feat_channels, 1)
        self.encoder_out_proj = ConvModule(feat_channels, feat_channels, 3, padding=1, **options)

    def init_weights(self) -> None:
        super().init_weights()
        for parameter in self.encoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, feats: list[Tensor], batch_img_metas: list[dict]) -> tuple[Tensor, Tensor]:
        padding = padded_cells(feats[-1:], batch_img_metas)
        mask = None if padding is None else padding[0]
        place = self.positional_encoding(mask, input=feats[-1]).to(feats[-1].dtype)
        query, query_pos = (maps.flatten(2).transpose(1, 2) for maps in (self.encoder_in_proj(feats[-1]), place))
        memory = self.encoder(query, query_pos, None if mask is None else mask.flatten(1))  # (B, S, C)
        memory = memory.transpose(1, 2).unflatten(2, feats[-1].shape[-2:])
        return self._refined(self.encoder_out_proj(memory), feats), memory
