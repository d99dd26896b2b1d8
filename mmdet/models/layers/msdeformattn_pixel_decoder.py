"""The pixel decoder of Mask2Former (arXiv:2112.01527, Sec. 4.1). Letters: B images, C channels, S cells, F levels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, ModuleList, caffe2_xavier_init, normal_init, xavier_init
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.ops import MultiScaleDeformableAttention
from mmdet.ops.fixed_size import is_symbolic
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig

from .positional_encoding import SinePositionalEncoding
from .transformer import Mask2FormerTransformerEncoder


@MODELS.register_module()
class MSDeformAttnPixelDecoder(BaseModule):
    """The coarse levels exchange what they know by deformable attention; a pyramid brings it to the finer ones.

    Args:
        in_channels: Of the feature maps, finest first.
        strides: Accepted: places are in parts of a map, in which strides cancel out.
        feat_channels: Of the pyramid.
        out_channels: Of the map for masks.
        num_outs: How many levels, from the coarsest on, are handed on.
        encoder: Arguments of :class:`Mask2FormerTransformerEncoder`; its attention tells the number of its levels.
        positional_encoding: Arguments of :class:`SinePositionalEncoding`.
    """

    def __init__(
        self,
        in_channels: list[int] | tuple[int, ...] = [256, 512, 1024, 2048],
        strides: list[int] | tuple[int, ...] = [4, 8, 16, 32],
        feat_channels: int = 256,
        out_channels: int = 256,
        num_outs: int = 3,
        norm_cfg: ConfigType = dict(type='GN', num_groups=32),
        act_cfg: ConfigType = dict(type='ReLU'),
        encoder: OptConfigType = None,
        positional_encoding: ConfigType = dict(num_feats=128, normalize=True),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.strides = strides
        self.num_input_levels = len(in_channels)
        self.num_outs = num_outs
        self.encoder = Mask2FormerTransformerEncoder(**(encoder or {}))
        attention = self.encoder.layers[0].self_attn
        self.num_encoder_levels = attention.num_levels
        if not 1 <= self.num_encoder_levels <= self.num_input_levels:
            raise UserValueError(
                f'num_levels={self.num_encoder_levels} of the encoder must be between 1 and the '
                f'{self.num_input_levels} levels of in_channels'
            )
        self.postional_encoding = SinePositionalEncoding(**positional_encoding)  # the name of 3.x
        self.level_encoding = nn.Embedding(self.num_encoder_levels, feat_channels)
        coarse = in_channels[: -self.num_encoder_levels - 1 : -1]
        fine = in_channels[: -self.num_encoder_levels]
        self.input_convs = ModuleList(
            ConvModule(channels, feat_channels, 1, norm_cfg=norm_cfg, act_cfg=None, bias=True) for channels in coarse
        )
        options = dict(bias=norm_cfg is None, norm_cfg=norm_cfg)
        self.lateral_convs = ModuleList(
            ConvModule(channels, feat_channels, 1, act_cfg=None, **options) for channels in fine
        )
        self.output_convs = ModuleList(
            ConvModule(feat_channels, feat_channels, 3, padding=1, act_cfg=act_cfg, **options) for _ in fine
        )
        self.mask_feature = nn.Conv2d(feat_channels, out_channels, 1)

    def init_weights(self) -> None:
        """Xavier initialisation; the attention keeps its own."""
        super().init_weights()
        for conv in self.input_convs:
            xavier_init(conv.conv, gain=1, bias=0, distribution='uniform')
        for conv in (*self.lateral_convs, *self.output_convs):
            caffe2_xavier_init(conv.conv, bias=0)
        caffe2_xavier_init(self.mask_feature, bias=0)
        normal_init(self.level_encoding, mean=0, std=1)
        for parameter in self.encoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)
        for module in self.encoder.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.init_weights()

    def forward(self, feats: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Map for masks ``(B, out_channels, h, w)`` of the finest level's size, and ``num_outs`` levels ``(B, C, H,
        W)``, the coarsest first.

        Args:
            feats: ``[(B, C, H, W)]``, finest first. No cell counts as padding.
        """
        coarse = feats[: -self.num_encoder_levels - 1 : -1]
        queries, places = [], []
        for feat, conv, level in zip(coarse, self.input_convs, self.level_encoding.weight):
            place = self.postional_encoding(None, input=feat).to(feat.dtype) + level[:, None, None]
            queries.append(conv(feat).flatten(2).transpose(1, 2))
            places.append(place.flatten(2).transpose(1, 2))
        sizes = [tuple(feat.shape[-2:]) for feat in coarse]
        counts = [height * width for height, width in sizes]
        starts = [sum(counts[:level]) for level in range(len(counts))]
        whole = torch.ones(feats[0].shape[0], len(coarse), 2, device=feats[0].device)
        memory = self.encoder(
            query=torch.cat(queries, 1),
            query_pos=torch.cat(places, 1),
            key_padding_mask=None,
            spatial_shapes=sizes,
            level_start_index=None if is_symbolic(counts) else torch.tensor(starts),
            valid_ratios=whole,
            reference_points=self.encoder.get_encoder_reference_points(sizes, whole, whole.device),
        )  # (B, S, C)
        outs = [part.transpose(1, 2).unflatten(2, size) for part, size in zip(memory.split(counts, 1), sizes)]
        fine = feats[: -self.num_encoder_levels]
        for feat, lateral, output in zip(fine[::-1], list(self.lateral_convs)[::-1], list(self.output_convs)[::-1]):
            coarser = F.interpolate(outs[-1], feat.shape[-2:], mode='bilinear', align_corners=False)
            outs.append(output(lateral(feat) + coarser))
        return self.mask_feature(outs[-1]), outs[: self.num_outs]
