"""Deformable DETR. Letters: B images, F feature levels, S cells of all levels, Q queries, C channels."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import xavier_init
from torch import Tensor, nn

from mmdet.models.core import remembered
from mmdet.models.layers.positional_encoding import SinePositionalEncoding
from mmdet.models.layers.transformer import DeformableDetrTransformerDecoder, DeformableDetrTransformerEncoder
from mmdet.models.layers.transformer.utils import wave_features
from mmdet.ops import MultiScaleDeformableAttention
from mmdet.ops.compiled import is_exporting
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList
from mmdet.utils import OptConfigType

from .base_detr import DetectionTransformer, padding_masks
from .detr import check_encoding


def cells_of(maps: Tensor) -> Tensor:
    """``(B, H * W, C)`` of ``(B, C, H, W)``."""
    return maps.flatten(2).transpose(1, 2)


@MODELS.register_module()
class DeformableDETR(DetectionTransformer):
    """`Deformable DETR: Deformable Transformers for End-to-End Object Detection <https://arxiv.org/abs/2010.04159>`_

    Args:
        with_box_refine: Whether every decoder layer moves the references of the next (Sec. 4).
        as_two_stage: Whether queries are made of the best cells of the encoder (Sec. 4).
        num_feature_levels: F.
    """

    def __init__(
        self,
        *args: Any,
        decoder: OptConfigType = None,
        bbox_head: OptConfigType = None,
        with_box_refine: bool = False,
        as_two_stage: bool = False,
        num_feature_levels: int = 4,
        **kwargs: Any,
    ) -> None:
        self.with_box_refine = with_box_refine
        self.as_two_stage = as_two_stage
        self.num_feature_levels = num_feature_levels
        self._known_cells: dict = {}
        if bbox_head is not None:
            bbox_head = copy.copy(bbox_head)
            bbox_head['share_pred_layer'] = not with_box_refine
            bbox_head['num_pred_layer'] = (decoder or {})['num_layers'] + (1 if as_two_stage else 0)
            bbox_head['as_two_stage'] = as_two_stage
        super().__init__(*args, decoder=decoder, bbox_head=bbox_head, **kwargs)

    encoder_class: type[nn.Module] = DeformableDetrTransformerEncoder
    decoder_class: type[nn.Module] = DeformableDetrTransformerDecoder

    def _init_layers(self) -> None:
        self._init_transformer()
        dims = self.embed_dims
        if not self.as_two_stage:
            self.query_embedding = nn.Embedding(self.num_queries, dims * 2)
        if self.as_two_stage:
            self._init_memory_projection()
            self.pos_trans_fc = nn.Linear(dims * 2, dims * 2)
            self.pos_trans_norm = nn.LayerNorm(dims * 2)
        else:
            self.reference_points_fc = nn.Linear(dims, 2)

    def _init_transformer(self) -> None:
        self.positional_encoding = SinePositionalEncoding(**self.positional_encoding)
        self.encoder = self.encoder_class(**self.encoder)
        self.decoder = self.decoder_class(**self.decoder)
        dims = self.embed_dims = self.encoder.embed_dims
        check_encoding(self.positional_encoding, dims)
        self.level_embed = nn.Parameter(torch.empty(self.num_feature_levels, dims).normal_())

    def _init_memory_projection(self) -> None:
        self.memory_trans_fc = nn.Linear(self.embed_dims, self.embed_dims)
        self.memory_trans_norm = nn.LayerNorm(self.embed_dims)

    def init_weights(self) -> None:
        super().init_weights()
        self._init_coders()
        for module in self.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.init_weights()
        if self.as_two_stage:
            self._init_memory_weights()
        self._init_query_weights()

    def _init_coders(self) -> None:
        super()._init_coders()
        nn.init.normal_(self.level_embed)

    def _init_memory_weights(self) -> None:
        nn.init.xavier_uniform_(self.memory_trans_fc.weight)

    def _init_query_weights(self) -> None:
        if self.as_two_stage:
            nn.init.xavier_uniform_(self.pos_trans_fc.weight)
        else:
            xavier_init(self.reference_points_fc, distribution='uniform', bias=0.0)

    def pre_transformer(  # type: ignore[override]
        self, mlvl_feats: tuple[Tensor, ...], batch_data_samples: OptSampleList = None
    ) -> tuple[dict, dict]:
        """All levels as ``feat (B, S, C)``, ``feat_mask (B, S)`` True at padding, None without any, positions, and
        where the levels lie: shapes and starts, on the host, and the part of each that is not padding."""
        masks = padding_masks(mlvl_feats, batch_data_samples)
        places = [
            cells_of(self.positional_encoding(mask, input=feat)).to(feat.dtype) + level
            for feat, mask, level in zip(mlvl_feats, masks or [None] * len(mlvl_feats), self.level_embed)
        ]
        feat, mask, where = self._flat_levels(mlvl_feats, masks)
        return dict(feat=feat, feat_mask=mask, feat_pos=torch.cat(places, 1), **where), dict(memory_mask=mask, **where)

    def _flat_levels(
        self, maps: Sequence[Tensor], masks: Sequence[Tensor] | None
    ) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Cells ``(B, S, C)`` of all levels, ``(B, S)`` those of padding, and where the levels lie."""
        shapes = [tuple(level.shape[-2:]) for level in maps]
        starts = [sum(height * width for height, width in shapes[:level]) for level in range(len(shapes))]
        if masks is None:
            ratios = maps[0].new_ones(maps[0].shape[0], len(maps), 2)
        else:
            ratios = torch.stack([self.get_valid_ratio(mask) for mask in masks], 1)
        # Where a graph is made of the steps, numbers stay numbers: it cannot look into a tensor.
        on_host = (lambda numbers: numbers) if torch.compiler.is_compiling() else torch.tensor
        where = dict(spatial_shapes=on_host(shapes), level_start_index=on_host(starts), valid_ratios=ratios)
        mask = None if masks is None else torch.cat([mask.flatten(1) for mask in masks], 1)
        return torch.cat([cells_of(level) for level in maps], 1), mask, where

    def forward_encoder(  # type: ignore[override]
        self,
        feat: Tensor,
        feat_mask: Tensor | None,
        feat_pos: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
    ) -> dict:
        memory = self.encoder(
            query=feat,
            query_pos=feat_pos,
            key_padding_mask=feat_mask,
            spatial_shapes=spatial_shapes,
            level_start_index=level_start_index,
            valid_ratios=valid_ratios,
        )
        return dict(memory=memory, memory_mask=feat_mask, spatial_shapes=spatial_shapes)

    def pre_decoder(  # type: ignore[override]
        self, memory: Tensor, memory_mask: Tensor | None, spatial_shapes: Tensor
    ) -> tuple[dict, dict]:
        """Queries, their positions ``(B, Q, C)`` and references; the head gets what the encoder predicts."""
        head_inputs: dict[str, Tensor | None] = dict(enc_outputs_class=None, enc_outputs_coord=None)
        if self.as_two_stage:
            features, proposals = self.gen_encoder_output_proposals(memory, memory_mask, spatial_shapes)
            scores, boxes = self._encoder_outputs(features, proposals, self.decoder.num_layers)
            head_inputs = dict(enc_outputs_class=scores, enc_outputs_coord=boxes.sigmoid())
            # The first class alone says whether there is an object.
            best = scores[..., 0].topk(min(self.num_queries, scores.shape[1]), dim=1).indices
            chosen = boxes.gather(1, best[..., None].expand(-1, -1, 4)).detach()
            references = chosen.sigmoid()
            waves = self.get_proposal_pos_embed(chosen, self.embed_dims // 2).to(memory.dtype)
            query_pos, query = self.pos_trans_norm(self.pos_trans_fc(waves)).chunk(2, -1)
            if is_exporting():  # a stride of twice the channels would be compared with that of two pictures
                query_pos, query = query_pos.contiguous(), query.contiguous()
        else:
            embedding = self.query_embedding.weight.expand(memory.shape[0], -1, -1)
            query_pos, query = embedding.chunk(2, -1)
            references = self.reference_points_fc(query_pos).sigmoid()
        queries = dict(query=query, query_pos=query_pos, memory=memory, reference_points=references)
        return queries, head_inputs if self.training else {}

    def _encoder_outputs(self, features: Tensor, proposals: Tensor, branch: int) -> tuple[Tensor, Tensor]:
        """Logits ``(B, S, .)`` of classes, and of boxes ``(B, S, 4)``, of all cells by one pair of branches."""
        head = self.bbox_head
        return head.cls_branches[branch](features), head.reg_branches[branch](features) + proposals

    def forward_decoder(  # type: ignore[override]
        self,
        query: Tensor,
        query_pos: Tensor,
        memory: Tensor,
        memory_mask: Tensor | None,
        reference_points: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
    ) -> dict:
        """``hidden_states (L, B, Q, C)`` and ``references``, a list of those before and after each of L layers."""
        states, references = self.decoder(
            query=query,
            value=memory,
            query_pos=query_pos,
            key_padding_mask=memory_mask,
            reference_points=reference_points,
            spatial_shapes=spatial_shapes,
            level_start_index=level_start_index,
            valid_ratios=valid_ratios,
            reg_branches=self.bbox_head.reg_branches if self.with_box_refine else None,
        )
        return dict(hidden_states=states, references=[reference_points, *references])

    @staticmethod
    def get_valid_ratio(mask: Tensor) -> Tensor:
        """``(B, 2)`` the part of width and height that is not padding, of ``mask (B, H, W)`` True at padding."""
        width, height = (~mask[:, 0]).float().mean(1), (~mask[:, :, 0]).float().mean(1)
        return torch.stack([width, height], -1)

    def gen_encoder_output_proposals(
        self, memory: Tensor, memory_mask: Tensor | None, spatial_shapes: Tensor | Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Features ``(B, S, C)`` of all cells, and logits ``(B, S, 4)`` of a box around each (Sec. A.4).

        Cells of padding, and those whose box reaches the border, have features of zeros before their projection, and
        infinite logits.
        """
        proposals, left_out = self._cell_boxes(memory, memory_mask, spatial_shapes)
        logits = torch.where(left_out, torch.inf, proposals.logit())
        return self.memory_trans_norm(self.memory_trans_fc(memory.masked_fill(left_out, 0))), logits

    fixed_shapes: list[tuple[int, int]] | None = None  # of the levels whose boxes are known; see :meth:`fix_cells`
    fixed_boxes: Tensor
    fixed_left_out: Tensor

    def fix_cells(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Keep the boxes of the cells of levels of these sizes; pictures of other sizes have theirs computed."""
        like = next(self.parameters()).new_zeros(1, 1, 1)
        self.fixed_shapes = None
        boxes, left_out = self._cell_boxes(like, None, shapes)
        self.register_buffer('fixed_boxes', boxes, persistent=False)
        self.register_buffer('fixed_left_out', left_out, persistent=False)
        self.fixed_shapes = [tuple(shape) for shape in shapes]

    def deploy(self) -> None:
        """Leave what detects: the layer that does, and what leads to it."""
        self.bbox_head.deploy(getattr(self.decoder, 'eval_idx', self.decoder.num_layers - 1))

    def _cell_boxes(
        self, memory: Tensor, memory_mask: Tensor | None, spatial_shapes: Tensor | Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """``(B, S, 4)`` a box around each cell, and ``(B, S, 1)`` those that are padding or reach the border."""
        shapes = spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes
        if memory_mask is None:
            key = tuple(tuple(shape) for shape in shapes)
            if self.fixed_shapes == list(key):
                found = self.fixed_boxes, self.fixed_left_out
            else:
                found = remembered(self._known_cells, key, memory, lambda: self._boxes_of(memory[:1], None, shapes))
            return found[0].expand(memory.shape[0], -1, -1), found[1].expand(memory.shape[0], -1, -1)
        return self._boxes_of(memory, memory_mask, shapes)

    @staticmethod
    def _boxes_of(
        memory: Tensor, memory_mask: Tensor | None, shapes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        sizes = [height * width for height, width in shapes]
        levels = [None] * len(sizes) if memory_mask is None else memory_mask.split(sizes, 1)
        boxes = []
        for level, ((height, width), mask) in enumerate(zip(shapes, levels)):
            y = torch.arange(height, dtype=torch.float32, device=memory.device) + 0.5
            x = torch.arange(width, dtype=torch.float32, device=memory.device) + 0.5
            if mask is None:
                y, x = (y / height)[None], (x / width)[None]
            else:
                inside = ~mask.unflatten(1, (height, width))
                y, x = y / inside[:, :, 0].sum(1, keepdim=True), x / inside[:, 0].sum(1, keepdim=True)
            center = torch.stack([x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], -1)
            box = torch.cat([center, torch.full_like(center, 0.05 * 2.0**level)], -1)
            boxes.append(box.flatten(1, 2).expand(memory.shape[0], -1, -1))
        proposals = torch.cat(boxes, 1)
        left_out = ~((proposals > 0.01) & (proposals < 0.99)).all(-1, keepdim=True)
        if memory_mask is not None:
            left_out = left_out | memory_mask[..., None]
        return proposals, left_out

    @staticmethod
    def get_proposal_pos_embed(proposals: Tensor, num_pos_feats: int = 128, temperature: int = 10000) -> Tensor:
        """``(B, Q, 4 * num_pos_feats)`` waves of boxes whose logits are given."""
        return wave_features(proposals.float().sigmoid() * 2 * math.pi, num_pos_feats, temperature).flatten(2)
