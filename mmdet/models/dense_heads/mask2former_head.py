"""The head of Mask2Former (arXiv:2112.01527), whose queries look where they predicted their masks.

Letters: L outputs, the first before any decoder layer, B images, Q queries, C classes, D channels, S cells of a level,
M ground truths of all images, P points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList, caffe2_xavier_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import QueryPairs, gt_of_masks, mask_truth_at, pick_uncertain_points
from mmdet.models.layers.transformer import Mask2FormerTransformerDecoder
from mmdet.ops.point_sample import point_sample
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig

from .maskformer_head import MaskFormerHead

POINT_BUDGET = 8 * 1024**2
"""Candidates among which points are picked at once."""


@MODELS.register_module()
class Mask2FormerHead(MaskFormerHead):
    """MaskFormer's with masked attention to one level after the other, and losses at points.

    Costs compare masks at ``num_points`` points of each image, drawn evenly. Losses compare them at as many points of
    each mask, most of them where the prediction is least certain (PointRend, arXiv:1912.08193).

    Args:
        num_transformer_feat_level: How many levels the layers attend to in turn, the coarsest first.
        enforce_decoder_input_project: Whether the levels are projected even where channels do not ask for it.
        train_cfg: Has ``num_points``, ``oversample_ratio`` and ``importance_sample_ratio``, too.
        strides: Accepted; has no effect.
    """

    decoder_class = Mask2FormerTransformerDecoder

    def __init__(
        self,
        in_channels: list[int] | tuple[int, ...],
        feat_channels: int,
        out_channels: int,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        num_queries: int = 100,
        num_transformer_feat_level: int = 3,
        pixel_decoder: ConfigType = ...,  # type: ignore[assignment]
        enforce_decoder_input_project: bool = False,
        transformer_decoder: ConfigType = ...,  # type: ignore[assignment]
        positional_encoding: ConfigType = dict(num_feats=128, normalize=True),
        loss_cls: ConfigType = dict(
            type='CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=2.0,
            reduction='mean',
            class_weight=[1.0] * 133 + [0.1],
        ),
        loss_mask: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='mean', loss_weight=5.0),
        loss_dice: ConfigType = dict(
            type='DiceLoss',
            use_sigmoid=True,
            activate=True,
            reduction='mean',
            naive_dice=True,
            eps=1.0,
            loss_weight=5.0,
        ),
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
        strides: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.num_transformer_feat_level = num_transformer_feat_level
        super().__init__(
            in_channels,
            feat_channels,
            out_channels,
            num_things_classes,
            num_stuff_classes,
            num_queries,
            pixel_decoder,
            enforce_decoder_input_project,
            transformer_decoder,
            positional_encoding,
            loss_cls,
            loss_mask,
            loss_dice,
            train_cfg,
            test_cfg,
            init_cfg,
        )
        self.num_heads = self.transformer_decoder.layers[0].cross_attn.num_heads
        self.num_transformer_decoder_layers = self.transformer_decoder.num_layers
        self.query_feat = nn.Embedding(num_queries, feat_channels)
        self.level_embed = nn.Embedding(num_transformer_feat_level, feat_channels)
        options = train_cfg or {}
        self.num_points = options.get('num_points', 12544)
        self.oversample_ratio = options.get('oversample_ratio', 3.0)
        self.importance_sample_ratio = options.get('importance_sample_ratio', 0.75)

    def _init_decoder_inputs(self, in_channels: Sequence[int], feat_channels: int, enforce: bool) -> None:
        levels, width = self.num_transformer_feat_level, self.decoder_embed_dims
        given = getattr(self.pixel_decoder, 'num_encoder_levels', levels)
        if given != levels:
            raise UserValueError(f'num_levels={given} of the encoder must be num_transformer_feat_level={levels}')
        project = enforce or width != feat_channels
        self.decoder_input_projs = ModuleList(
            nn.Conv2d(feat_channels, width, 1) if project else nn.Identity() for _ in range(levels)
        )

    @property
    def decoder_positional_encoding(self) -> nn.Module:
        """The encoding of the cells, under the name that it has in 3.x."""
        return self.decoder_pe

    def init_weights(self) -> None:
        super(MaskFormerHead, self).init_weights()
        for projection in self.decoder_input_projs:
            if isinstance(projection, nn.Conv2d):
                caffe2_xavier_init(projection, bias=0)
        for parameter in self.transformer_decoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)

    def _forward_head(
        self, decoder_out: Tensor, mask_feature: Tensor, attn_mask_target_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``(B, Q, C + 1)``, masks ``(B, Q, h, w)``, and the mask ``(B * heads, Q, S)``, True where a query does
        not look, of queries ``(B, Q, D)``.

        Args:
            attn_mask_target_size: Height and width of the level that is attended to next.
        """
        states = self.transformer_decoder.post_norm(decoder_out)
        masks = torch.einsum('bqc,bchw->bqhw', self.mask_embed(states), mask_feature)
        with torch.no_grad():
            coarse = F.interpolate(masks, attn_mask_target_size, mode='bilinear', align_corners=False).flatten(2)
            outside = (coarse < 0)[:, None].expand(-1, self.num_heads, -1, -1).flatten(0, 1)
        return self.cls_embed(states), masks, outside

    def forward(self, x: Sequence[Tensor], batch_data_samples: SampleList) -> tuple[list[Tensor], list[Tensor]]:
        """Logits ``[(B, Q, C + 1)]`` and masks ``[(B, Q, h, w)]``, of feature maps, finest first."""
        mask_features, levels = self.pixel_decoder(x)
        batch = mask_features.shape[0]
        cells, places = [], []
        for level, project, embedding in zip(levels, self.decoder_input_projs, self.level_embed.weight):
            cells.append(project(level).flatten(2).transpose(1, 2) + embedding)
            places.append(self.decoder_pe(None, input=level).to(level.dtype).flatten(2).transpose(1, 2))
        query = self.query_feat.weight.expand(batch, -1, -1)
        query_pos = self.query_embed.weight.expand(batch, -1, -1)
        sizes = [level.shape[-2:] for level in levels[: len(cells)]]
        scores, masks, outside = self._forward_head(query, mask_features, sizes[0])
        outputs = [(scores, masks)]
        for index, layer in enumerate(self.transformer_decoder.layers):
            level = index % len(cells)
            query = layer(
                query=query,
                key=cells[level],
                value=cells[level],
                query_pos=query_pos,
                key_pos=places[level],
                cross_attn_mask=outside & ~outside.all(-1, keepdim=True),  # who sees nothing sees everything
            )
            scores, masks, outside = self._forward_head(query, mask_features, sizes[(index + 1) % len(cells)])
            outputs.append((scores, masks))
        all_scores, all_masks = map(list, zip(*outputs))
        return all_scores, all_masks

    def _pairs(self, scores: Tensor, masks: Any, truth: InstanceList, metas: list[dict]) -> Iterator[QueryPairs]:
        """MaskFormer's, at points of each image that all layers share."""
        points = torch.rand(len(truth), self.num_points, 2, device=scores.device)
        known = [point_sample(image.masks[None].float(), place[None])[0] for image, place in zip(truth, points)]
        seen = [InstanceData(labels=image.labels, masks=mask) for image, mask in zip(truth, known)]
        gt, fields = gt_of_masks(seen), dict[str, Tensor]()
        for score, mask in zip(scores, masks):
            yield QueryPairs(gt, score, masks=point_sample(mask.detach(), points).float(), metas=metas, fields=fields)

    def _mask_losses(self, chosen: Tensor, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        flat = chosen.flatten(0, 1)[:, None]
        with torch.no_grad():
            points = self._uncertain_points(flat).view(*chosen.shape[:2], -1, 2)  # (L, M, P, 2)
            of_images = zip(masks, points.split([len(image) for image in masks], 1))
            truth = torch.cat([mask_truth_at(*image) for image in of_images], 1)  # (L, M, P)
        found = point_sample(flat, points.flatten(0, 1))[:, 0]  # (L * M, P)
        truth = truth.flatten(0, 1)
        dice = self.loss_dice(found, truth, reduction_override='none')
        mask = self.loss_mask(found.flatten(), truth.flatten(), reduction_override='none').view(found.shape).mean(1)
        return mask.view(chosen.shape[:2]), dice.view(chosen.shape[:2])

    def _uncertain_points(self, masks: Tensor) -> Tensor:
        """``(N, P, 2)`` of masks ``(N, 1, h, w)``."""
        options = self.num_points, self.oversample_ratio, self.importance_sample_ratio
        return pick_uncertain_points(masks, *options, budget=POINT_BUDGET)
