"""SOLO (arXiv:1912.04488).

Letters: B images, G padded ground truths, n rows of a grid, P cells of all grids, C classes, S slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    CellTargets,
    GTMasks,
    ObjectCells,
    PaddedGT,
    by_batch,
    fixed_instances,
    flatten_levels,
    in_float32,
    map_sizes,
    per_level,
    pick_slots,
    rows_at,
    split_levels,
    starts_of,
    sum_in_parts,
    with_coordinates,
)
from mmdet.models.layers import mask_matrix_nms
from mmdet.models.layers.matrix_nms import matrix_decay
from mmdet.ops.fixed_size import is_fixed_size, is_symbolic
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptConfigType

from . import mask_joints
from .base_mask_head import BaseMaskHead

NORMAL = dict(type='Normal', layer='Conv2d', std=0.01)
RARE = dict(type='Normal', std=0.01, bias_prob=0.01)


@MODELS.register_module()
class SOLOHead(BaseMaskHead):
    """A class for each cell of a grid, and a mask for the object whose centre lies in the cell.

    Args:
        scale_ranges: Lowest and highest square root of an object's area that each level is trained for.
        pos_scale: Sides of the centre region in sides of the object.
        num_grids: Cells of each level's grid along a side.
        cls_down_index: The class convolution before which the features are resized to the grid.
    """

    learns_from_masks = True

    conv_mask_list: Any
    mask_names: tuple[str, ...] = ('conv_mask_list',)
    """Predictors of masks, one for each level."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        scale_ranges: Sequence[tuple[int, int]] = ((8, 32), (16, 64), (32, 128), (64, 256), (128, 512)),
        pos_scale: float = 0.2,
        num_grids: Sequence[int] = [40, 36, 24, 16, 12],
        cls_down_index: int = 0,
        loss_mask: ConfigType = dict(type='DiceLoss', use_sigmoid=True, loss_weight=3.0),
        loss_cls: ConfigType = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        norm_cfg: ConfigType = dict(type='GN', num_groups=32, requires_grad=True),
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: Any = [
            NORMAL,
            dict(RARE, override=dict(name='conv_mask_list')),
            dict(RARE, override=dict(name='conv_cls')),
        ],
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not len(num_grids) == len(strides) == len(scale_ranges):
            raise UserValueError(
                f'num_grids, strides and scale_ranges must be of one length, not of {len(num_grids)}, {len(strides)} '
                f'and {len(scale_ranges)}'
            )
        self.num_classes, self.cls_out_channels = num_classes, num_classes
        self.in_channels, self.feat_channels, self.stacked_convs = in_channels, feat_channels, stacked_convs
        self.strides, self.num_grids, self.num_levels = strides, list(num_grids), len(strides)
        self.scale_ranges, self.pos_scale, self.cls_down_index = scale_ranges, pos_scale, cls_down_index
        self.norm_cfg, self.train_cfg, self.test_cfg = norm_cfg, train_cfg, test_cfg
        self.loss_cls, self.loss_mask = MODELS.build(loss_cls), MODELS.build(loss_mask)
        self._init_layers()

    def _tower_of(self, in_channels: int) -> nn.ModuleList:
        """The convolutions of one branch."""
        widths = [in_channels, *[self.feat_channels] * (self.stacked_convs - 1)]
        options = [self._conv_options(i) for i in range(self.stacked_convs)]
        return nn.ModuleList(
            ConvModule(width, self.feat_channels, 3, padding=1, norm_cfg=self.norm_cfg, **option)
            for width, option in zip(widths, options)
        )

    def _conv_options(self, i: int) -> dict:
        """Further arguments of convolution ``i`` of a branch."""
        return dict(bias=self.norm_cfg is None)

    def _init_layers(self) -> None:
        self.mask_convs, self.cls_convs = self._tower_of(self.in_channels + 2), self._tower_of(self.in_channels)
        self.conv_mask_list = nn.ModuleList(nn.Conv2d(self.feat_channels, n**2, 1) for n in self.num_grids)
        self.conv_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 3, padding=1)

    def resize_feats(self, x: tuple[Tensor, ...]) -> list[Tensor]:
        """Maps of the sizes that ``strides`` say: the first is halved, the last as large as that before it."""
        feats = list(x)
        if is_symbolic(x[0].shape):  # of sides that are even; half of a number is no whole one in a graph
            feats[0] = F.interpolate(x[0], size=[side // 2 for side in x[0].shape[-2:]], mode='bilinear')
        else:
            feats[0] = F.interpolate(x[0], scale_factor=0.5, mode='bilinear')
        feats[-1] = F.interpolate(x[-1], size=x[-2].shape[-2:], mode='bilinear')
        return feats

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        """Mask maps ``[(B, n * n, h, w)]`` and class maps ``[(B, C, n, n)]``.

        While training logits of twice the size of their features; else probabilities, the masks all of the same size
        and of the classes only the peaks.
        """
        feats = self.resize_feats(x)
        size = [2 * side for side in feats[0].shape[-2:]]
        outputs = []
        for level, feat in enumerate(feats):
            masks = self._mask_maps(level, feat)
            if not self.training:
                masks = [F.interpolate(maps.sigmoid(), size=size, mode='bilinear') for maps in masks]
            outputs.append((*masks, self._class_map(level, feat)))
        return tuple(map(list, zip(*outputs)))

    def _mask_maps(self, level: int, feat: Tensor) -> list[Tensor]:
        """Mask logits of one level by each of its predictors."""
        feat = with_coordinates(feat)
        for layer in self.mask_convs:
            feat = layer(feat)
        feat = F.interpolate(feat, scale_factor=2, mode='bilinear')
        return [getattr(self, name)[level](feat) for name in self.mask_names]

    def _class_map(self, level: int, feat: Tensor) -> Tensor:
        """Class logits of one level; while not training the probabilities of peaks."""
        for i, layer in enumerate(self.cls_convs):
            if i == self.cls_down_index:
                feat = F.interpolate(feat, size=self.num_grids[level], mode='bilinear')
            feat = layer(feat)
        logits = self.conv_cls(feat)
        return logits if self.training else self._peaks(logits)

    def _peaks(self, logits: Tensor) -> Tensor:
        """Scores, 0 where one of the cells above and to the left has a higher one (the NMS of SOLOv2's points)."""
        scores = logits.sigmoid()
        highest = F.max_pool2d(scores, 2, stride=1, padding=1)[:, :, :-1, :-1]
        return scores * (highest == scores)

    # ---------------------------------------------------------------------------------------------------- training

    def loss_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self, mlvl_mask_preds, mlvl_cls_preds, batch_gt_instances, batch_img_metas, **kwargs: Any
    ) -> dict:
        """``loss_mask`` of the cells with an object, and ``loss_cls``."""
        return self._losses([mlvl_mask_preds], mlvl_cls_preds, batch_gt_instances)

    def _losses(self, mask_maps: Sequence[list[Tensor]], cls_preds: list[Tensor], gt_instances: InstanceList) -> dict:
        """
        Args:
            mask_maps: Level maps of each predictor of masks.
        """
        sizes = map_sizes(mask_maps[0])
        if hasattr(self._get_targets_single, 'by_batch'):
            levels, labels = self._targets(gt_instances, sizes, cls_preds[0].device)
        else:
            levels, labels = mask_joints.cell_targets_of_each_image(self, gt_instances, sizes)
        num_pos = sum(level.used.sum() for level in levels)
        losses = []
        for level, *maps in zip(levels, *mask_maps):
            pick = lambda *given, level=level: self._mask_losses(given[:-2], given[-2], level.masks[given[-1]])
            slots, size = (level.cells, level.rows), 4 * level.masks[0].numel()
            losses.append(sum_in_parts(pick, size, level.used.float(), *slots, shared=maps))
        logits = flatten_levels(cls_preds, self.cls_out_channels)
        return dict(
            loss_mask=sum(losses) / num_pos.clamp(min=1),
            loss_cls=self.loss_cls(logits.flatten(0, 1), labels.flatten(), avg_factor=num_pos + 1),
        )

    def _mask_losses(self, maps: Sequence[Tensor], cells: Tensor, targets: Tensor) -> Tensor:
        """``(B, S)`` loss of the masks of cells ``(B, S)`` of one level's maps, against ``(B, S, h, w)``."""
        image = torch.arange(len(cells), device=cells.device)[:, None]
        pred = maps[0][image, cells]
        return self._compare(pred, targets)

    def _compare(self, pred: Tensor, targets: Tensor) -> Tensor:
        """``(B, S)`` loss of masks ``(B, S, h, w)``."""
        loss = self.loss_mask(pred.flatten(0, 1), targets.flatten(0, 1), reduction_override='none')
        return loss.unflatten(0, pred.shape[:2])

    def _object_cells(
        self, gt_instances: InstanceList, shape: tuple[int, int], device: torch.device
    ) -> tuple[ObjectCells, GTMasks, Tensor, Tensor]:
        """Cells of each object of pictures of ``shape``, masks, the cells' owners ``(B, P)`` and labels ``(B, P)``."""
        gt = PaddedGT.from_instances(gt_instances)
        masks = GTMasks.of([instances.masks for instances in gt_instances], device)
        area, center = (masks.padded(value, gt.mask) for value in masks.centers())
        options = shape, self.scale_ranges, self.num_grids, self.pos_scale
        cells = ObjectCells.around(gt.boxes, center, gt.mask & (area > 0), *options)
        owners = cells.owners()
        labels = torch.where(owners > 0, gt.gather(owners)[1], self.num_classes)
        return cells, masks, owners, labels

    def _targets(
        self, gt_instances: InstanceList, sizes: Sequence[tuple[int, int]], device: torch.device
    ) -> tuple[list[CellTargets], Tensor]:
        """Targets of the masks of each level, which are of ``sizes``, and labels ``(B, P)``."""
        shape = sizes[0][0] * 4, sizes[0][1] * 4
        every, masks, owners, labels = self._object_cells(gt_instances, shape, device)
        number = torch.arange(1, every.cells.shape[1] + 1, device=device)[:, None]
        levels, start = [], 0
        shrunk: dict[tuple, Tensor] = {}
        for level, (count, size, stride) in enumerate(zip(self.num_grids, sizes, self.strides)):
            cells = every.cells[:, :, level]  # (B, G, 9)
            owned = every.used[:, :, level] & (owners.gather(1, cells.flatten(1)).view(cells.shape) == number)
            index, used = pick_slots(owned.flatten(1), limit=count**2)
            rows = masks.rows(torch.where(used, index // 9, 0))
            if size not in shrunk:
                extent = size[0] * stride // 2, size[1] * stride // 2
                shrunk[size] = (masks.resized(size, extent) >= 0.5).to(torch.uint8)
            inside = torch.where(used, cells.flatten(1).gather(1, index) - start, 0)
            levels.append(CellTargets(inside, used, rows, shrunk[size]))
            start += count**2
        return levels, labels

    @by_batch
    def _get_targets_single(self, gt_instances: InstanceData, featmap_sizes: Sequence[tuple] | None = None) -> tuple:
        """Of one image, lists by level: masks ``(n_pos, h, w)``, labels ``(n, n)``, whether cells are positive
        ``(n * n,)``.

        Args:
            featmap_sizes: Height and width of the masks of each level.
        """
        assert featmap_sizes is not None
        levels, labels = self._targets([gt_instances], [(h, w) for h, w in featmap_sizes], gt_instances.bboxes.device)
        targets, grids, members = [], [], []
        for level, label, count in zip(levels, split_levels(labels, [n**2 for n in self.num_grids]), self.num_grids):
            ((cells, masks),) = level.by_image()
            targets.append(masks[cells.argsort()])
            grids.append(label.view(count, count))
            members.append(label[0] < self.num_classes)
        return targets, grids, members

    # --------------------------------------------------------------------------------------------------- inference

    @in_float32
    def predict_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self, mlvl_mask_preds, mlvl_cls_scores, batch_img_metas, **kwargs: Any
    ) -> InstanceList:
        """``masks (n, H, W)`` of the size of the original image, ``labels``, ``scores``, and zeros for ``bboxes``."""
        scores = flatten_levels(mlvl_cls_scores, self.cls_out_channels)
        if is_fixed_size():
            return [self._fixed_best(scores, lambda cells: rows_at(torch.cat(mlvl_mask_preds, 1), cells))]
        return [
            self._predict_by_feat_single(scores[b], torch.cat([level[b] for level in mlvl_mask_preds]), img_meta=meta)
            for b, meta in enumerate(batch_img_metas)
        ]

    @by_batch
    def _predict_by_feat_single(
        self, cls_scores: Tensor, mask_preds: Tensor, img_meta: dict, cfg: OptConfigType = None
    ) -> InstanceData:
        """Instances of one image.

        Args:
            cls_scores: ``(P, C)`` peaks.
            mask_preds: ``(P, h, w)`` probabilities.
        """
        return self._best(cls_scores, lambda cells: mask_preds[cells], mask_preds.shape[-2:], img_meta, cfg)

    def _best(self, scores: Tensor, masks_of: Any, size: Sequence[int], meta: dict, cfg: OptConfigType) -> InstanceData:
        """The best instances of one image by matrix NMS.

        Args:
            scores: ``(P, C)``.
            masks_of: Gives the probabilities ``(n, h, w)``, h and w being ``size``, of the masks of cells ``(n,)``.
        """
        cfg = self.test_cfg if cfg is None else cfg
        cells, labels = (scores > cfg.score_thr).nonzero(as_tuple=True)
        scores = scores[cells, labels]
        probabilities = masks_of(cells)
        masks = probabilities > cfg.mask_thr
        area = masks.sum((1, 2)).float()
        # A mask must be larger than one cell of its features.
        keep = (area > per_level(self.strides, [n**2 for n in self.num_grids], scores)[cells]).nonzero()[:, 0]
        masks, probabilities, area, labels = masks[keep], probabilities[keep], area[keep], labels[keep]
        maskness = (probabilities * masks).sum((1, 2)) / area  # SOLOv2, Sec. 3.3
        scores, labels, _, order = mask_matrix_nms(
            masks,
            labels,
            scores[keep] * maskness,
            mask_area=area,
            nms_pre=cfg.nms_pre,
            max_num=cfg.max_per_img,
            kernel=cfg.kernel,
            sigma=cfg.sigma,
            filter_thr=cfg.filter_thr,
        )
        return InstanceData(
            masks=enlarged(probabilities[order], [4 * side for side in size], meta) > cfg.mask_thr,
            labels=labels,
            scores=scores,
            bboxes=scores.new_zeros(len(scores), 4),
        )

    def _fixed_best(self, scores: Tensor, masks_of: Callable[[Tensor], Tensor]) -> InstanceData:
        """:meth:`_best` of all images, with the probabilities of masks ``(B, M, h, w)`` as the network gives them.

        Masks are made of the ``nms_pre`` best pairs of cell and class alone.

        Args:
            scores: ``(B, P, C)``.
            masks_of: Gives the probabilities ``(B, n, h, w)`` of the masks of cells ``(B, n)``.
        """
        cfg = self.test_cfg
        count = scores.shape[1] * scores.shape[2]
        top, index = scores.flatten(1).topk(min(cfg.nms_pre, count) if cfg.nms_pre > 0 else count)  # (B, K)
        cells, labels = index // scores.shape[2], index % scores.shape[2]
        probabilities = masks_of(cells)
        masks = (probabilities > cfg.mask_thr).float()
        area = masks.sum((2, 3))
        least = per_level(self.strides, [n**2 for n in self.num_grids], top)[cells]
        valid = (top > cfg.score_thr) & (area > least)
        top = torch.where(valid, top * (probabilities * masks).sum((2, 3)) / area.clamp(min=1), 0.0)
        top, order = top.sort(dim=1, descending=True, stable=True)
        labels, masks, area = labels.gather(1, order), rows_at(masks, order), area.gather(1, order)
        decay = matrix_decay(masks, labels, area, cfg.kernel, cfg.sigma)
        top = torch.where(top > 0, top * decay, 0.0)
        top, rank = top.topk(min(cfg.max_per_img, top.shape[1]))
        fields = dict(
            bboxes=top.new_zeros(1, 1, 4).expand(*top.shape, 4),
            scores=top,
            labels=labels.gather(1, rank),
            masks=rows_at(probabilities, order.gather(1, rank)),
        )
        return fixed_instances(fields, (top >= max(cfg.filter_thr, 1e-6)).sum(1))


def enlarged(masks: Tensor, size: Sequence[int], meta: dict) -> Tensor:
    """Probabilities ``(n, h, w)`` of the padded picture, whose size is ``size``, in that of the original image."""
    height, width = meta['img_shape'][:2]
    shape = tuple(meta['ori_shape'][:2])
    if not len(masks):
        return masks.new_zeros(0, *shape)
    masks = F.interpolate(masks[None], size=tuple(size), mode='bilinear', align_corners=False)[:, :, :height, :width]
    return F.interpolate(masks, size=shape, mode='bilinear', align_corners=False)[0]


@MODELS.register_module()
class DecoupledSOLOHead(SOLOHead):
    """SOLO whose mask of a cell is the product of one mask of its column and one of its row (Sec. 3.4)."""

    conv_mask_list_x: Any
    conv_mask_list_y: Any
    mask_names = ('conv_mask_list_x', 'conv_mask_list_y')

    def __init__(
        self,
        *args: Any,
        init_cfg: Any = [
            NORMAL,
            dict(RARE, override=dict(name='conv_mask_list_x')),
            dict(RARE, override=dict(name='conv_mask_list_y')),
            dict(RARE, override=dict(name='conv_cls')),
        ],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **{'init_cfg': init_cfg, **kwargs})

    def _init_layers(self) -> None:
        self.mask_convs, self.cls_convs = self._tower_of(self.in_channels + 2), self._tower_of(self.in_channels)
        self._init_predictors(1)

    def _init_predictors(self, kernel: int) -> None:
        for name in self.mask_names:
            convs = (nn.Conv2d(self.feat_channels, n, kernel, padding=kernel // 2) for n in self.num_grids)
            setattr(self, name, nn.ModuleList(convs))
        self.conv_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 3, padding=1)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Mask maps by column and by row ``[(B, n, h, w)]``, and class maps."""
        return super().forward(x)  # type: ignore[return-value]  # two predictors of masks

    def loss_by_feat(  # type: ignore[override]  # two maps of masks
        self, mlvl_mask_preds_x, mlvl_mask_preds_y, mlvl_cls_preds, batch_gt_instances, batch_img_metas, **kwargs: Any
    ) -> dict:
        return self._losses([mlvl_mask_preds_x, mlvl_mask_preds_y], mlvl_cls_preds, batch_gt_instances)

    def _mask_losses(self, maps: Sequence[Tensor], cells: Tensor, targets: Tensor) -> Tensor:
        across, down = maps
        image, count = torch.arange(len(cells), device=cells.device)[:, None], across.shape[1]
        return self._compare(across[image, cells % count].sigmoid() * down[image, cells // count].sigmoid(), targets)

    @by_batch
    def _get_targets_single(self, gt_instances: InstanceData, featmap_sizes: Sequence[tuple] | None = None) -> tuple:
        """As SOLO's, with row and column ``(n_pos, 2)`` of the positive cells in the third place."""
        targets, labels, _ = super()._get_targets_single(gt_instances, featmap_sizes=featmap_sizes)
        return targets, labels, [(level != self.num_classes).nonzero() for level in labels]

    @in_float32
    def predict_by_feat(  # type: ignore[override]  # two maps of masks
        self, mlvl_mask_preds_x, mlvl_mask_preds_y, mlvl_cls_scores, batch_img_metas, **kwargs: Any
    ) -> InstanceList:
        scores = flatten_levels(mlvl_cls_scores, self.cls_out_channels)
        across, down = torch.cat(mlvl_mask_preds_x, 1), torch.cat(mlvl_mask_preds_y, 1)
        if is_fixed_size():
            x, y = self._lines(scores)
            return [self._fixed_best(scores, lambda cells: rows_at(across, x[cells]) * rows_at(down, y[cells]))]
        return [
            self._predict_by_feat_single(scores[b], across[b], down[b], img_meta=meta)
            for b, meta in enumerate(batch_img_metas)
        ]

    @by_batch
    def _predict_by_feat_single(  # type: ignore[override]  # two maps of masks
        self, cls_scores: Tensor, mask_preds_x: Tensor, mask_preds_y: Tensor, img_meta: dict, cfg: OptConfigType = None
    ) -> InstanceData:
        x, y = self._lines(cls_scores)
        masks_of = lambda cells: mask_preds_x[x[cells]] * mask_preds_y[y[cells]]
        return self._best(cls_scores, masks_of, mask_preds_x.shape[-2:], img_meta, cfg)

    def _lines(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Which masks of a column and of a row, of all levels, are those of each cell, ``(P,)``."""
        sizes = [n**2 for n in self.num_grids]
        places = self.num_grids, starts_of(self.num_grids), starts_of(sizes)  # of each cell's grid
        count, first, start = (per_level(values, sizes, like).long() for values in places)
        inside = torch.arange(len(count), device=count.device) - start
        return first + inside % count, first + inside // count


@MODELS.register_module()
class DecoupledSOLOLightHead(DecoupledSOLOHead):
    """Decoupled SOLO whose masks and classes have a tower each of few convolutions, and predictors of 3x3.

    Args:
        dcn_cfg: Deformable convolution for the last one of each tower.
    """

    def __init__(
        self,
        *args: Any,
        dcn_cfg: OptConfigType = None,
        init_cfg: Any = [
            NORMAL,
            dict(RARE, override=dict(name='conv_mask_list_x')),
            dict(RARE, override=dict(name='conv_mask_list_y')),
            dict(RARE, override=dict(name='conv_cls')),
        ],
        **kwargs: Any,
    ) -> None:
        self.dcn_cfg = dcn_cfg
        super().__init__(*args, init_cfg=init_cfg, **kwargs)

    def _conv_options(self, i: int) -> dict:
        last = self.dcn_cfg is not None and i == self.stacked_convs - 1
        return dict(super()._conv_options(i), conv_cfg=self.dcn_cfg if last else None)

    def _init_layers(self) -> None:
        self.mask_convs, self.cls_convs = self._tower_of(self.in_channels + 2), self._tower_of(self.in_channels)
        self._init_predictors(3)
