"""CornerNet (arXiv:1808.01244).

Letters: B images, G ground truths, C classes, K corners of each kind, N pairs of corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, bias_init_with_prob
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
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
from mmdet.models.losses import CornerPairs
from mmdet.ops.corner_pool import CornerPool
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig

from . import peaks
from .base_dense_head import BaseDenseHead

MIN_OVERLAP = 0.3
"""IoU of a box whose corners are moved within the radius of their Gaussians."""
LEAST_CELLS = 1e-6
"""Half a side of which the logarithm is still learned."""


class BiCornerPool(BaseModule):
    """Corner pooling along both sides that meet in a corner, with a shortcut (CornerNet, Sec. 3.4).

    Args:
        directions: Two modes of :class:`~mmdet.ops.CornerPool`.
    """

    def __init__(
        self,
        in_channels: int,
        directions: Sequence[str],
        feat_channels: int = 128,
        out_channels: int = 128,
        norm_cfg: ConfigType = dict(type='BN', requires_grad=True),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg)
        wide: dict[str, Any] = dict(kernel_size=3, padding=1, norm_cfg=norm_cfg)
        self.direction1_conv = ConvModule(in_channels, feat_channels, **wide)
        self.direction2_conv = ConvModule(in_channels, feat_channels, **wide)
        self.aftpool_conv = ConvModule(feat_channels, out_channels, act_cfg=None, **wide)
        self.conv1 = ConvModule(in_channels, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None)
        self.conv2 = ConvModule(out_channels, out_channels, **wide)
        self.direction1_pool, self.direction2_pool = map(CornerPool, directions)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` -> ``(B, out_channels, H, W)``."""
        first, second = self.direction1_pool(self.direction1_conv(x)), self.direction2_pool(self.direction2_conv(x))
        return self.conv2(self.relu(self.aftpool_conv(first + second) + self.conv1(x)))


