"""CenterNet (Objects as Points, arXiv:1904.07850). Letters: B images, G ground truths, C classes, K peaks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import bias_init_with_prob, normal_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.models.core import (
    by_batch,
    constant,
    gather_rows,
    gaussian_heatmaps,
    gaussian_radius,
    highest_cells,
    local_maxima,
    multi_apply,
    values_at_cells,
)
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig

from . import peaks
from .base_dense_head import BaseDenseHead

MIN_OVERLAP = 0.3
"""IoU of a box whose centre is moved within the radius of its Gaussian."""


@MODELS.register_module()
class CenterNetHead(BaseDenseHead):
    """Centres of boxes as peaks of heat maps, and the size and the offset of the box in the cell of its centre.

    It takes a single map.

    Args:
        loss_center_heatmap, loss_wh, loss_offset: Losses of the heat maps, of the sizes in cells, and of the part of a
            cell by which the centre lies right of and below the cell's corner.
    """

    def __init__(
        self,
        in_channels: int,
        feat_channels: int,
        num_classes: int,
        loss_center_heatmap: ConfigType = dict(type='GaussianFocalLoss', loss_weight=1.0),
        loss_wh: ConfigType = dict(type='L1Loss', loss_weight=0.1),
        loss_offset: ConfigType = dict(type='L1Loss', loss_weight=1.0),
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes = num_classes
        self.heatmap_head = self._build_head(in_channels, feat_channels, num_classes)
        self.wh_head = self._build_head(in_channels, feat_channels, 2)
        self.offset_head = self._build_head(in_channels, feat_channels, 2)
        self.loss_center_heatmap = MODELS.build(loss_center_heatmap)
        self.loss_wh, self.loss_offset = MODELS.build(loss_wh), MODELS.build(loss_offset)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.fp16_enabled = False

    def _build_head(self, in_channels: int, feat_channels: int, out_channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, feat_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(feat_channels, out_channels, 1),
        )

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.constant_(self.heatmap_head.get_parameter('2.bias'), bias_init_with_prob(0.1))
        for branch in (self.wh_head, self.offset_head):
            for module in branch:
                if isinstance(module, nn.Conv2d):
                    normal_init(module, std=0.001)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return multi_apply(self.forward_single, x)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities ``(B, C, H, W)``, widths and heights ``(B, 2, H, W)`` and offsets ``(B, 2, H, W)`` in cells."""
        heat = self.heatmap_head(x).float().sigmoid()  # half precision has no number between 0.9995 and 1
        return heat, self.wh_head(x), self.offset_head(x)

    def loss_by_feat(
        self,
        center_heatmap_preds: list[Tensor],
        wh_preds: list[Tensor],
        offset_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: InstanceList | None = None,
    ) -> dict:
        heat, size, offset = center_heatmap_preds[0], wh_preds[0], offset_preds[0]
        gt_bboxes, gt_labels = ([gt[name] for gt in batch_gt_instances] for name in ('bboxes', 'labels'))
        targets, avg_factor = self.get_targets(gt_bboxes, gt_labels, heat.shape, batch_img_metas[0]['pad_shape'])
        weight = targets['wh_offset_target_weight']
        return dict(
            loss_center_heatmap=self.loss_center_heatmap(heat, targets['center_heatmap_target'], avg_factor=avg_factor),
            loss_wh=self.loss_wh(size, targets['wh_target'], weight, avg_factor=avg_factor * 2),
            loss_offset=self.loss_offset(offset, targets['offset_target'], weight, avg_factor=avg_factor * 2),
        )

    @torch.no_grad()
    def get_targets(
        self, gt_bboxes: Sequence[Tensor], gt_labels: Sequence[Tensor], feat_shape: Sequence[int], img_shape: tuple
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Target maps, and the number of cells with a centre, at least 1.

        Args:
            feat_shape: ``(B, C, H, W)`` of the heat maps.
            img_shape: Height and width of the network input in pixels.

        Returns:
            ``center_heatmap_target (B, C, H, W)``; ``wh_target``, ``offset_target`` and ``wh_offset_target_weight``,
            1 where a centre is, each ``(B, 2, H, W)``.
        """
        gt = peaks.padded_gt(gt_bboxes, gt_labels)
        height, width = feat_shape[-2:]
        scale_y, scale_x = height / img_shape[0], width / img_shape[1]
        x1, y1, x2, y2 = gt.boxes.unbind(-1)  # (B, G)
        x, y = (x1 + x2) * scale_x / 2, (y1 + y2) * scale_y / 2
        box_width, box_height = (x2 - x1) * scale_x, (y2 - y1) * scale_y
        column, row = x.long().clamp(0, width - 1), y.long().clamp(0, height - 1)
        radius = gaussian_radius((box_height, box_width), MIN_OVERLAP).long().clamp(min=0)
        heat = gaussian_heatmaps(gt, column, row, radius, self.num_classes, (height, width))
        values = torch.stack([box_width, box_height, x - column, y - row, torch.ones_like(x), torch.ones_like(x)], -1)
        maps = values_at_cells(values, row * width + column, gt.mask, (height, width))
        targets = dict(
            center_heatmap_target=heat,
            wh_target=maps[:, :2],
            offset_target=maps[:, 2:4],
            wh_offset_target_weight=maps[:, 4:],
        )
        return targets, heat.eq(1).sum().clamp(min=1)

    def predict_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self,
        center_heatmap_preds: list[Tensor],
        wh_preds: list[Tensor],
        offset_preds: list[Tensor],
        batch_img_metas: list[dict] = None,  # type: ignore[assignment]  # noqa: RUF013
        rescale: bool = True,
        with_nms: bool = False,
    ) -> InstanceList:
        """Detections of each image, best first: the ``topk`` highest peaks, which are not suppressed by default."""
        maps = center_heatmap_preds[0], wh_preds[0], offset_preds[0]
        if hasattr(self._predict_by_feat_single, 'by_batch'):
            return self._detect(*maps, batch_img_metas, rescale, with_nms)
        return peaks.detections_of_each_image(self, maps, batch_img_metas, {}, rescale=rescale, with_nms=with_nms)

    @by_batch
    def _predict_by_feat_single(  # type: ignore[override]  # the arguments of 3.x
        self,
        center_heatmap_pred: Tensor,
        wh_pred: Tensor,
        offset_pred: Tensor,
        img_meta: dict,
        rescale: bool = True,
        with_nms: bool = False,
    ) -> InstanceData:
        """Detections of one image, whose maps are ``(1, *, H, W)``."""
        return self._detect(center_heatmap_pred, wh_pred, offset_pred, [img_meta], rescale, with_nms)[0]

    @torch.no_grad()
    def _detect(
        self, heat: Tensor, size: Tensor, offset: Tensor, metas: Sequence[dict], rescale: bool, with_nms: bool
    ) -> InstanceList:
        cfg = self.test_cfg
        boxes, labels = self._decode_heatmap(
            heat, size, offset, metas[0]['batch_input_shape'], k=cfg.topk, kernel=cfg.local_maximum_kernel
        )
        corner = peaks.image_corners(metas, boxes)  # (B, 1, 2)
        fields = dict(bboxes=boxes[..., :4] - corner.repeat(1, 1, 2), scores=boxes[..., 4], labels=labels)
        return peaks.detections_of_peaks(self, fields, metas, rescale, with_nms)

    def _decode_heatmap(
        self,
        center_heatmap_pred: Tensor,
        wh_pred: Tensor,
        offset_pred: Tensor,
        img_shape: tuple[int, int],
        k: int = 100,
        kernel: int = 3,
    ) -> tuple[Tensor, Tensor]:
        """Boxes with scores ``(B, K, 5)`` in pixels of the network input, which has ``img_shape``, and labels."""
        height, width = center_heatmap_pred.shape[2:]
        scores, cell, labels, y, x = highest_cells(local_maxima(center_heatmap_pred, kernel), k)  # (B, K)
        size, offset = gather_rows(wh_pred, cell, 2), gather_rows(offset_pred, cell, 2)
        center = torch.stack([x, y.to(x.dtype)], -1) + offset
        boxes = torch.cat([center - size / 2, center + size / 2], -1)  # in cells
        boxes = boxes * constant([img_shape[1] / width, img_shape[0] / height] * 2, boxes)
        return torch.cat([boxes, scores[..., None]], -1), labels

    @by_batch
    def _bboxes_nms(self, bboxes: Tensor, labels: Tensor, cfg: ConfigType) -> tuple[Tensor, Tensor]:
        """What the suppression in ``cfg`` keeps of boxes with scores ``(n, 5)`` and labels of one image."""
        return peaks.suppressed_peaks(bboxes, labels, cfg)
