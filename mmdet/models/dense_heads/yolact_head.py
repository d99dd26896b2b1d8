"""YOLACT (arXiv:1904.02689).

Letters: B images, P anchors of all levels, A anchors per location, C classes, M prototypes, S slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    DenseTargets,
    GTMasks,
    PaddedGT,
    Slots,
    by_batch,
    constant,
    empty_instances,
    fixed_instances,
    flatten_levels,
    flatten_outputs,
    gather_rows,
    hard_negatives,
    image_shapes,
    in_float32,
    pad_batch,
    pick_slots,
    rows_at,
    split_levels,
)
from mmdet.models.layers import fast_nms
from mmdet.ops.fixed_size import at_least, is_fixed_size, is_symbolic
from mmdet.ops.nms import overlap_with_better
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptInstanceList, OptMultiConfig

from . import joints, mask_joints
from .anchor_head import AnchorHead
from .base_mask_head import BaseMaskHead
from .condinst_head import PIXEL_BUDGET


@MODELS.register_module()
class YOLACTHead(AnchorHead):
    """Classes, boxes and the coefficients of the prototypes whose sum is the object's mask (Sec. 3.2).

    Args:
        num_head_convs: Convolutions before the predictors.
        num_protos: M.
        use_ohem: Whether, as in SSD, of the negatives only the hardest count: ``train_cfg.neg_pos_ratio`` for each
            positive.
    """

    conv_coeff: Any

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        anchor_generator: ConfigType = dict(
            type='AnchorGenerator',
            octave_base_scale=3,
            scales_per_octave=1,
            ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128],
        ),
        loss_cls: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=False, reduction='none', loss_weight=1.0),
        loss_bbox: ConfigType = dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.5),
        num_head_convs: int = 1,
        num_protos: int = 32,
        use_ohem: bool = True,
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = dict(type='Xavier', distribution='uniform', bias=0, layer='Conv2d'),
        **kwargs: Any,
    ) -> None:
        self.num_head_convs, self.num_protos, self.use_ohem = num_head_convs, num_protos, use_ohem
        self.conv_cfg, self.norm_cfg = conv_cfg, norm_cfg
        super().__init__(
            num_classes,
            in_channels,
            anchor_generator=anchor_generator,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            init_cfg=init_cfg,
            **kwargs,
        )

    def _init_layers(self) -> None:
        widths = [self.in_channels, *[self.feat_channels] * self.num_head_convs]
        options = dict(padding=1, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg)
        self.head_convs = nn.ModuleList(ConvModule(width, self.feat_channels, 3, **options) for width in widths[:-1])
        predictor = lambda dim: nn.Conv2d(widths[-1], self.num_base_priors * dim, 3, padding=1)
        self.conv_cls, self.conv_reg = predictor(self.cls_out_channels), predictor(4)
        self.conv_coeff = predictor(self.num_protos)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits, box predictions and coefficients ``(B, A * M, H, W)`` in -1 to 1."""
        for layer in self.head_convs:
            x = layer(x)
        return self.conv_cls(x), self.conv_reg(x), self.conv_coeff(x).tanh()

    # ---------------------------------------------------------------------------------------------------- training

    def loss_by_feat(  # type: ignore[override]  # three outputs
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        coeff_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """``loss_cls`` and ``loss_bbox``, each a list."""
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        gt = PaddedGT.from_instances(batch_gt_instances)
        infos = dict(coeffs=flatten_levels(coeff_preds, self.num_protos))
        infos['pos_assigned_gt_inds'] = torch.where(targets.pos, mask_joints.matches_of(targets) - 1, 0)
        infos['bboxes'] = gt.gather(infos['pos_assigned_gt_inds'] + 1)[0]
        self._raw_positive_infos['positive_infos'] = Slots(infos, targets.pos)
        outputs = (cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim)
        if not self.use_ohem:
            values = self._each_loss(outputs, anchors, targets, targets.avg_factor)
        else:
            logits, deltas = flatten_outputs(*outputs)
            if hasattr(self.OHEMloss_by_feat_single, 'by_batch'):
                losses = self._hard_losses(logits, deltas, anchors, targets, targets.avg_factor)
                values = tuple([loss] for loss in losses)
            else:
                values = mask_joints.hard_losses_of_each_image(self, [logits, deltas], anchors, targets)
        return dict(zip(('loss_cls', 'loss_bbox'), values))

    def get_positive_infos(self) -> Slots:  # type: ignore[override]  # not a list, but iterates as one
        """The positives of the last :meth:`loss_by_feat`, all anchors being slots; also as a list by image.

        Fields: ``coeffs``, ``pos_assigned_gt_inds`` from 0 and ``bboxes``, those of the ground truth.
        """
        return self._raw_positive_infos.pop('positive_infos')

    def _hard_losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, targets: DenseTargets, avg_factor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Losses of classes, with hard negatives alone, and boxes; values ``(B, P, ...)``."""
        t = targets
        loss = self.loss_cls(
            logits.flatten(0, 1), t.labels.flatten(), t.label_weights.flatten(), reduction_override='none'
        )
        loss = loss.reshape(*t.labels.shape, -1).sum(-1)  # (B, P)
        negative = t.labels == self.num_classes
        hard = hard_negatives(loss, t.pos, negative, self.train_cfg['neg_pos_ratio'])
        hard = torch.where(t.pos.any(1, keepdim=True), hard, negative)  # all of them in a picture without objects
        pred, target = self._box_pairs(deltas, anchors, t)
        return (
            (loss * (t.pos | hard)).sum() / avg_factor,
            self._loss(self.loss_bbox, t.level_sizes, pred, target, t.bbox_weights, avg_factor=avg_factor),
        )

    @by_batch
    def OHEMloss_by_feat_single(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        anchors: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        avg_factor: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Class and box loss of one image: ``cls_score (P, C + 1)``, all other values ``(P,)`` or ``(P, 4)``."""
        targets = [value[None] for value in (labels, label_weights, bbox_targets, bbox_weights)]
        targets = joints.level_targets(self.num_classes, *targets)
        return self._hard_losses(cls_score[None], bbox_pred[None], anchors[None], targets, avg_factor)

    # --------------------------------------------------------------------------------------------------- inference

    @in_float32
    @torch.no_grad()
    def predict_by_feat(  # type: ignore[override]  # three outputs
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        coeff_preds: list[Tensor],
        batch_img_metas: list[dict],
        cfg: OptConfigType = None,
        rescale: bool = True,
        **kwargs: Any,
    ) -> InstanceList:
        """Detections of each image by fast NMS, with their ``coeffs (n, M)``."""
        cfg, priors = self.test_cfg if cfg is None else cfg, self._priors(cls_scores)
        levels = split_levels(priors.boxes[0], priors.level_sizes, 0)
        if is_fixed_size():
            return [self._fixed_results(cls_scores, bbox_preds, coeff_preds, levels, batch_img_metas, cfg)]
        return [
            self._predict_by_feat_single(
                [level[b] for level in cls_scores],
                [level[b] for level in bbox_preds],
                [level[b] for level in coeff_preds],
                levels,
                meta,
                cfg,
                rescale,
            )
            for b, meta in enumerate(batch_img_metas)
        ]

    def _fixed_results(
        self,
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        coeff_preds: Sequence[Tensor],
        levels: Sequence[Tensor],
        metas: list[dict],
        cfg: ConfigType,
    ) -> InstanceData:
        """:meth:`_predict_by_feat_single` of all images, in pixels of the network input."""
        nms_pre, parts = cfg.get('nms_pre', -1), []
        for maps, deltas, coeffs, priors in zip(cls_scores, bbox_preds, coeff_preds, levels):
            scores = flatten_levels([maps], self.cls_out_channels)  # (B, P, C)
            scores = scores.sigmoid() if self.use_sigmoid_cls else scores.softmax(-1)[..., :-1]
            best = scores.amax(2)
            index = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape[0], -1)
            if nms_pre > 0 and (is_symbolic(scores.shape[1]) or nms_pre < scores.shape[1]):
                best, index = at_least(best, nms_pre, -1.0).topk(nms_pre)
                index = index.clamp(max=scores.shape[1] - 1)  # of a level that has fewer
            found = torch.where(best[..., None] >= 0, rows_at(scores, index), -1.0)
            rows = gather_rows(deltas, index, 4), gather_rows(coeffs, index, self.num_protos)
            parts.append((priors[index], *rows, found))
        anchors, deltas, coeffs, scores = (torch.cat(column, 1) for column in zip(*parts))
        boxes = self.bbox_coder.decode(anchors, deltas, max_shape=image_shapes(metas))  # (B, K, 4)
        count = min(cfg.top_k, scores.shape[1])
        best, order = scores.transpose(1, 2).topk(count)  # (B, C, top_k)
        worst = overlap_with_better(rows_at(boxes, order.flatten(1)).unflatten(1, order.shape[1:]))
        best = torch.where((worst <= cfg.iou_thr) & (best > cfg.score_thr), best, 0.0).flatten(1)
        best, place = best.topk(min(cfg.max_per_img, best.shape[1]))
        source = order.flatten(1).gather(1, place)
        fields = dict(bboxes=rows_at(boxes, source), scores=best, labels=place // count, coeffs=rows_at(coeffs, source))
        return fixed_instances(fields, (best > 0).sum(1))

    @by_batch
    def _predict_by_feat_single(  # type: ignore[override]  # three outputs
        self,
        cls_score_list: list[Tensor],
        bbox_pred_list: list[Tensor],
        coeff_preds_list: list[Tensor],
        mlvl_priors: list[Tensor],
        img_meta: dict,
        cfg: ConfigType,
        rescale: bool = True,
    ) -> InstanceData:
        """Detections of one image, whose maps are ``(A * D, H, W)``."""
        nms_pre, levels = cfg.get('nms_pre', -1), []
        for maps, deltas, coeffs, priors in zip(cls_score_list, bbox_pred_list, coeff_preds_list, mlvl_priors):
            scores = flatten_levels([maps[None]], self.cls_out_channels)[0]
            scores = scores.sigmoid() if self.use_sigmoid_cls else scores.softmax(-1)
            best = scores if self.use_sigmoid_cls else scores[:, :-1]
            index = torch.arange(len(scores), device=scores.device)
            if 0 < nms_pre < len(scores):
                index = best.amax(1).topk(nms_pre).indices
            rows = (
                gather_rows(deltas[None], index[None], 4)[0],
                gather_rows(coeffs[None], index[None], self.num_protos)[0],
            )
            levels.append((priors[index], *rows, scores[index]))
        priors, deltas, coeffs, scores = (torch.cat(column) for column in zip(*levels))
        if self.use_sigmoid_cls:
            scores = F.pad(scores, (0, 1))  # background, which fast NMS expects
        boxes = self.bbox_coder.decode(priors, deltas, max_shape=image_shapes([img_meta])[0])
        return self._bbox_post_process(boxes, scores, coeffs, cfg, rescale, img_meta)

    @by_batch
    def _bbox_post_process(  # type: ignore[override]  # the arguments of 3.x
        self,
        multi_bboxes: Tensor,
        multi_scores: Tensor,
        multi_coeffs: Tensor,
        cfg: ConfigType,
        rescale: bool = False,
        img_meta: dict | None = None,
        **kwargs: Any,
    ) -> InstanceData:
        """Detections of boxes ``(n, 4)``, scores ``(n, C + 1)`` with background last, and coefficients ``(n, M)``."""
        if rescale:
            if not img_meta or img_meta.get('scale_factor') is None:
                raise UserValueError("the image's meta information has no 'scale_factor', which rescale=True needs")
            multi_bboxes = multi_bboxes / constant(img_meta['scale_factor'], like=multi_bboxes).repeat(2)
        options = cfg.score_thr, cfg.iou_thr, cfg.top_k, cfg.max_per_img
        dets, labels, coeffs = fast_nms(multi_bboxes, multi_scores, multi_coeffs, *options)
        return InstanceData(bboxes=dets[:, :4], scores=dets[:, -1], labels=labels, coeffs=coeffs)


class InterpolateModule(BaseModule):
    """``F.interpolate`` with its arguments."""

    def __init__(self, *args: Any, init_cfg: OptMultiConfig = None, **kwargs: Any) -> None:
        super().__init__(init_cfg=init_cfg)
        self.args, self.kwargs = args, kwargs

    def forward(self, x: Tensor) -> Tensor:
        """Resized maps."""
        return F.interpolate(x, *self.args, **self.kwargs)


class SegmentationModule(BaseModule):
    """A semantic segmentation that is learned besides (Sec. 4.2); it has no part in predictions."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        init_cfg: ConfigType = dict(type='Xavier', distribution='uniform', override=dict(name='segm_conv')),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes, self.in_channels = num_classes, in_channels
        self._init_layers()

    def _init_layers(self) -> None:
        self.segm_conv = nn.Conv2d(self.in_channels, self.num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, C, h, w)``."""
        return self.segm_conv(x)


@MODELS.register_module()
class YOLACTProtonet(BaseMaskHead):
    """Prototypes, and masks that are their sums (Sec. 3.1 and 3.3).

    Args:
        proto_channels, proto_kernel_sizes: Of each layer. Without channels it resizes by minus the kernel size; a
            transposed convolution if there are channels and the size is negative.
        include_last_relu: Whether prototypes are not negative.
        max_masks_to_train: Most positives of an image that are trained, drawn at random.
    """

    learns_from_masks = True

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        proto_channels: Sequence[int | None] = (256, 256, 256, None, 256, 32),
        proto_kernel_sizes: Sequence[int] = (3, 3, 3, -2, 3, 1),
        include_last_relu: bool = True,
        num_protos: int = 32,
        loss_mask_weight: float = 1.0,
        max_masks_to_train: int = 100,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        with_seg_branch: bool = True,
        loss_segm: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        init_cfg: OptMultiConfig = dict(type='Xavier', distribution='uniform', override=dict(name='protonet')),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes, self.in_channels, self.num_protos = num_classes, in_channels, num_protos
        self.proto_channels, self.proto_kernel_sizes = proto_channels, proto_kernel_sizes
        self.include_last_relu, self.loss_mask_weight = include_last_relu, loss_mask_weight
        self.max_masks_to_train, self.with_seg_branch = max_masks_to_train, with_seg_branch
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.segm_branch = SegmentationModule(num_classes, in_channels) if with_seg_branch else None
        self.loss_segm: Any = MODELS.build(loss_segm) if with_seg_branch else None
        self._init_layers()

    def _init_layers(self) -> None:
        layers: list[nn.Module] = []
        width = self.in_channels
        for channels, kernel in zip(self.proto_channels, self.proto_kernel_sizes):
            if channels is None:
                layer: nn.Module = InterpolateModule(scale_factor=-kernel, mode='bilinear', align_corners=False)
            elif kernel > 0:
                layer = nn.Conv2d(width, channels, kernel, padding=kernel // 2)
            else:
                layer = nn.ConvTranspose2d(width, channels, -kernel, padding=-kernel // 2)
            layers += [layer, nn.ReLU(inplace=True)]
            width = channels or width
        self.protonet = nn.Sequential(*(layers if self.include_last_relu else layers[:-1]))

    def forward(self, x: tuple[Tensor, ...], positive_infos: Slots | InstanceList) -> tuple[Slots, Tensor | None]:
        """Masks in 0 to 1, ``Slots`` of ``(B, S, h, w)``, as a list ``[(h, w, n)]``, and logits ``(B, C, h', w')``.

        Args:
            positive_infos: ``coeffs`` of the objects of each image.
        """
        infos = Slots.of(positive_infos, ('coeffs',))
        segm = self.segm_branch(x[0]) if self.segm_branch is not None and self.training else None
        prototypes = self.protonet(x[0])
        masks = torch.bmm(infos.coeffs, prototypes.flatten(2)).sigmoid().unflatten(2, prototypes.shape[2:])
        return infos.with_values(masks), segm

    # ---------------------------------------------------------------------------------------------------- training

    def loss(self, x, batch_data_samples, positive_infos=None, **kwargs: Any) -> dict:
        if isinstance(positive_infos, Slots) and hasattr(self._get_targets_single, 'by_batch'):
            index, used = pick_slots(positive_infos.used, self.max_masks_to_train, at_random=True)
            positive_infos = Slots({name: rows_at(v, index) for name, v in positive_infos.values.items()}, used)
        return super().loss(x, batch_data_samples, positive_infos=positive_infos, **kwargs)

    @in_float32
    def loss_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self, mask_preds, segm_preds, batch_gt_instances, batch_img_metas, positive_infos, **kwargs: Any
    ) -> dict:
        """``loss_mask``, the mean over all positives of losses by the area of their boxes, and ``loss_segm``."""
        if not hasattr(self._get_targets_single, 'by_batch'):
            outputs = mask_preds, segm_preds, batch_gt_instances, batch_img_metas, positive_infos
            return mask_joints.prototype_losses(self, *outputs)
        cropped = self._cropped(mask_preds, batch_img_metas, positive_infos)
        infos = Slots.of(positive_infos, ('pos_assigned_gt_inds', 'bboxes'))
        gt = PaddedGT.from_instances(batch_gt_instances)
        masks = GTMasks.of([instances.masks for instances in batch_gt_instances], cropped.device)
        extent = masks.height, masks.width
        rows = masks.rows(torch.where(infos.used, infos.pos_assigned_gt_inds, 0))
        targets = (masks.resized(tuple(cropped.shape[-2:]), extent) > 0.5)[rows]
        boxes = gt.gather(infos.pos_assigned_gt_inds + 1)[0]
        losses = dict(loss_mask=[self._mask_loss(cropped, targets, boxes, infos.used, batch_img_metas)])
        if self.with_seg_branch:
            segm = self._segm_targets(masks, extent, batch_gt_instances, segm_preds)
            losses['loss_segm'] = [self._segm_loss(segm_preds, segm, gt.counts)]
        return losses

    def _mask_loss(self, preds: Tensor, targets: Tensor, boxes: Tensor, used: Tensor, metas: list[dict]) -> Tensor:
        """Cross entropy of masks ``(B, S, h, w)``, of each the mean over its pixels in parts of its box's area."""
        loss = F.binary_cross_entropy(preds.clamp(0, 1), targets.to(preds.dtype), reduction='none').mean((2, 3))
        sides = boxes[..., 2:] - boxes[..., :2]
        images = constant([[w, h] for h, w in image_shapes(metas)], like=sides)
        share = torch.where(used[..., None], sides / images[:, None], 1.0).prod(-1)
        return (loss * self.loss_mask_weight / share * used).sum() / used.sum().clamp(min=1)

    def _segm_targets(
        self, masks: GTMasks, extent: tuple[int, int], gt_instances: InstanceList, like: Tensor
    ) -> Tensor:
        """``(B, C, h, w)``: 1 where there is an object; class c is in map c - 1, the first in the last, as in 3.x."""
        inside = masks.resized((like.shape[2], like.shape[3]), extent) > 0.5  # (N, h, w)
        count = self.num_classes
        every = torch.cat([b * count + (image.labels - 1) % count for b, image in enumerate(gt_instances)])
        rows = F.pad(every, (0, 1))[: len(inside)]  # without any mask there is an empty one
        found = torch.zeros_like(like).flatten(0, 1).index_add(0, rows, inside.to(like.dtype))
        return found.clamp(max=1).view(like.shape)

    def _segm_loss(self, preds: Tensor, targets: Tensor, counts: Sequence[int]) -> Tensor:
        """The loss of the segmentation of pictures with objects, of which there are ``counts``."""
        weight = constant([float(count > 0) for count in counts], like=preds)[:, None, None, None].expand_as(preds)
        factor = len(preds) * preds.shape[2] * preds.shape[3]
        return self.loss_segm(preds, targets, weight, avg_factor=factor)

    @by_batch
    def _get_targets_single(
        self, mask_preds: Tensor, segm_pred: Tensor | None, gt_instances: InstanceData, positive_info: InstanceData
    ) -> tuple:
        """Of one image: masks of the trained positives ``(n, h, w)``, their targets, targets of the segmentation
        ``(C, h', w')``, n, and the boxes of the ground truth ``(n, 4)``; without objects mostly None.

        Args:
            mask_preds: ``(h, w, n)``.
        """
        preds = mask_preds.permute(2, 0, 1)
        if not len(gt_instances):
            return preds, None, None, 0, None
        masks = GTMasks.of([gt_instances.masks], preds.device)
        extent, inds = (masks.height, masks.width), positive_info.pos_assigned_gt_inds
        segm = None if segm_pred is None else self._segm_targets(masks, extent, [gt_instances], segm_pred[None])[0]
        keep = torch.arange(len(inds), device=inds.device)
        if len(inds) > self.max_masks_to_train:
            keep = torch.randperm(len(inds), device=inds.device)[: self.max_masks_to_train]
        inside = (masks.resized(tuple(preds.shape[-2:]), extent) > 0.5).to(preds.dtype)
        return preds[keep], inside[inds[keep]], segm, len(keep), gt_instances.bboxes[inds[keep]]

    # ------------------------------------------------------------------------------------------------------- crops

    @by_batch
    def crop_mask_preds(
        self, mask_preds: Sequence[Tensor], batch_img_metas: list[dict], positive_infos
    ) -> list[Tensor]:
        """Masks ``[(h, w, n)]`` of each image, 0 outside of the boxes."""
        cropped = []
        for masks, meta, info in zip(mask_preds, batch_img_metas, positive_infos):
            height, width = meta['img_shape'][:2]
            cropped.append(self.crop_single(masks, info.bboxes / info.bboxes.new_tensor([width, height] * 2)))
        return cropped

    def crop_single(self, masks: Tensor, boxes: Tensor, padding: int = 1) -> Tensor:
        """Masks ``(h, w, n)``, 0 outside of boxes ``(n, 4)`` in parts of the picture, widened by ``padding`` cells."""
        height, width = masks.shape[:2]
        x1, x2 = self.sanitize_coordinates(boxes[:, 0], boxes[:, 2], width, padding, cast=False)
        y1, y2 = self.sanitize_coordinates(boxes[:, 1], boxes[:, 3], height, padding, cast=False)
        x, y = (torch.arange(side, device=masks.device) for side in (width, height))
        across = (x[:, None] >= x1) & (x[:, None] < x2)  # (w, n)
        return masks * ((y[:, None] >= y1) & (y[:, None] < y2))[:, None] * across

    def sanitize_coordinates(
        self, x1: Tensor, x2: Tensor, img_size: int, padding: int = 0, cast: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Ends of boxes in cells, in order and within the picture, of ends in parts of the picture.

        Args:
            cast: Whether they are rounded down to whole cells.
        """
        ends = torch.stack([x1, x2]) * img_size
        ends = ends.long() if cast else ends
        return (ends.amin(0) - padding).clamp(min=0), (ends.amax(0) + padding).clamp(max=img_size)

    def _cropped(self, mask_preds, metas: list[dict], infos) -> Tensor:
        """``(B, S, h, w)``: masks, 0 outside of the boxes of their slots."""
        if not hasattr(self.crop_mask_preds, 'by_batch'):
            lists = [masks.permute(1, 2, 0) for masks in mask_preds]
            return pad_batch([masks.permute(2, 0, 1) for masks in self.crop_mask_preds(lists, metas, infos)])
        masks, boxes = Slots.of(mask_preds).values, Slots.of(infos, ('bboxes',)).bboxes
        images = constant([[w, h, w, h] for h, w in image_shapes(metas)], like=boxes)
        every = self.crop_single(masks.flatten(0, 1).permute(1, 2, 0), (boxes / images[:, None]).flatten(0, 1))
        return every.permute(2, 0, 1).unflatten(0, masks.shape[:2])

    # --------------------------------------------------------------------------------------------------- inference

    @in_float32
    def predict_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self, mask_preds, segm_preds, results_list, batch_img_metas, rescale: bool = True, **kwargs: Any
    ) -> InstanceList:
        """Put ``masks (n, H, W)`` into the detections of each image; with ``rescale`` boxes are brought to the original
        image as well."""
        if is_fixed_size():
            results_list[0].masks = self._cropped(mask_preds, batch_img_metas, results_list)
            return results_list
        for masks, results, meta in zip(
            self._cropped(mask_preds, batch_img_metas, results_list), results_list, batch_img_metas
        ):
            boxes = results.bboxes
            if len(boxes):
                found = masks[: len(boxes)].permute(1, 2, 0)
                results.masks = self._predict_by_feat_single(found, boxes, meta, rescale)
            else:
                empty_instances([meta], boxes.device, task_type='mask', instance_results=[results])
        return results_list

    @by_batch
    def _predict_by_feat_single(
        self, mask_preds: Tensor, bboxes: Tensor, img_meta: dict, rescale: bool, cfg: OptConfigType = None
    ) -> Tensor:
        """Masks of one image of probabilities ``(h, w, n)``.

        With ``rescale`` its boxes are brought to the original image in place.
        """
        cfg = self.test_cfg if cfg is None else cfg
        size, scale = list(img_meta['ori_shape'][:2]), img_meta['scale_factor']
        if rescale:
            bboxes /= constant(scale, like=bboxes).repeat(2)
        else:
            size = [round(size[0] * scale[1]), round(size[1] * scale[0])]
        parts = []
        for part in mask_preds.permute(2, 0, 1).split(max(1, PIXEL_BUDGET // (size[0] * size[1]))):
            found = F.interpolate(part[None], tuple(size), mode='bilinear', align_corners=False)[0] > cfg.mask_thr
            parts.append((found * 255).to(torch.uint8) if cfg.get('mask_thr_binary', 0) < 0 else found)
        return torch.cat(parts)
