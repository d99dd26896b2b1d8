"""Encoder and decoder of Grounding DINO (arXiv:2303.05499, Fig. 3).

Letters: B images, S cells of all levels, Q queries, T tokens, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import ModuleList
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmdet.errors import UserValueError
from mmdet.models.layers.vision_language import SingleScaleBiAttentionBlock
from mmdet.ops import MultiScaleDeformableAttention
from mmdet.utils import ConfigType, OptConfigType

from .attention import MultiheadAttention
from .deformable_detr_layers import DeformableDetrTransformerDecoderLayer, DeformableDetrTransformerEncoder
from .detr_layers import DetrTransformerEncoderLayer, batch_first
from .dino_layers import DinoTransformerDecoder
from .utils import get_text_sine_pos_embed


class GroundingDinoTransformerDecoderLayer(DeformableDetrTransformerDecoderLayer):
    """Deformable DETR's, with attention to the text between that among queries and that to the image."""

    def __init__(
        self,
        cross_attn_text_cfg: OptConfigType = dict(embed_dims=256, num_heads=8, dropout=0.0, batch_first=True),
        **kwargs: Any,
    ) -> None:
        self.cross_attn_text_cfg = batch_first(cross_attn_text_cfg, 'cross_attn_text_cfg')
        super().__init__(**kwargs)

    def _init_layers(self) -> None:
        self.self_attn = MultiheadAttention(**self.self_attn_cfg)
        self.cross_attn_text = MultiheadAttention(**self.cross_attn_text_cfg)
        self.cross_attn = MultiScaleDeformableAttention(**self.cross_attn_cfg)
        self._init_rest(4)

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        self_attn_mask: Tensor | None = None,
        cross_attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        memory_text: Tensor | None = None,
        text_attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """``(B, Q, C)`` of the same.

        Args:
            memory_text: ``(B, T, C)``.
            text_attention_mask: ``(B, T)`` True at tokens of padding.
        """
        place = dict(query_pos=query_pos)
        query = self.norms[0](self.self_attn(query, query, query, key_pos=query_pos, attn_mask=self_attn_mask, **place))
        query = self.cross_attn_text(query, memory_text, memory_text, key_padding_mask=text_attention_mask, **place)
        query = self.norms[1](query)
        query = self.cross_attn(
            query=query,
            key=key,
            value=value,
            key_pos=key_pos,
            attn_mask=cross_attn_mask,
            key_padding_mask=key_padding_mask,
            **place,
            **kwargs,
        )
        query = self.norms[2](query)
        return self.norms[3](self.ffn(query))


class GroundingDinoTransformerDecoder(DinoTransformerDecoder):
    """DINO's, with such layers."""

    layer_class = GroundingDinoTransformerDecoderLayer


class GroundingDinoTransformerEncoder(DeformableDetrTransformerEncoder):
    """In each layer image and text look at each other, words at their own name, and cells around themselves.

    Args:
        text_layer_cfg: Arguments of the layers for the text.
        fusion_layer_cfg: Arguments of :class:`SingleScaleBiAttentionBlock`.
    """

    def __init__(self, text_layer_cfg: ConfigType, fusion_layer_cfg: ConfigType, **kwargs: Any) -> None:
        self.text_layer_cfg = text_layer_cfg
        self.fusion_layer_cfg = fusion_layer_cfg
        super().__init__(**kwargs)

    def _init_layers(self) -> None:
        super()._init_layers()
        each = range(self.num_layers)
        self.text_layers = ModuleList([DetrTransformerEncoderLayer(**self.text_layer_cfg) for _ in each])
        self.fusion_layers = ModuleList([SingleScaleBiAttentionBlock(**self.fusion_layer_cfg) for _ in each])

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        query_pos: Tensor,
        key_padding_mask: Tensor | None,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
        memory_text: Tensor | None = None,
        text_attention_mask: Tensor | None = None,
        pos_text: Tensor | None = None,
        text_self_attention_masks: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``(B, S, C)`` of cells and ``(B, T, C)`` of tokens, of the same.

        Args:
            text_attention_mask: ``(B, T)`` True at tokens of padding.
            pos_text: ``(B, T, C)``; waves of ``position_ids (B, T)``, or of the places in the text, if not given.
            text_self_attention_masks: ``(B, T, T)`` True where tokens see each other; all do if not given.
        """
        if memory_text is None:
            raise UserValueError('the encoder of Grounding DINO needs memory_text, the features of the text')
        seen = None if text_attention_mask is None else ~text_attention_mask
        if pos_text is None:
            if position_ids is None:
                position_ids = torch.arange(memory_text.shape[1], device=memory_text.device).expand(
                    len(memory_text), -1
                )
            pos_text = get_text_sine_pos_embed(position_ids[..., None].float(), self.embed_dims, exchange_xy=False)
            pos_text = pos_text.to(memory_text.dtype)
        apart = None
        if text_self_attention_masks is not None:
            heads = self.text_layers[0].self_attn.num_heads
            apart = ~text_self_attention_masks.bool().repeat_interleave(heads, 0)
        where = dict(spatial_shapes=spatial_shapes, level_start_index=level_start_index, valid_ratios=valid_ratios)
        where['reference_points'] = self.get_encoder_reference_points(spatial_shapes, valid_ratios, query.device)
        for index, (fuse, read) in enumerate(zip(self.fusion_layers, self.text_layers)):
            inputs = query, memory_text, key_padding_mask, seen
            if index < self.num_cp and torch.is_grad_enabled():
                query, memory_text = checkpoint(fuse, *inputs, use_reentrant=False)
            else:
                query, memory_text = fuse(*inputs)
            memory_text = read(memory_text, pos_text, None, attn_mask=apart)
            query = self._run_layer(index, query, query_pos, key_padding_mask, **where)
        return query, memory_text
