"""DDQ-DETR.

Letters: B images, S cells of all levels, D denoising queries, Q distinct ones, A dense ones, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mmdet.models.core import best_distinct
from mmdet.models.layers.transformer import DDQTransformerDecoder
from mmdet.models.layers.transformer.ddq_detr_layers import DistinctQueries
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmdet.utils import ConfigType

from .dino import DINO, rows_at


@MODELS.register_module()
class DDQDETR(DINO):
    """`Dense Distinct Query for End-to-End Object Detection <https://arxiv.org/abs/2303.12776>`_

    Queries are the best cells that do not overlap much; while training, as many and a half more are trained densely.

    Args:
        dense_topk_ratio: Dense queries for each distinct one.
        dqs_cfg: The suppression that makes queries distinct, of type 'nms'.
    """

    decoder_class = DDQTransformerDecoder

    def __init__(
        self,
        *args: Any,
        dense_topk_ratio: float = 1.5,
        dqs_cfg: ConfigType = dict(type='nms', iou_threshold=0.8),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.dense_topk_ratio = dense_topk_ratio
        self.dqs_cfg = dqs_cfg
        self.distinct = self.decoder.distinct = self.bbox_head.distinct = DistinctQueries(dqs_cfg)

    def _init_queries(self) -> None:
        self.query_embedding = None
        self.query_map = nn.Linear(self.embed_dims, self.embed_dims)

    def _init_query_weights(self) -> None:
        nn.init.xavier_uniform_(self.query_map.weight)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # MMDetection hands the branches to its decoder while it trains: checkpoints have them under both names.
        for name in [key for key in state_dict if key.startswith(f'{prefix}decoder.aux_reg_branches.')]:
            del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args)

    def pre_decoder(  # type: ignore[override]
        self,
        memory: Tensor,
        memory_mask: Tensor | None,
        spatial_shapes: Tensor,
        batch_data_samples: OptSampleList = None,
    ) -> tuple[dict, dict]:
        """Queries ``(B, D + Q + A, C)``, their references and their mask; the head gets what the encoder predicts."""
        features, proposals = self.gen_encoder_output_proposals(memory, memory_mask, spatial_shapes)
        scores, boxes = self._encoder_outputs(features, proposals, self.decoder.num_layers)
        corners, confidence = bbox_cxcywh_to_xyxy(boxes.detach().sigmoid()), scores.detach().amax(-1).sigmoid()
        best, exists = best_distinct(corners, confidence, self.dqs_cfg, limit=self.num_queries)
        content = self.query_map(memory.detach())
        scores, boxes, query = (
            rows_at(value, best).masked_fill(~exists[..., None], 0) for value in (scores, boxes, content)
        )
        queries, dn_meta = self._with_denoising(query, boxes.detach(), batch_data_samples)
        first = queries['query'].shape[1] - query.shape[1]
        self.distinct.first, self.distinct.count, self.distinct.num_dense = first, query.shape[1], 0
        self.distinct.branches = self.bbox_head.cls_branches, self.bbox_head.aux_reg_branches
        if not self.training:
            return dict(queries, memory=memory), {}
        dense_scores, dense_boxes = self._encoder_outputs(features, proposals, self.decoder.num_layers + 1)
        number = min(int(self.num_queries * self.dense_topk_ratio), dense_scores.shape[1])
        best = dense_scores.amax(-1).topk(number, dim=1).indices
        dense_scores, dense_boxes, query = (rows_at(value, best) for value in (dense_scores, dense_boxes, content))
        self.distinct.num_dense = number
        return self._with_dense(queries, query, dense_boxes.detach().sigmoid(), memory), dict(
            enc_outputs_class=scores,
            enc_outputs_coord=boxes.sigmoid(),
            aux_enc_outputs_class=dense_scores,
            aux_enc_outputs_coord=dense_boxes.sigmoid(),
            dn_meta=dict(dn_meta or {}, num_dense_queries=number),
        )

    def _with_dense(self, queries: dict, query: Tensor, references: Tensor, memory: Tensor) -> dict:
        """Arguments of the decoder with dense queries behind the others; neither see each other."""
        size, number = queries['query'].shape[1], query.shape[1]
        mask = queries['dn_mask']
        if mask is None:
            mask = torch.zeros(size, size, dtype=torch.bool, device=query.device)
        mask = pad(mask, (0, number, 0, number), value=True)
        mask[size:, size:] = False
        return dict(
            query=torch.cat([queries['query'], query], 1),
            reference_points=torch.cat([queries['reference_points'], references], 1),
            dn_mask=mask,
            memory=memory,
        )