@MODELS.register_module()
class CornerHead(BaseDenseHead):
    """Top-left and bottom-right corners as peaks of heat maps; tags tell which two belong together.

    All maps have one size: they come from hourglasses one after the other. Each has layers and losses of its own; the
    last one predicts.

    Args:
        num_feat_levels: Number of maps.
        corner_emb_channels: Channels of the tags, of which the first is used; 0 for none.
    """

    corner_offset_channels = 2

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_feat_levels: int = 2,
        corner_emb_channels: int = 1,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        loss_heatmap: ConfigType = dict(type='GaussianFocalLoss', alpha=2.0, gamma=4.0, loss_weight=1),
        loss_embedding: ConfigType = dict(type='AssociativeEmbeddingLoss', pull_weight=0.25, push_weight=0.25),
        loss_offset: ConfigType = dict(type='SmoothL1Loss', beta=1.0, loss_weight=1),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes, self.in_channels, self.num_feat_levels = num_classes, in_channels, num_feat_levels
        self.corner_emb_channels, self.with_corner_emb = corner_emb_channels, corner_emb_channels > 0
        self.loss_heatmap, self.loss_offset = MODELS.build(loss_heatmap), MODELS.build(loss_offset)
        self.loss_embedding = None if loss_embedding is None else MODELS.build(loss_embedding)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.fp16_enabled = False
        self._init_layers()

    def _make_layers(self, out_channels: int, in_channels: int = 256, feat_channels: int = 256) -> nn.Sequential:
        return nn.Sequential(
            ConvModule(in_channels, feat_channels, 3, padding=1),
            ConvModule(feat_channels, out_channels, 1, norm_cfg=None, act_cfg=None),
        )

    def _of_each_level(self, out_channels: int) -> nn.ModuleList:
        return nn.ModuleList(self._make_layers(out_channels, self.in_channels) for _ in range(self.num_feat_levels))

    def _init_corner_kpt_layers(self) -> None:
        levels, width = range(self.num_feat_levels), self.in_channels
        self.tl_pool = nn.ModuleList(BiCornerPool(width, ['top', 'left'], out_channels=width) for _ in levels)
        self.br_pool = nn.ModuleList(BiCornerPool(width, ['bottom', 'right'], out_channels=width) for _ in levels)
        self.tl_heat, self.br_heat = (self._of_each_level(self.num_classes) for _ in range(2))
        self.tl_off, self.br_off = (self._of_each_level(self.corner_offset_channels) for _ in range(2))

    def _init_corner_emb_layers(self) -> None:
        self.tl_emb, self.br_emb = (self._of_each_level(self.corner_emb_channels) for _ in range(2))

    def _init_layers(self) -> None:
        self._init_corner_kpt_layers()
        if self.with_corner_emb:
            self._init_corner_emb_layers()

    def init_weights(self) -> None:
        super().init_weights()
        branches = [self.tl_heat, self.br_heat, self.tl_off, self.br_off]
        branches += [self.tl_emb, self.br_emb] if self.with_corner_emb else []
        for layers in (layers for branch in branches for layers in branch):
            output = layers.get_submodule('1.conv')
            assert isinstance(output, nn.Conv2d)
            output.reset_parameters()
        for layers in (*self.tl_heat, *self.br_heat):
            nn.init.constant_(layers.get_parameter('1.conv.bias'), bias_init_with_prob(0.1))

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[list, ...]:
        return multi_apply(self.forward_single, feats, range(self.num_feat_levels))

    def forward_single(self, x: Tensor, lvl_ind: int, return_pool: bool = False) -> list[Tensor | None]:
        """Of one map: logits ``(B, C, H, W)`` of the corners, tags, offsets ``(B, 2, H, W)`` in cells.

        The top-left corner comes before the bottom-right one. Tags are None without ``corner_emb_channels``; with
        ``return_pool`` the pooled features follow.
        """
        pooled = self.tl_pool[lvl_ind](x), self.br_pool[lvl_ind](x)
        of_both = lambda *branches: [branch[lvl_ind](feat) for branch, feat in zip(branches, pooled)]
        outs: list[Tensor | None] = of_both(self.tl_heat, self.br_heat)
        outs += of_both(self.tl_emb, self.br_emb) if self.with_corner_emb else [None, None]
        outs += of_both(self.tl_off, self.br_off)
        return outs + list(pooled) if return_pool else outs

    # ---------------------------------------------------------------------------------------------- training

    @torch.no_grad()
    def get_targets(
        self,
        gt_bboxes: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
        feat_shape: Sequence[int],
        img_shape: tuple,
        with_corner_emb: bool = False,
        with_guiding_shift: bool = False,
        with_centripetal_shift: bool = False,
    ) -> dict[str, Any]:
        """Target maps.

        Args:
            feat_shape: ``(B, C, H, W)`` of the heat maps.
            img_shape: Height and width of the network input in pixels.

        Returns:
            For ``topleft`` and ``bottomright``: ``*_heatmap (B, C, H, W)``, ``*_offset (B, 2, H, W)``, if wanted
            ``*_guiding_shift`` and ``*_centripetal_shift`` alike (CentripetalNet, Eq. 1 and 4); and
            ``corner_embedding``, a :class:`CornerPairs`, if wanted.
        """
        gt, (height, width) = peaks.padded_gt(gt_bboxes, gt_labels), feat_shape[-2:]
        scale = constant([width / img_shape[1], height / img_shape[0]], gt.boxes)
        corners = gt.boxes.unflatten(-1, (2, 2)) * scale  # (B, G, top left or bottom right, x or y)
        cells = corners.clamp(min=0).minimum(constant([width - 1, height - 1], corners)).long()
        box_width, box_height = (corners[:, :, 1] - corners[:, :, 0]).ceil().unbind(-1)
        radius = gaussian_radius((box_height, box_width), MIN_OVERLAP).long().clamp(min=0)
        center = corners.mean(2)
        targets: dict[str, Any] = {}
        for i, (name, sign) in enumerate((('topleft', 1), ('bottomright', -1))):
            x, y = cells[:, :, i].unbind(-1)
            targets[f'{name}_heatmap'] = gaussian_heatmaps(gt, x, y, radius, self.num_classes, (height, width))
            values = {f'{name}_offset': corners[:, :, i] - cells[:, :, i]}
            if with_guiding_shift:
                values[f'{name}_guiding_shift'] = (center - cells[:, :, i]) * sign
            if with_centripetal_shift:
                shift = (center - corners[:, :, i]) * sign
                values[f'{name}_centripetal_shift'] = shift.clamp(min=LEAST_CELLS).log()
            maps = values_at_cells(torch.cat(list(values.values()), -1), y * width + x, gt.mask, (height, width))
            targets.update(zip(values, maps.split(2, 1)))
        if with_corner_emb:
            targets['corner_embedding'] = CornerPairs(cells.flip(-1), gt.mask)
        return targets

    def _targets_of(
        self, heats: Sequence[Tensor], gt_instances: InstanceList, metas: Sequence[dict], **wanted: bool
    ) -> list[dict]:
        """The targets of every map, which are the same."""
        bboxes, labels = ([gt[name] for gt in gt_instances] for name in ('bboxes', 'labels'))
        shape = metas[0]['batch_input_shape']
        targets = self.get_targets(
            bboxes, labels, heats[-1].shape, shape, with_corner_emb=self.with_corner_emb, **wanted
        )
        return [targets] * self.num_feat_levels

    def loss_by_feat(
        self,
        tl_heats: list[Tensor],
        br_heats: list[Tensor],
        tl_embs: list[Tensor],
        br_embs: list[Tensor],
        tl_offs: list[Tensor],
        br_offs: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: InstanceList | None = None,
    ) -> dict:
        targets = self._targets_of(tl_heats, batch_gt_instances, batch_img_metas)
        det, pull, push, off = multi_apply(
            self.loss_by_feat_single, tl_heats, br_heats, tl_embs, br_embs, tl_offs, br_offs, targets
        )
        losses = dict(det_loss=det, off_loss=off)
        return losses if pull[0] is None else dict(losses, pull_loss=pull, push_loss=push)

    def loss_by_feat_single(
        self,
        tl_hmp: Tensor,
        br_hmp: Tensor,
        tl_emb: Tensor | None,
        br_emb: Tensor | None,
        tl_off: Tensor,
        br_off: Tensor,
        targets: dict[str, Any],
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """Losses of one map: detection, pull, push (None without tags), offset."""
        det: Any = 0
        for name, heat in (('topleft', tl_hmp), ('bottomright', br_hmp)):
            target = targets[f'{name}_heatmap']
            count = target.eq(1).sum().clamp(min=1)
            det = det + self.loss_heatmap(heat.float().sigmoid(), target, avg_factor=count) / 2
        pull = push = None
        if self.with_corner_emb and self.loss_embedding is not None:
            pull, push = self.loss_embedding(tl_emb, br_emb, targets['corner_embedding'])
        return det, pull, push, self._loss_at_corners(self.loss_offset, tl_off, br_off, targets, 'offset')

    def _loss_at_corners(self, loss: nn.Module, tl: Tensor, br: Tensor, targets: dict[str, Tensor], kind: str) -> Any:
        """The mean of the losses of both corners, each at the cells that have one."""
        total: Any = 0
        for name, pred in (('topleft', tl), ('bottomright', br)):
            mask = targets[f'{name}_heatmap'].eq(1).any(1, keepdim=True).to(pred.dtype)
            total = total + loss(pred, targets[f'{name}_{kind}'], mask, avg_factor=mask.sum().clamp(min=1)) / 2
        return total

    # -------------------------------------------------------------------------------------------- prediction

    def predict_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self,
        tl_heats: list[Tensor],
        br_heats: list[Tensor],
        tl_embs: list[Tensor],
        br_embs: list[Tensor],
        tl_offs: list[Tensor],
        br_offs: list[Tensor],
        batch_img_metas: list[dict] = None,  # type: ignore[assignment]  # noqa: RUF013
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """Detections of each image, best first."""
        tl, br = CornerMaps(tl_heats[-1], tl_offs[-1], tl_embs[-1]), CornerMaps(br_heats[-1], br_offs[-1], br_embs[-1])
        return self._predict_corners(tl, br, batch_img_metas, rescale, with_nms)

    def _predict_corners(
        self, tl: CornerMaps, br: CornerMaps, metas: Sequence[dict], rescale: bool, with_nms: bool
    ) -> InstanceList:
        if hasattr(self._predict_by_feat_single, 'by_batch') and hasattr(self._decode_heatmap, 'by_batch'):
            return self._detect(tl, br, metas, rescale, with_nms)
        maps, named = (tl.heat, br.heat, tl.offset, br.offset), pairing(tl, br)
        return peaks.detections_of_each_image(self, maps, metas, named, rescale=rescale, with_nms=with_nms)

    @by_batch
    def _predict_by_feat_single(  # type: ignore[override]  # the arguments of 3.x
        self,
        tl_heat: Tensor,
        br_heat: Tensor,
        tl_off: Tensor,
        br_off: Tensor,
        img_meta: dict,
        tl_emb: Tensor | None = None,
        br_emb: Tensor | None = None,
        tl_centripetal_shift: Tensor | None = None,
        br_centripetal_shift: Tensor | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceData:
        """Detections of one image, whose maps are ``(1, *, H, W)``."""
        tl = CornerMaps(tl_heat, tl_off, tl_emb, tl_centripetal_shift)
        br = CornerMaps(br_heat, br_off, br_emb, br_centripetal_shift)
        return self._detect(tl, br, [img_meta], rescale, with_nms)[0]

    @torch.no_grad()
    def _detect(
        self, tl: CornerMaps, br: CornerMaps, metas: Sequence[dict], rescale: bool, with_nms: bool
    ) -> InstanceList:
        cfg = self.test_cfg
        options = dict(k=cfg.corner_topk, kernel=cfg.local_maximum_kernel, distance_threshold=cfg.distance_threshold)
        tl, br = (replace(maps, heat=maps.heat.sigmoid()) for maps in (tl, br))
        if hasattr(self._decode_heatmap, 'by_batch'):
            boxes, scores, labels = pair_corners(tl, br, metas, **options)
        else:
            boxes, scores, labels = self._decode_heatmap(
                tl.heat, br.heat, tl.offset, br.offset, **pairing(tl, br), img_meta=metas[0], **options
            )
        fields = dict(bboxes=boxes, scores=scores[..., 0], labels=labels[..., 0])
        return peaks.detections_of_peaks(self, fields, metas, rescale, with_nms)

    @by_batch
    def _decode_heatmap(
        self,
        tl_heat: Tensor,
        br_heat: Tensor,
        tl_off: Tensor,
        br_off: Tensor,
        tl_emb: Tensor | None = None,
        br_emb: Tensor | None = None,
        tl_centripetal_shift: Tensor | None = None,
        br_centripetal_shift: Tensor | None = None,
        img_meta: dict | None = None,
        k: int = 100,
        kernel: int = 3,
        distance_threshold: float = 0.5,
        num_dets: int = 1000,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes ``(B, N, 4)`` in pixels of the image, scores and labels ``(B, N, 1)`` of the best pairs of corners.

        Pairs that do not belong together have the score -1.

        Args:
            k: Corners of each kind.
            kernel: A corner is the highest of so many cells along either axis.
            distance_threshold: Tags of a pair differ by no more, or boxes of its centres are no larger in proportion.
            num_dets: N.
        """
        tl = CornerMaps(tl_heat, tl_off, tl_emb, tl_centripetal_shift)
        br = CornerMaps(br_heat, br_off, br_emb, br_centripetal_shift)
        return pair_corners(tl, br, [img_meta or {}] * len(tl_heat), k, kernel, distance_threshold, num_dets)

    @by_batch
    def _bboxes_nms(self, bboxes: Tensor, labels: Tensor, cfg: ConfigType) -> tuple[Tensor, Tensor]:
        """What the suppression in ``cfg`` keeps of boxes with scores ``(n, 5)`` and labels of one image."""
        return peaks.suppressed_peaks(bboxes, labels, cfg)


@dataclass
class CornerMaps:
    """What a head predicts of one kind of corners: maps ``(B, *, H, W)``."""

    heat: Tensor
    offset: Tensor
    tag: Tensor | None = None
    shift: Tensor | None = None
    """Logarithms of the distances to the centre, in cells."""


def pairing(tl: CornerMaps, br: CornerMaps) -> dict[str, Tensor | None]:
    """The maps that tell which corners belong together, under the names of 3.x."""
    return dict(tl_emb=tl.tag, br_emb=br.tag, tl_centripetal_shift=tl.shift, br_centripetal_shift=br.shift)


def pair_corners(
    tl: CornerMaps,
    br: CornerMaps,
    metas: Sequence[dict],
    k: int,
    kernel: int,
    distance_threshold: float,
    num_dets: int = 1000,
) -> tuple[Tensor, Tensor, Tensor]:
    """As :meth:`CornerHead._decode_heatmap`, for images of which each has its ``metas``."""
    if (tl.tag is None) == (tl.shift is None):
        given = 'neither: corner_emb_channels must be positive' if tl.tag is None else 'both'
        raise UserValueError(f'corners are paired by tags or by centripetal shifts, but the head gives {given}')
    (height, width), (input_height, input_width) = tl.heat.shape[2:], metas[0]['batch_input_shape'][:2]
    scale = constant([input_width / width, input_height / height], tl.heat)
    begins = peaks.image_corners(metas, tl.heat)  # (B, 1, 2)

    def found(maps: CornerMaps, sign: int) -> tuple[Tensor, ...]:
        """Scores and labels ``(B, K)``, corners ``(B, K, 2)``, and tags ``(B, K)`` or centres ``(B, K, 2)``."""
        scores, cell, labels, y, x = highest_cells(local_maxima(maps.heat, kernel), k)
        corner = torch.stack([x, y.to(x.dtype)], -1) + gather_rows(maps.offset, cell, 2)
        in_pixels = lambda place: (place * scale - begins).clamp(min=0)
        if maps.shift is not None:
            extra = in_pixels(corner + sign * gather_rows(maps.shift, cell, 2).exp())
        else:
            assert maps.tag is not None
            extra = gather_rows(maps.tag, cell, maps.tag.shape[1])[..., 0]
        return scores, labels, in_pixels(corner), extra

    tl_scores, tl_labels, tl_corners, tl_extra = found(tl, 1)
    br_scores, br_labels, br_corners, br_extra = found(br, -1)
    boxes = each_with_each(tl_corners, br_corners)  # (B, K, K, 4)
    scores = (tl_scores[:, :, None] + br_scores[:, None]) / 2
    fits = (tl_labels[:, :, None] == br_labels[:, None]) & (boxes[..., 2:] > boxes[..., :2]).all(-1)
    if tl.shift is None:
        fits &= (tl_extra[:, :, None] - br_extra[:, None]).abs() <= distance_threshold
    else:
        fits &= centers_agree(boxes, each_with_each(tl_extra, br_extra), distance_threshold)
    scores, order = torch.where(fits, scores, -1.0).flatten(1).topk(min(num_dets, fits[0].numel()))
    labels = tl_labels.gather(1, order // fits.shape[2])
    boxes = boxes.flatten(1, 2).gather(1, order[..., None].expand(-1, -1, 4))
    return boxes, scores[..., None], labels[..., None]


def each_with_each(first: Tensor, second: Tensor) -> Tensor:
    """``(B, K, K, 4)`` of places ``(B, K, 2)``."""
    shape = first.shape[0], first.shape[1], second.shape[1], 2
    return torch.cat([first[:, :, None].expand(shape), second[:, None].expand(shape)], -1)


def centers_agree(boxes: Tensor, centers: Tensor, distance_threshold: float) -> Tensor:
    """Whether the centres to which both corners of a box point lie near its middle, and near each other.

    CentripetalNet (arXiv:2003.09119), Sec. 3.2 and 4.1.

    Args:
        boxes: ``(..., 4)`` xyxy in pixels.
        centers: ``(..., 4)``, x and y of the top-left corner's centre, then of the bottom-right one's.
        distance_threshold: The box that the two centres span is no larger than this part of the central region.
    """
    low, high = boxes.split(2, -1)
    area = (high - low).prod(-1, keepdim=True).abs()
    part = torch.where(area > 3500, 1 / 2.1, 1 / 2.4)  # of the sides
    middle, reach = (low + high) / 2, (high - low) * part / 2
    first, second = centers.split(2, -1)
    inside = [((center > middle - reach) & (center < middle + reach)).all(-1) for center in (first, second)]
    region = (2 * reach).prod(-1).abs()
    return inside[0] & inside[1] & ((second - first).prod(-1).abs() / region <= distance_threshold)
