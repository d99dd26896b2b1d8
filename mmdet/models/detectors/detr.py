"""DETR and those of its kin that attend to all cells of one map. Letters: B images, S cells, Q queries, C channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.positional_encoding import SinePositionalEncoding
from mmdet.models.layers.transformer import (
    ConditionalDetrTransformerDecoder,
    DABDetrTransformerDecoder,
    DABDetrTransformerEncoder,
    DetrTransformerDecoder,
    DetrTransformerEncoder,
    inverse_sigmoid,
)
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList

from .base_detr import DetectionTransformer, padding_masks


@MODELS.register_module()
class DETR(DetectionTransformer):
    """`End-to-End Object Detection with Transformers <https://arxiv.org/abs/2005.12872>`_"""

    encoder_class: type[nn.Module] = DetrTransformerEncoder
    decoder_class: type[nn.Module] = DetrTransformerDecoder

    def _init_layers(self) -> None:
        self.positional_encoding = SinePositionalEncoding(**self.positional_encoding)
        self.encoder = self.encoder_class(**self.encoder)
        self.decoder = self.decoder_class(**self.decoder)
        self.embed_dims = self.encoder.embed_dims
        check_encoding(self.positional_encoding, self.embed_dims)
        self.query_embedding = self._query_embedding()

    def _query_embedding(self) -> nn.Embedding:
        return nn.Embedding(self.num_queries, self.embed_dims)

    def init_weights(self) -> None:
        super().init_weights()
        self._init_coders()

    def pre_transformer(
        self, img_feats: tuple[Tensor, ...], batch_data_samples: OptSampleList = None
    ) -> tuple[dict, dict]:
        """The last map as ``feat (B, S, C)``, ``feat_mask (B, S)`` True at padding, None without any, and positions."""
        feat = img_feats[-1]
        masks = padding_masks([feat], batch_data_samples)
        mask = None if masks is None else masks[0]
        flat = lambda maps: maps.flatten(2).transpose(1, 2)
        place = flat(self.positional_encoding(mask, input=feat)).to(feat.dtype)
        mask = None if mask is None else mask.flatten(1)
        return dict(feat=flat(feat), feat_mask=mask, feat_pos=place), dict(memory_mask=mask, memory_pos=place)

    def forward_encoder(self, feat: Tensor, feat_mask: Tensor, feat_pos: Tensor) -> dict:  # type: ignore[override]
        return dict(memory=self.encoder(query=feat, query_pos=feat_pos, key_padding_mask=feat_mask))

    def pre_decoder(self, memory: Tensor) -> tuple[dict, dict]:  # type: ignore[override]
        place = self.query_embedding.weight.expand(memory.shape[0], -1, -1)
        return dict(query_pos=place, query=torch.zeros_like(place), memory=memory), {}

    def forward_decoder(  # type: ignore[override]
        self, query: Tensor, query_pos: Tensor, memory: Tensor, memory_mask: Tensor, memory_pos: Tensor
    ) -> dict:
        return dict(
            hidden_states=self.decoder(
                query=query,
                key=memory,
                value=memory,
                query_pos=query_pos,
                key_pos=memory_pos,
                key_padding_mask=memory_mask,
            )
        )


def check_encoding(encoding: SinePositionalEncoding, embed_dims: int) -> None:
    """Hold that positions are as wide as what they are added to.

    Raises:
        ValueError: with both numbers.
    """
    if encoding.num_feats * 2 != embed_dims:
        raise UserValueError(
            f'num_feats={encoding.num_feats} of positional_encoding must be half of embed_dims={embed_dims}'
        )


@MODELS.register_module()
class ConditionalDETR(DETR):
    """`Conditional DETR for Fast Training Convergence <https://arxiv.org/abs/2108.06152>`_"""

    decoder_class = ConditionalDetrTransformerDecoder

    def _decode(self, query: Tensor, query_pos: Tensor, memory: Tensor, mask: Tensor, place: Tensor, **more) -> dict:
        states, references = self.decoder(
            query=query, key=memory, query_pos=query_pos, key_pos=place, key_padding_mask=mask, **more
        )
        return dict(hidden_states=states, references=references)

    def forward_decoder(  # type: ignore[override]
        self, query: Tensor, query_pos: Tensor, memory: Tensor, memory_mask: Tensor, memory_pos: Tensor
    ) -> dict:
        """``hidden_states (L, B, Q, C)`` and ``references (B, Q, 2)`` in parts of the image."""
        return self._decode(query, query_pos, memory, memory_mask, memory_pos)


@MODELS.register_module()
class DABDETR(ConditionalDETR):
    """`DAB-DETR: Dynamic Anchor Boxes are Better Queries for DETR <https://arxiv.org/abs/2201.12329>`_

    Args:
        with_random_refpoints: Whether the centres of the anchors are drawn at random, and not learned.
        num_patterns: Learned contents that every anchor is asked with; 0 for one of zeros.
    """

    encoder_class = DABDetrTransformerEncoder
    decoder_class = DABDetrTransformerDecoder

    def __init__(self, *args: Any, with_random_refpoints: bool = False, num_patterns: int = 0, **kwargs: Any) -> None:
        self.with_random_refpoints = with_random_refpoints
        if not isinstance(num_patterns, int) or num_patterns < 0:
            raise UserValueError(f'num_patterns must be an integer of at least 0, got {num_patterns!r}')
        self.num_patterns = num_patterns
        super().__init__(*args, **kwargs)

    def _init_layers(self) -> None:
        super()._init_layers()
        if self.num_patterns > 0:
            self.patterns = nn.Embedding(self.num_patterns, self.embed_dims)

    def _query_embedding(self) -> nn.Embedding:
        self.query_dim = self.decoder.query_dim
        return nn.Embedding(self.num_queries, self.query_dim)

    def init_weights(self) -> None:
        super().init_weights()
        if self.with_random_refpoints:
            centers = self.query_embedding.weight.data[:, :2]
            centers.copy_(inverse_sigmoid(centers.uniform_(0, 1)))
            self.query_embedding.weight.requires_grad = False

    def pre_decoder(self, memory: Tensor) -> tuple[dict, dict]:  # type: ignore[override]
        """``query (B, Q, C)`` contents, and ``query_pos (B, Q, 4)`` logits of anchors; Q counts every pattern."""
        anchors = self.query_embedding.weight.expand(memory.shape[0], -1, -1)
        if self.num_patterns == 0:
            content = memory.new_zeros(memory.shape[0], self.num_queries, self.embed_dims)
        else:
            content = self.patterns.weight.repeat_interleave(self.num_queries, 0).expand(memory.shape[0], -1, -1)
            anchors = anchors.repeat(1, self.num_patterns, 1)
        return dict(query_pos=anchors, query=content, memory=memory), {}

    def forward_decoder(  # type: ignore[override]
        self, query: Tensor, query_pos: Tensor, memory: Tensor, memory_mask: Tensor, memory_pos: Tensor
    ) -> dict:
        """``hidden_states (L, B, Q, C)`` and ``references (L, B, Q, 4)`` that each layer starts from."""
        branches = self.bbox_head.fc_reg
        return self._decode(query, query_pos, memory, memory_mask, memory_pos, reg_branches=branches)
