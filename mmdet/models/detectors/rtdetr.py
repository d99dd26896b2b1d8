"""RT-DETR, D-FINE and DEIMv2. Letters: B images, S cells of all levels, D denoising queries, Q others, C channels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mmdet.models.layers.transformer import (
    DEIMv2TransformerDecoder,
    DFINETransformerDecoder,
    RTDETRTransformerDecoder,
    SampledAttention,
)
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList

from .base_detr import padding_masks
from .deformable_detr import DeformableDETR
from .dino import DINO, rows_at


class EncodedByNeck(DeformableDETR):
    """A detector whose neck is the encoder."""

    def _init_transformer(self) -> None:
        self.decoder = self.decoder_class(**self.decoder)
        self.embed_dims = self.decoder.embed_dims

    def _init_coders(self) -> None:
        for module in self.decoder.modules():
            if isinstance(module, SampledAttention):
                module.init_weights()

    def pre_transformer(  # type: ignore[override]
        self, mlvl_feats: tuple[Tensor, ...], batch_data_samples: OptSampleList = None
    ) -> tuple[dict, dict]:
        """All levels as ``memory (B, S, C)``, and where they lie."""
        memory, mask, where = self._flat_levels(mlvl_feats, padding_masks(mlvl_feats, batch_data_samples))
        encoded = dict(memory=memory, memory_mask=mask, spatial_shapes=where['spatial_shapes'])
        return encoded, dict(memory_mask=mask, **where)

    def forward_encoder(self, **encoded: Any) -> dict:  # type: ignore[override]
        """What it is given."""
        return encoded


@MODELS.register_module()
class RTDETR(EncodedByNeck, DINO):
    """`DETRs Beat YOLOs on Real-time Object Detection <https://arxiv.org/abs/2304.08069>`_ and `RT-DETRv2
    <https://arxiv.org/abs/2407.17140>`_

    The neck is the encoder, which has mixed the levels already. Queries are the cells of best class score: their
    features, and boxes around them (Sec. 4.3).

    Args:
        learn_initial_query: Whether queries have learned contents in place of the features of their cells.
    """

    decoder_class = RTDETRTransformerDecoder

    def __init__(
        self, *args: Any, learn_initial_query: bool = False, num_feature_levels: int = 3, **kwargs: Any
    ) -> None:
        self.learn_initial_query = learn_initial_query
        kwargs = dict(with_box_refine=True, as_two_stage=True) | kwargs
        super().__init__(*args, num_feature_levels=num_feature_levels, **kwargs)

    def _init_queries(self) -> None:
        if self.learn_initial_query:
            super()._init_queries()

    def _init_query_weights(self) -> None:
        if self.learn_initial_query:
            super()._init_query_weights()

    def _contents(self, features: Tensor, best: Tensor) -> Tensor:
        if self.learn_initial_query:
            return super()._contents(features, best)
        return rows_at(features, best).detach()


@MODELS.register_module()
class DFINE(RTDETR):
    """`D-FINE: Redefine Regression Task in DETRs as Fine-grained Distribution Refinement
    <https://arxiv.org/abs/2410.13842>`_"""

    decoder_class = DFINETransformerDecoder

    def forward_decoder(  # type: ignore[override]
        self,
        query: Tensor,
        memory: Tensor,
        memory_mask: Tensor | None,
        reference_points: Tensor,
        dn_mask: Tensor | None = None,
        **where: Any,
    ) -> dict:
        """``hidden_states (L, B, D + Q, C)``, and what :class:`DFINETransformerDecoder` returns besides."""
        head = self.bbox_head
        states, boxes, corners, start = self.decoder(
            query=query,
            value=memory,
            key_padding_mask=memory_mask,
            self_attn_mask=dn_mask,
            reference_points=reference_points,
            reg_branches=head.reg_branches,
            first_branch=head.pre_bbox_head,
            places=head.places,
            scale=head.reg_scale,
            **where,
        )
        return dict(hidden_states=states, references=boxes, corners=corners, start=start)


@MODELS.register_module()
class DEIMv2(DFINE):
    """`Real-Time Object Detection Meets DINOv3 <https://arxiv.org/abs/2509.20787>`_"""

    decoder_class = DEIMv2TransformerDecoder
