"""LW-DETR, RF-DETR, and RF-DETR with masks.

Letters: B images, S cells of all levels, R groups, Q queries of a group, C channels.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mmdet.models.dense_heads.lwdetr_head import boxes_from
from mmdet.models.layers.transformer import LWDETRTransformerDecoder
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList
from mmdet.utils import OptConfigType

from .dino import rows_at
from .rtdetr import EncodedByNeck


@MODELS.register_module()
class LWDETR(EncodedByNeck):
    """`LW-DETR: A Transformer Replacement to YOLO for Real-Time Detection <https://arxiv.org/abs/2406.03459>`_

    Training has R groups of queries, which share the decoder and do not see each other; inference has the first alone.

    Args:
        num_groups: R.
    """

    decoder_class = LWDETRTransformerDecoder

    def __init__(
        self,
        *args: Any,
        decoder: OptConfigType = None,
        bbox_head: OptConfigType = None,
        num_groups: int = 13,
        num_feature_levels: int = 1,
        **kwargs: Any,
    ) -> None:
        self.num_groups = num_groups
        decoder = copy.deepcopy(decoder)
        decoder['layer_cfg']['self_attn_cfg']['num_groups'] = num_groups
        bbox_head = dict(bbox_head, num_groups=num_groups)
        common = dict(as_two_stage=True, num_feature_levels=num_feature_levels)
        super().__init__(*args, decoder=decoder, bbox_head=bbox_head, **common, **kwargs)

    def _init_layers(self) -> None:
        self._init_transformer()
        self._init_memory_projection()
        self.query_embedding = nn.Embedding(self.num_queries * self.num_groups, self.embed_dims)
        self.reference_embedding = nn.Embedding(self.num_queries * self.num_groups, 4)

    def _init_memory_projection(self) -> None:
        dims = self.embed_dims
        self.memory_trans_fc = nn.ModuleList([nn.Linear(dims, dims) for _ in range(self.num_groups)])
        self.memory_trans_norm = nn.ModuleList([nn.LayerNorm(dims) for _ in range(self.num_groups)])

    def _init_memory_weights(self) -> None:
        for projection in self.memory_trans_fc:
            nn.init.xavier_uniform_(projection.weight)

    def _init_query_weights(self) -> None:
        nn.init.zeros_(self.reference_embedding.weight)

    def deploy(self) -> None:
        """With the first group of queries alone."""
        super().deploy()
        for name in ('query_embedding', 'reference_embedding'):
            setattr(self, name, nn.Embedding.from_pretrained(getattr(self, name).weight[: self.num_queries].detach()))
        self.memory_trans_fc, self.memory_trans_norm = self.memory_trans_fc[:1], self.memory_trans_norm[:1]
        self.num_groups = 1

    def pre_decoder(  # type: ignore[override]
        self, memory: Tensor, memory_mask: Tensor | None, spatial_shapes: Tensor
    ) -> tuple[dict, dict]:
        """Queries ``(B, R * Q, C)`` with learned contents, whose references are the best boxes of their group."""
        groups = self.num_groups if self.training else 1
        proposals, left_out = self._cell_boxes(memory, memory_mask, spatial_shapes)
        proposals, memory_in = proposals.masked_fill(left_out, 0), memory.masked_fill(left_out, 0)
        head, found = self.bbox_head, []
        for group in range(groups):
            features = self.memory_trans_norm[group](self.memory_trans_fc[group](memory_in))
            scores = head.enc_cls_branches[group](features)
            order = scores.detach().amax(-1).masked_fill(left_out[..., 0], -torch.inf)
            best = order.topk(min(self.num_queries, order.shape[1]), dim=1).indices
            deltas = head.enc_reg_branches[group](rows_at(features, best))
            found.append((rows_at(scores, best), boxes_from(rows_at(proposals, best), deltas), rows_at(features, best)))
        scores, boxes, features = (torch.stack(column) for column in zip(*found))  # (R, B, Q, .)
        count = scores.shape[2]
        learned = lambda table: table.weight.unflatten(0, (self.num_groups, -1))[:groups, :count].flatten(0, 1)
        start = boxes.detach().transpose(0, 1).flatten(1, 2)
        references = boxes_from(start, learned(self.reference_embedding).to(start.dtype).expand_as(start))
        query = learned(self.query_embedding).expand(memory.shape[0], -1, -1)
        queries = dict(query=query, memory=memory, reference_points=references)
        return queries, self._head_inputs(scores, boxes, features) if self.training else {}

    def _head_inputs(self, scores: Tensor, boxes: Tensor, features: Tensor) -> dict:
        """What the losses of the encoder take."""
        return dict(enc_outputs_class=scores, enc_outputs_coord=boxes)

    def forward_decoder(  # type: ignore[override]
        self, query: Tensor, memory: Tensor, memory_mask: Tensor | None, reference_points: Tensor, **where: Any
    ) -> dict:
        """``hidden_states (L, B, R * Q, C)``, and the ``references (B, R * Q, 4)`` of all layers."""
        states = self.decoder(
            query=query, value=memory, key_padding_mask=memory_mask, reference_points=reference_points, **where
        )
        return dict(hidden_states=states, references=reference_points)


@MODELS.register_module()
class RFDETRSeg(LWDETR):
    """RF-DETR with masks (https://github.com/roboflow/rf-detr), made of the neck's only map, whose cells are patches.

    ``decoder.num_layers`` counts the layers of the masks, too.
    """

    def __init__(self, *args: Any, decoder: dict, bbox_head: dict, **kwargs: Any) -> None:
        bbox_head = dict(bbox_head, num_layers=decoder['num_layers'])
        super().__init__(*args, decoder=decoder, bbox_head=bbox_head, **kwargs)

    def _head_inputs(self, scores: Tensor, boxes: Tensor, features: Tensor) -> dict:
        return dict(super()._head_inputs(scores, boxes, features), enc_outputs_feature=features)

    def forward_transformer(self, img_feats: tuple[Tensor, ...], batch_data_samples: OptSampleList = None) -> dict:
        found = super().forward_transformer(img_feats, batch_data_samples)
        size = tuple(side * self.backbone.patch_size for side in img_feats[0].shape[-2:])
        return dict(found, mask_feature=img_feats[0], input_size=size)
