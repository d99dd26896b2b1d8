"""Denoising queries and decoder of DINO (arXiv:2203.03605).

Letters: L layers, B images, N ground truths of all images, R groups, D denoising queries, Q all queries, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    by_batch,
    constant,
    denoising_mask,
    noisy_boxes,
    noisy_labels,
    queries_by_image,
    unpack_gt_instances,
)
from mmdet.models.core.gt import box_rows
from mmdet.models.layers.mlp import MLP
from mmdet.structures import SampleList
from mmdet.utils import OptConfigType

from .deformable_detr_layers import DeformableDetrTransformerDecoder
from .utils import coordinate_to_encoding, inverse_sigmoid


class DinoTransformerDecoder(DeformableDetrTransformerDecoder):
    """Positions of queries are made of their references; outputs are normed, references keep a gradient (Sec. 3.5)."""

    reference_eps = 1e-3  # of the logits of references

    def _init_layers(self) -> None:
        super()._init_layers()
        self.ref_point_head = MLP(self.embed_dims * 2, self.embed_dims, self.embed_dims, 2)
        self.norm = nn.LayerNorm(self.embed_dims)

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        self_attn_mask: Tensor | None,
        reference_points: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
        reg_branches: nn.ModuleList,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Outputs ``(L, B, Q, C)``, and the references ``(L + 1, B, Q, 4)`` before and after each layer.

        Args:
            self_attn_mask: ``(Q, Q)`` True where a query must not see another, or None.
            reference_points: ``(B, Q, 4)`` boxes cx, cy, w, h in parts of the image.
            reg_branches: Give the logits by which an output moves its reference.
        """
        queries, references = [], [reference_points]
        ratios = torch.cat([valid_ratios, valid_ratios], -1)[:, None]  # (B, 1, F, 4)
        for index, layer in enumerate(self._active_layers()):
            places = reference_points[:, :, None] * ratios
            query = layer(
                query,
                query_pos=self._query_pos(places[:, :, 0], query),
                value=value,
                key_padding_mask=key_padding_mask,
                self_attn_mask=self_attn_mask,
                spatial_shapes=spatial_shapes,
                level_start_index=level_start_index,
                valid_ratios=valid_ratios,
                reference_points=places,
                **kwargs,
            )
            start = inverse_sigmoid(reference_points, self.reference_eps)
            moved = (self._deltas(index, query, reg_branches) + start).sigmoid()
            reference_points = moved.detach()
            if index < self.num_layers - 1:
                self_attn_mask = self._next_mask(reference_points, query, self_attn_mask, index)
            queries.append(self.norm(query))
            references.append(moved)
        if self.return_intermediate:
            return torch.stack(queries), torch.stack(references)
        return queries[-1][None], references[-1][None]

    def _active_layers(self) -> Sequence[nn.Module]:
        """The layers that queries go through."""
        return self.layers

    def _query_pos(self, places: Tensor, query: Tensor) -> Tensor:
        """``(B, Q, C)`` the positions of queries at boxes ``(B, Q, 4)`` of the first level."""
        return self.ref_point_head(coordinate_to_encoding(places, num_feats=self.embed_dims // 2).to(query.dtype))

    def _deltas(self, index: int, query: Tensor, reg_branches: nn.ModuleList) -> Tensor:
        """``(B, Q, 4)`` logits by which the outputs of a layer move their references."""
        return reg_branches[index](query)

    def _next_mask(self, references: Tensor, query: Tensor, mask: Tensor | None, index: int) -> Tensor | None:
        """Which queries do not see each other in the layer after this one."""
        return mask


class CdnQueryGenerator(BaseModule):
    """Contrastive denoising queries (Sec. 3.3): ground truths with noise, in groups that do not see each other.

    Args:
        num_matching_queries: Queries that follow those made here.
        label_noise_scale: Twice the probability with which a label is replaced by any class.
        box_noise_scale: Up to how much of width and height each side moves, in parts; positives move half as far.
        group_cfg: ``dynamic``, by default True, for as many groups as fit ``num_dn_queries`` positives, by default 100;
            otherwise ``num_groups``.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dims: int,
        num_matching_queries: int,
        label_noise_scale: float = 0.5,
        box_noise_scale: float = 1.0,
        group_cfg: OptConfigType = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_matching_queries = num_matching_queries
        self.label_noise_scale = label_noise_scale
        self.box_noise_scale = box_noise_scale
        group_cfg = group_cfg or {}
        self.dynamic_dn_groups = group_cfg.get('dynamic', True)
        wanted = 'num_dn_queries' if self.dynamic_dn_groups else 'num_groups'
        number = group_cfg.get(wanted, 100 if self.dynamic_dn_groups else None)
        if not isinstance(number, int):
            raise UserValueError(
                f'group_cfg with dynamic={self.dynamic_dn_groups} needs {wanted} as an integer, got {number!r}'
            )
        setattr(self, wanted, number)
        self.label_embedding = nn.Embedding(num_classes, embed_dims)

    def forward(self, batch_data_samples: SampleList) -> tuple[Tensor, Tensor, Tensor, dict]:
        """Queries of the ground truths of a batch.

        Returns:
            Contents ``(B, D, C)``, logits of boxes ``(B, D, 4)`` cx, cy, w, h in parts of the image, the mask ``(D + Q,
            D + Q)`` True where a query must not see another, and a dict with ``num_denoising_queries``, D, and
            ``num_denoising_groups``, R.
        """
        instances, _, metas = unpack_gt_instances(batch_data_samples)
        boxes = [box_rows(truth.bboxes) for truth in instances]
        counts = [len(box) for box in boxes]
        sizes = constant([[meta['img_shape'][1], meta['img_shape'][0]] * 2 for meta in metas], boxes[0])
        num_groups = self.get_num_groups(max(counts))
        labels = torch.cat([truth.labels.long() for truth in instances])
        content = self.generate_dn_label_query(labels, num_groups)
        place = self.generate_dn_bbox_query(torch.cat([box / size for box, size in zip(boxes, sizes)]), num_groups)
        if hasattr(self.collate_dn_queries, 'by_batch'):
            content, place = queries_by_image(content, counts), queries_by_image(place, counts)
        else:
            image = torch.cat([torch.full_like(truth.labels.long(), i) for i, truth in enumerate(instances)])
            content, place = self.collate_dn_queries(content, place, image, len(counts), num_groups)
        mask = self.generate_dn_mask(max(counts), num_groups, content.device)
        meta = dict(num_denoising_queries=2 * max(counts) * num_groups, num_denoising_groups=num_groups)
        return content, place, mask, meta

    def get_num_groups(self, max_num_target: int | None = None) -> int:
        """How many groups there are, at least 1.

        Args:
            max_num_target: Ground truths of the image that has most.
        """
        if not self.dynamic_dn_groups:
            return max(1, self.num_groups)
        if max_num_target is None:
            raise UserValueError('max_num_target is needed where the number of groups follows from it')
        return max(1, self.num_dn_queries // max_num_target) if max_num_target else 1

    def generate_dn_label_query(self, gt_labels: Tensor, num_groups: int) -> Tensor:
        """``(R * 2 * N, C)`` embeddings of labels ``(N,)`` with noise."""
        labels = noisy_labels(gt_labels.repeat(2 * num_groups), self.label_noise_scale * 0.5, self.num_classes)
        return self.label_embedding(labels)

    def generate_dn_bbox_query(self, gt_bboxes: Tensor, num_groups: int) -> Tensor:
        """``(R * 2 * N, 4)`` logits of boxes ``(N, 4)`` xyxy in parts of the image with noise."""
        return inverse_sigmoid(noisy_boxes(gt_bboxes, num_groups, self.box_noise_scale), eps=1e-3)

    @by_batch
    def collate_dn_queries(
        self,
        input_label_query: Tensor,
        input_bbox_query: Tensor,
        batch_idx: Tensor,
        batch_size: int,
        num_groups: int,
    ) -> tuple[Tensor, Tensor]:
        """Queries ``(R * 2 * N, .)`` by image, ``(B, D, .)``, with zeros where an image has fewer than another.

        Args:
            batch_idx: ``(N,)`` the image of each ground truth, in order. The host waits for its values.
        """
        counts = batch_idx.bincount(minlength=batch_size).tolist()
        return queries_by_image(input_label_query, counts), queries_by_image(input_bbox_query, counts)

    def generate_dn_mask(self, max_num_target: int, num_groups: int, device: torch.device | str) -> Tensor:
        """``(D + Q, D + Q)`` True where a query must not see another."""
        return denoising_mask(max_num_target, num_groups, self.num_matching_queries, device)
