"""SOLOv2 (arXiv:2003.10152).

Letters: B images, n rows of a grid, P cells of all grids, C classes, D parameters of a kernel, E features, S slots.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.models.core import (
    CellTargets,
    by_batch,
    flatten_levels,
    in_float32,
    pick_slots,
    rows_at,
    split_levels,
    sum_in_parts,
    with_coordinates,
)
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig

from . import mask_joints
from .base_mask_head import check_levels
from .solo_head import NORMAL, RARE, SOLOHead


class MaskFeatModule(BaseModule):
    """Sums the levels of a pyramid in the size of the first into features of masks (Sec. 3.2, Fig. 3).

    Args:
        start_level, end_level: The first and the last level that are taken.
        mask_stride: Stride of the result; that of the first level.
    """

    def __init__(
        self,
        in_channels: int,
        feat_channels: int,
        start_level: int,
        end_level: int,
        out_channels: int,
        mask_stride: int = 4,
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = [NORMAL],
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_levels(start_level, end_level)
        self.in_channels, self.feat_channels, self.out_channels = in_channels, feat_channels, out_channels
        self.start_level, self.end_level, self.mask_stride = start_level, end_level, mask_stride
        self.conv_cfg, self.norm_cfg = conv_cfg, norm_cfg
        self._init_layers()

    def _conv(self, in_channels: int, out_channels: int, kernel: int) -> ConvModule:
        return ConvModule(
            in_channels,
            out_channels,
            kernel,
            padding=kernel // 2,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            inplace=False,
        )

    def _init_layers(self) -> None:
        self.convs_all_levels = nn.ModuleList()
        for level in range(self.start_level, self.end_level + 1):
            layers = nn.Sequential()
            for j in range(max(1, level)):
                coordinates = 2 if j == 0 and level == self.end_level > 0 else 0
                width = self.feat_channels if j else self.in_channels + coordinates
                layers.add_module(f'conv{j}', self._conv(width, self.feat_channels, 3))
                if level:
                    upsample = nn.Upsample(scale_factor=2, mode='bilinear', align_corners=False)
                    layers.add_module(f'upsample{j}', upsample)
            self.convs_all_levels.append(layers)
        self.conv_pred = self._conv(self.feat_channels, self.out_channels, 1)

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        """``(B, out_channels, h, w)`` of the levels of a pyramid."""
        levels = list(x[self.start_level : self.end_level + 1])
        if len(levels) > 1 or self.start_level:
            levels[-1] = with_coordinates(levels[-1])
        return self.conv_pred(sum(layers(level) for layers, level in zip(self.convs_all_levels, levels)))


@MODELS.register_module()
class SOLOV2Head(SOLOHead):
    """A class for each cell of a grid, and the weights of the convolution that makes the mask of its object.

    Args:
        mask_feature_head: Arguments of :class:`MaskFeatModule`.
        dynamic_conv_size: Kernel size of the predicted convolutions.
        dcn_cfg: Deformable convolution for the last one of each tower, or for all of them and those of the mask
            features with ``dcn_apply_to_all_conv``.
    """

    mask_names = ()

    def __init__(
        self,
        *args: Any,
        mask_feature_head: ConfigType,
        dynamic_conv_size: int = 1,
        dcn_cfg: OptConfigType = None,
        dcn_apply_to_all_conv: bool = True,
        init_cfg: Any = [NORMAL, dict(RARE, override=dict(name='conv_cls'))],
        **kwargs: Any,
    ) -> None:
        self.dcn_cfg, self.with_dcn = dcn_cfg, dcn_cfg is not None
        self.dcn_apply_to_all_conv, self.dynamic_conv_size = dcn_apply_to_all_conv, dynamic_conv_size
        self.kernel_out_channels = mask_feature_head['out_channels'] * dynamic_conv_size**2
        self._feature_cfg = mask_feature_head
        super().__init__(*args, **{'init_cfg': init_cfg, **kwargs})

    def _conv_options(self, i: int) -> dict:
        deformable = self.dcn_apply_to_all_conv or i == self.stacked_convs - 1
        return dict(super()._conv_options(i), conv_cfg=self.dcn_cfg if deformable else None)

    def _init_layers(self) -> None:
        self.cls_convs, self.kernel_convs = self._tower_of(self.in_channels), self._tower_of(self.in_channels + 2)
        self.conv_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 3, padding=1)
        self.conv_kernel = nn.Conv2d(self.feat_channels, self.kernel_out_channels, 3, padding=1)
        given = dict(in_channels=self.in_channels)
        if self.with_dcn and self.dcn_apply_to_all_conv:
            given['conv_cfg'] = self.dcn_cfg
        self.mask_feature_head = MaskFeatModule(**{**given, **self._feature_cfg})
        self.mask_stride = self.mask_feature_head.mask_stride

    def forward(  # type: ignore[override]  # kernels in the place of masks
        self, x: tuple[Tensor, ...]
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Kernel maps ``[(B, D, n, n)]``, class maps ``[(B, C, n, n)]`` and features of masks ``(B, E, h, w)``.

        The classes are logits while training, else the probabilities of peaks.
        """
        kernels, scores = [], []
        for count, feat in zip(self.num_grids, self.resize_feats(x)):
            feat = F.interpolate(with_coordinates(feat), size=count, mode='bilinear')
            cls_feat, kernel_feat = feat[:, :-2], feat
            for cls_conv, kernel_conv in zip(self.cls_convs, self.kernel_convs):
                cls_feat, kernel_feat = cls_conv(cls_feat), kernel_conv(kernel_feat)
            logits = self.conv_cls(cls_feat)
            scores.append(logits if self.training else self._peaks(logits))
            kernels.append(self.conv_kernel(kernel_feat))
        return kernels, scores, self.mask_feature_head(x)

    def loss_by_feat(  # type: ignore[override]  # kernels in the place of masks
        self, mlvl_kernel_preds, mlvl_cls_preds, mask_feats, batch_gt_instances, batch_img_metas, **kwargs: Any
    ) -> dict:
        """``loss_mask`` of each pair of an object and one of its cells, by the number of cells, and ``loss_cls``."""
        size = mask_feats.shape[-2:]
        if hasattr(self._get_targets_single, 'by_batch'):
            targets, labels = self._pairs(batch_gt_instances, size, mask_feats.device)
        else:
            targets, labels = mask_joints.pairs_of_each_image(self, batch_gt_instances, size)
        kernels = flatten_levels(mlvl_kernel_preds, self.kernel_out_channels)  # (B, P, D)
        kernels = kernels.gather(1, targets.cells[..., None].expand(-1, -1, kernels.shape[-1]))

        def losses(mask_feats: Tensor, kernels: Tensor, rows: Tensor) -> Tensor:
            return self._compare(self._masks(mask_feats, kernels), targets.masks[rows])

        bounds = [9 * len(self.num_grids) * len(instances) for instances in batch_gt_instances]
        slots, size = (kernels, targets.rows), 4 * targets.masks[0].numel()
        weights = targets.used.float()
        total = sum_in_parts(losses, size, weights, *slots, shared=[mask_feats], bounds=bounds, large=True)
        logits = flatten_levels(mlvl_cls_preds, self.cls_out_channels)
        num_pos = (labels < self.num_classes).sum()
        return dict(
            loss_mask=total / num_pos.clamp(min=1),
            loss_cls=self.loss_cls(logits.flatten(0, 1), labels.flatten(), avg_factor=num_pos + 1),
        )

    def _masks(self, feats: Tensor, kernels: Tensor) -> Tensor:
        """Logits ``(B, S, h, w)`` of the convolutions of features ``(B, E, h, w)`` by kernels ``(B, S, D)``."""
        if self.dynamic_conv_size == 1 or not kernels.shape[1]:
            kernels = kernels[..., : feats.shape[1]]
            return torch.bmm(kernels, feats.flatten(2)).unflatten(2, feats.shape[2:])
        size = self.dynamic_conv_size
        weight = kernels.flatten(0, 1).unflatten(1, (-1, size, size))
        grouped = F.conv2d(feats.flatten(0, 1)[None], weight, padding=size // 2, groups=feats.shape[0])
        return grouped[0].unflatten(0, kernels.shape[:2])

    def _pairs(self, gt_instances: InstanceList, size: tuple[int, int], device: torch.device) -> tuple:
        """Targets of each pair of an object and a cell, whose masks are of ``size``, and labels ``(B, P)``."""
        shape = size[0] * self.mask_stride, size[1] * self.mask_stride
        every, masks, _, labels = self._object_cells(gt_instances, shape, device)
        index, used = pick_slots(every.used.flatten(1), limit=every.most_pairs)
        each = len(self.num_grids) * 9
        rows = masks.rows(torch.where(used, index // each, 0))
        shrunk = (masks.resized(size, shape) >= 0.5).to(torch.uint8)
        return CellTargets(every.cells.flatten(1).gather(1, index), used, rows, shrunk), labels

    @by_batch
    def _get_targets_single(self, gt_instances: InstanceData, featmap_sizes: Any = None) -> tuple:
        """Of one image, lists by level: masks ``(n_pos, h, w)``, labels ``(n, n)``, whether cells are positive
        ``(n * n,)``, and the cell of each mask, a list: one that two objects share stands there twice.

        Args:
            featmap_sizes: Height and width of the features of masks.
        """
        targets, labels = self._pairs([gt_instances], tuple(featmap_sizes), gt_instances.bboxes.device)
        ((cells, masks),) = targets.by_image()
        found: tuple[list, ...] = ([], [], [], [])
        start = 0
        for label, count in zip(split_levels(labels[0], [n**2 for n in self.num_grids], 0), self.num_grids):
            here = (cells >= start) & (cells < start + count**2)
            values = masks[here], label.view(count, count), label < self.num_classes, (cells[here] - start).tolist()
            for values_by_level, value in zip(found, values):
                values_by_level.append(value)
            start += count**2
        return found

    @in_float32
    def predict_by_feat(  # type: ignore[override]  # kernels in the place of masks
        self, mlvl_kernel_preds, mlvl_cls_scores, mask_feats, batch_img_metas, **kwargs: Any
    ) -> InstanceList:
        kernels = flatten_levels(mlvl_kernel_preds, self.kernel_out_channels)
        scores = flatten_levels(mlvl_cls_scores, self.cls_out_channels)
        if is_fixed_size():
            masks_of = lambda cells: self._masks(mask_feats, rows_at(kernels, cells)).sigmoid()
            return [self._fixed_best(scores, masks_of)]
        return [
            self._predict_by_feat_single(kernels[b], scores[b], mask_feats[b], img_meta=meta)
            for b, meta in enumerate(batch_img_metas)
        ]

    @by_batch
    def _predict_by_feat_single(  # type: ignore[override]  # kernels in the place of masks
        self, kernel_preds: Tensor, cls_scores: Tensor, mask_feats: Tensor, img_meta: dict, cfg: OptConfigType = None
    ) -> InstanceData:
        """Instances of one image of kernels ``(P, D)``, peaks ``(P, C)`` and features of masks ``(E, h, w)``."""
        masks_of = lambda cells: self._masks(mask_feats[None], kernel_preds[cells][None])[0].sigmoid()
        return self._best(cls_scores, masks_of, mask_feats.shape[-2:], img_meta, cfg)
