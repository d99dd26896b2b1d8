"""The stage of Sparse R-CNN (arXiv:2011.12450). Letters: B images, Q queries, C channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import build_activation_layer
from mmengine.config import ConfigDict
from mmengine.dist import get_world_size
from mmengine.model import ModuleList, bias_init_with_prob
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import RoISamples, by_batch, mean_count
from mmdet.models.layers import build_norm_layer
from mmdet.models.layers.mlp import FFN
from mmdet.models.layers.transformer.attention import MultiheadAttention
from mmdet.models.losses.accuracy import accuracy
from mmdet.models.task_modules.joints import as_matched
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptMultiConfig

from .bbox_head import BBoxHead, Targets


@MODELS.register_module()
class DIIHead(BBoxHead):
    """Dynamic instance interaction: each query attends to the others, then looks at its own region (Sec. 3.2).

    Args:
        num_ffn_fcs, feedforward_channels: Layers of the feed-forward block and their width.
        num_heads, dropout: Of the attention; the rate is also that of the feed-forward block.
        num_cls_fcs, num_reg_fcs: Layers before the predictors.
        dynamic_conv_cfg: Of the interaction.
        loss_iou: Loss of the boxes beside ``loss_bbox``, which compares them in parts of the image.
        kwargs: For :class:`BBoxHead`.
    """

    target_fields = ('pos_inds', 'neg_inds', *BBoxHead.target_fields)

    def __init__(
        self,
        num_classes: int = 80,
        num_ffn_fcs: int = 2,
        num_heads: int = 8,
        num_cls_fcs: int = 1,
        num_reg_fcs: int = 3,
        feedforward_channels: int = 2048,
        in_channels: int = 256,
        dropout: float = 0.0,
        ffn_act_cfg: ConfigType = dict(type='ReLU', inplace=True),
        dynamic_conv_cfg: ConfigType = dict(
            type='DynamicConv',
            in_channels=256,
            feat_channels=64,
            out_channels=256,
            input_feat_shape=7,
            act_cfg=dict(type='ReLU', inplace=True),
            norm_cfg=dict(type='LN'),
        ),
        loss_iou: ConfigType = dict(type='GIoULoss', loss_weight=2.0),
        init_cfg: OptMultiConfig = None,
        **kwargs,
    ) -> None:
        if init_cfg is not None:
            raise UserValueError('DIIHead initialises its layers itself; init_cfg must be None')
        super().__init__(
            num_classes=num_classes,
            in_channels=in_channels,
            reg_decoded_bbox=True,
            reg_class_agnostic=True,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.loss_iou = MODELS.build(loss_iou)
        norm = lambda: build_norm_layer(dict(type='LN'), in_channels)[1]
        self.attention = MultiheadAttention(in_channels, num_heads, dropout, batch_first=True)
        self.attention_norm = norm()
        self.instance_interactive_conv = MODELS.build(dynamic_conv_cfg)
        self.instance_interactive_conv_dropout = nn.Dropout(dropout)
        self.instance_interactive_conv_norm = norm()
        self.ffn = FFN(in_channels, feedforward_channels, num_ffn_fcs, act_cfg=ffn_act_cfg, ffn_drop=dropout)
        self.ffn_norm = norm()

        def layers(count: int) -> ModuleList:
            parts: list[nn.Module] = []
            for _ in range(count):
                linear = nn.Linear(in_channels, in_channels, bias=False)
                parts += [linear, norm(), build_activation_layer(dict(type='ReLU', inplace=True))]
            return ModuleList(parts)

        self.cls_fcs, self.reg_fcs = layers(num_cls_fcs), layers(num_reg_fcs)
        # of one vector of the query, not of a whole region
        self.fc_cls = nn.Linear(in_channels, self.cls_channels)
        self.fc_reg = nn.Linear(in_channels, self.reg_channels)

    @property
    def cls_channels(self) -> int:
        """Classes, and background where they exclude each other."""
        return self.num_classes if self.loss_cls.use_sigmoid else super().cls_channels

    def init_weights(self) -> None:
        super().init_weights()
        for value in self.parameters():
            if value.dim() > 1:
                nn.init.xavier_uniform_(value)
        if self.loss_cls.use_sigmoid:
            nn.init.constant_(self.fc_cls.bias, bias_init_with_prob(0.01))

    def forward(  # type: ignore[override]  # queries beside regions
        self, roi_feat: Tensor, proposal_feat: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits ``(B, Q, classes)``, deltas ``(B, Q, 4)``, the queries of the next stage, and those after the
        attention, which drive the masks, both ``(B, Q, C)``.

        Args:
            roi_feat: ``(B * Q, C, h, w)``.
            proposal_feat: ``(B, Q, C)``.
        """
        attended = self.attention_norm(self.attention(proposal_feat))
        queries = attended.flatten(0, 1)
        seen = self.instance_interactive_conv(queries, roi_feat)
        queries = self.instance_interactive_conv_norm(queries + self.instance_interactive_conv_dropout(seen))
        queries = self.ffn_norm(self.ffn(queries)).view_as(proposal_feat)
        classes = boxes = queries
        for layer in self.cls_fcs:
            classes = layer(classes)
        for layer in self.reg_fcs:
            boxes = layer(boxes)
        return self.fc_cls(classes), self.fc_reg(boxes), queries, attended

    @by_batch
    def _get_targets_single(  # type: ignore[override]  # indices beside the boxes
        self,
        pos_inds: Tensor,
        neg_inds: Tensor,
        pos_priors: Tensor,
        neg_priors: Tensor,
        pos_gt_bboxes: Tensor,
        pos_gt_labels: Tensor,
        cfg: ConfigDict,
    ) -> Targets:
        """Targets of one image, in the order of its queries."""
        drawn = super()._get_targets_single(pos_priors, neg_priors, pos_gt_bboxes, pos_gt_labels, cfg)
        order = torch.cat([pos_inds, neg_inds])
        labels, weights, boxes, box_weights = (torch.empty_like(value).index_copy(0, order, value) for value in drawn)
        return labels, weights, boxes, box_weights

    @by_batch
    def get_targets(
        self, sampling_results: RoISamples | Sequence, rcnn_train_cfg: ConfigDict, concat: bool = True
    ) -> Targets | tuple[Tensor | list[Tensor], ...]:
        """Targets of all queries, in their order; of each image, if not ``concat``."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_matched(sampling_results)
        return super().get_targets(samples, rcnn_train_cfg, concat)

    @by_batch
    def loss_and_target(  # type: ignore[override]  # sizes of images in the place of regions
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        sampling_results: RoISamples | Sequence,
        rcnn_train_cfg: ConfigDict,
        imgs_whwh: Tensor,
        concat: bool = True,
        reduction_override: str | None = None,
    ) -> dict:
        """``loss_bbox``, a dict of losses, and ``bbox_targets``.

        Args:
            cls_score: ``(B * Q, classes)``.
            bbox_pred: ``(B * Q, 4)`` boxes, xyxy in pixels.
            imgs_whwh: ``(B, Q, 4)`` width, height, width, height of the image of each query.
        """
        targets = self.get_targets(sampling_results, rcnn_train_cfg, concat)
        labels, label_weights, box_targets, box_weights = targets
        pos = (labels >= 0) & (labels < self.num_classes)
        # At least one object in all processes together: without any, the losses would be divided by nothing.
        count = mean_count(pos.sum(), minimum=1 / get_world_size())
        options = dict(avg_factor=count, reduction_override=reduction_override)
        truth = torch.where(pos[:, None], box_targets, bbox_pred.detach())
        sizes = imgs_whwh.reshape(-1, 4)
        losses = dict(
            loss_cls=self.loss_cls(cls_score, labels, label_weights, **options),
            pos_acc=accuracy(cls_score, labels, mask=pos),
            loss_bbox=self.loss_bbox(bbox_pred / sizes, truth / sizes, box_weights, **options),
            loss_iou=self.loss_iou(bbox_pred, truth, box_weights, **options),
        )
        return dict(loss_bbox=losses, bbox_targets=targets)
