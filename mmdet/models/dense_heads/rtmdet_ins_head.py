"""RTMDet-Ins (arXiv:2212.07784, Sec. 3.4).

Letters: B images, P points of all levels, C classes, D parameters of a mask, E prototypes, S slots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, bias_init_with_prob, normal_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.models.core import (
    GTMasks,
    LazySlots,
    Priors,
    Slots,
    TestCfg,
    by_batch,
    dynamic_inputs,
    dynamic_logits,
    enlarged_by_phase,
    flatten_levels,
    in_float32,
    mean_count,
    pad_batch,
    parameter_counts,
    pick_slots,
    rows_at,
    split_parameters,
    sum_in_parts,
    unstacked,
)
from mmdet.models.losses import DiceLoss
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptInstanceList

from . import mask_joints
from .condinst_head import PIXEL_BUDGET
from .rtmdet_head import RTMDetHead, share_towers, through


class MaskFeatModule(BaseModule):
    """Prototypes of masks from all levels of a pyramid, in the size of the first."""

    def __init__(
        self,
        in_channels: int,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        num_levels: int = 3,
        num_prototypes: int = 8,
        act_cfg: ConfigType = dict(type='ReLU', inplace=True),
        norm_cfg: ConfigType = dict(type='BN'),
    ) -> None:
        super().__init__(init_cfg=None)
        self.num_levels = num_levels
        self.fusion_conv = nn.Conv2d(num_levels * in_channels, in_channels, 1)
        widths = [in_channels, *[feat_channels] * (stacked_convs - 1)]
        options = dict(padding=1, act_cfg=act_cfg, norm_cfg=norm_cfg)
        self.stacked_convs = nn.Sequential(*(ConvModule(width, feat_channels, 3, **options) for width in widths))
        self.projection = nn.Conv2d(feat_channels, num_prototypes, 1)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """``(B, E, h, w)`` of the levels of a pyramid."""
        size = features[0].shape[-2:]
        levels = [features[0], *(F.interpolate(x, size=size, mode='bilinear') for x in features[1 : self.num_levels])]
        return self.projection(self.stacked_convs(self.fusion_conv(torch.cat(levels, 1))))


@MODELS.register_module()
class RTMDetInsHead(RTMDetHead):
    """RTMDet that predicts besides, at each point, the parameters of the network that makes the object's mask.

    Args:
        num_prototypes: E.
        dyconv_channels, num_dyconvs: Channels and layers of each network.
        mask_loss_stride: Stride of the masks that are trained.
    """

    learns_from_masks = True
    enlarged = 'logits'

    kernel_convs: Any
    rtm_kernel: Any

    def __init__(
        self,
        *args: Any,
        num_prototypes: int = 8,
        dyconv_channels: int = 8,
        num_dyconvs: int = 3,
        mask_loss_stride: int = 4,
        loss_mask: ConfigType = dict(type='DiceLoss', loss_weight=2.0, eps=5e-6, reduction='mean'),
        **kwargs: Any,
    ) -> None:
        self.num_prototypes, self.mask_loss_stride = num_prototypes, mask_loss_stride
        self.dyconv_channels, self.num_dyconvs = dyconv_channels, num_dyconvs
        self.weight_nums, self.bias_nums = parameter_counts(num_prototypes + 2, dyconv_channels, num_dyconvs)
        self.num_gen_params = sum(self.weight_nums) + sum(self.bias_nums)
        super().__init__(*args, **kwargs)
        self.loss_mask = MODELS.build(loss_mask)

    def _init_layers(self) -> None:
        self._init_box_layers()
        self._init_kernel_layers()
        self.mask_head = MaskFeatModule(
            self.in_channels,
            self.feat_channels,
            num_levels=len(self.prior_generator.strides),
            num_prototypes=self.num_prototypes,
            act_cfg=self.act_cfg,
            norm_cfg=self.norm_cfg,
        )

    def _init_box_layers(self) -> None:
        super()._init_layers()

    def _init_kernel_layers(self) -> None:
        self.kernel_convs, self.rtm_kernel = self._towers_of(), self._predictor(self.num_gen_params)

    def forward(  # type: ignore[override]  # four outputs
        self, feats: tuple[Tensor, ...]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
        """Class logits, distances in pixels, parameters ``[(B, D, H, W)]`` and prototypes ``(B, E, h, w)``."""
        outputs = [self._level(i, x) for i, x in enumerate(feats)]
        scores, boxes, kernels = map(list, zip(*outputs))
        return scores, boxes, kernels, self.mask_head(feats)

    def _level(self, i: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs of level ``i``."""
        branches = self.cls_convs, self.reg_convs, self.rtm_cls, self.rtm_reg
        logits, distances = self._branches(x, *branches, getattr(self, 'rtm_obj', None))
        kernels = self.rtm_kernel(through(self.kernel_convs, x))
        return logits, self.scales[i](distances) * self.prior_generator.strides[i][0], kernels

    # ---------------------------------------------------------------------------------------------------- training

    def loss_by_feat(  # type: ignore[override]  # four outputs
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        kernel_preds: list[Tensor],
        mask_feat: Tensor,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """``loss_cls`` and ``loss_bbox``, each a list, and ``loss_mask``."""
        losses, targets, priors, gt = self._losses_and_targets(
            cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        kernels = flatten_levels(kernel_preds, self.num_gen_params)  # (B, P, D)
        gt_inds = mask_joints.matches_of(targets)
        if not hasattr(self.loss_mask_by_feat, 'by_batch'):
            samples = mask_joints.samples_of(self, targets, gt_inds, priors, gt)
            instances = [mask_joints.with_tensor_masks(image, mask_feat.device) for image in batch_gt_instances]
            return dict(losses, loss_mask=self.loss_mask_by_feat(mask_feat, kernels, samples, instances))
        limit = getattr(self.assigner, 'topk', kernels.shape[1]) * gt.mask.shape[1]  # priors of a ground truth
        index, used = pick_slots(gt_inds > 0, limit)
        inds = torch.where(used, gt_inds.gather(1, index) - 1, 0)
        chosen = rows_at(kernels, index), rows_at(priors.expanded().expand(len(used), -1, -1), index)
        return dict(losses, loss_mask=self._mask_loss(mask_feat, *chosen, inds, used, batch_gt_instances))

    def _mask_loss(
        self, mask_feats: Tensor, kernels: Tensor, priors: Tensor, gt_inds: Tensor, used: Tensor, gt_instances
    ) -> Tensor:
        """The loss of masks in slots: kernels ``(B, S, D)``, priors ``(B, S, 4)``, ground truths ``(B, S)`` from 0."""
        scale = self.prior_generator.strides[0][0] // self.mask_loss_stride
        height, width = (side * scale for side in mask_feats.shape[-2:])
        masks = GTMasks.of([instances.masks for instances in gt_instances], mask_feats.device)
        in_order = type(self.loss_mask) is not DiceLoss  # to which the order of pixels is all the same
        targets = masks.strided(self.mask_loss_stride, (height, width), 1 if in_order else scale)
        rows, weights = masks.rows(gt_inds), used.float()

        def losses(logits: Tensor, rows: Tensor) -> Tensor:
            if in_order:
                logits = F.interpolate(logits, scale_factor=scale, mode='bilinear', align_corners=False)
            else:
                logits = enlarged_by_phase(logits, scale, (scale - 1) / 2)
            logits = logits.flatten(0, 1)
            loss = self.loss_mask(logits, targets.index_select(0, rows.flatten()), reduction_override='none')
            return loss.reshape(rows.numel(), -1).sum(1).view(rows.shape)

        preds = self._masks_of(mask_feats, kernels, priors, used)
        if not isinstance(preds, LazySlots):
            return (losses(preds.values, rows) * weights).sum() / mean_count(used.sum())
        priors_of_each = getattr(getattr(self, 'assigner', None), 'topk', kernels.shape[1])
        bounds = [priors_of_each * len(instances) for instances in gt_instances]
        part = lambda *given: losses(preds.make(*given[:-1]), given[-1])
        slots, size = (*preds.slots, rows), 6 * height * width
        total = sum_in_parts(part, size, weights, *slots, shared=preds.shared, bounds=bounds)
        return total / mean_count(used.sum())

    def _masks_of(self, mask_feats: Tensor, kernels: Tensor, priors: Tensor, used: Tensor) -> Slots:
        """Logits ``(B, S, h, w)`` of one stride of the first level."""
        methods = self._mask_predict_by_feat_single, self.parse_dynamic_params
        if not all(hasattr(method, 'by_batch') for method in methods):
            return Slots(torch.stack([methods[0](*image) for image in zip(mask_feats, kernels, priors)]), used)
        counts, reach = (self.weight_nums, self.bias_nums), priors[..., 2] * 8  # as many strides of its level
        places = self._locations(mask_feats)
        maps, layers = dynamic_inputs(mask_feats, kernels, priors[..., :2], reach, places, counts)
        return LazySlots(dynamic_logits, [maps], layers, used)

    def _locations(self, mask_feats: Tensor) -> tuple[Tensor, Tensor]:
        """x ``(w,)`` and y ``(h,)`` of the cells of prototypes in pixels."""
        height, width = mask_feats.shape[-2:]
        grid = self.prior_generator.single_level_grid_priors((height, width), level_idx=0, device=mask_feats.device)
        return grid[:width, 0], grid[::width, 1]

    @by_batch
    def _mask_predict_by_feat_single(self, mask_feat: Tensor, kernels: Tensor, priors: Tensor) -> Tensor:
        """Logits ``(n, h, w)`` of one image by prototypes ``(E, h, w)``, kernels ``(n, D)`` and priors ``(n, 4)``."""
        count, size = len(kernels), mask_feat.shape[-2:]
        if not count:
            return mask_feat[0].expand(0, -1, -1) + kernels.sum() * 0
        x, y = self._locations(mask_feat)
        reach = priors[:, 2, None] * 8
        way_x, way_y = (priors[:, 0, None] - x) / reach, (priors[:, 1, None] - y) / reach
        ways = torch.stack([way_x[:, None].expand(-1, *size), way_y[:, :, None].expand(-1, *size)], 1)
        found = torch.cat([ways, mask_feat.expand(count, -1, -1, -1)], 1).flatten(0, 1)[None]
        for i, (weight, bias) in enumerate(zip(*self.parse_dynamic_params(kernels))):
            found = F.conv2d(F.relu(found) if i else found, weight, bias, groups=count)
        return found[0]

    @by_batch
    def parse_dynamic_params(self, flatten_kernels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Weights ``[(n * out, in, 1, 1)]`` and biases ``[(n * out,)]`` of grouped convolutions of ``(n, D)``."""
        weights, biases = split_parameters(flatten_kernels, self.weight_nums, self.bias_nums)
        return [w.flatten(0, 1)[..., None, None] for w in weights], [b.flatten() for b in biases]

    @by_batch
    def loss_mask_by_feat(
        self,
        mask_feats: Tensor,
        flatten_kernels: Tensor,
        sampling_results_list: Sequence,
        batch_gt_instances: InstanceList,
    ) -> Tensor:
        """The loss of masks of each image's positives.

        Args:
            mask_feats: ``(B, E, h, w)``.
            flatten_kernels: ``(B, P, D)``.
        """
        results = sampling_results_list
        used = pad_batch([torch.ones_like(result.pos_inds, dtype=torch.bool) for result in results])
        index, gt_inds = (
            pad_batch([getattr(r, name) for r in results]) for name in ('pos_inds', 'pos_assigned_gt_inds')
        )
        priors = pad_batch([result.pos_priors for result in results])
        kernels = rows_at(flatten_kernels, index)
        priors = torch.where(used[..., None], priors, 1.0)  # of which the stride divides
        return self._mask_loss(mask_feats, kernels, priors, gt_inds, used, batch_gt_instances)

    # --------------------------------------------------------------------------------------------------- inference

    @in_float32
    @torch.no_grad()
    def predict_by_feat(  # type: ignore[override]  # four outputs
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        kernel_preds: list[Tensor],
        mask_feat: Tensor,
        score_factors: list[Tensor] | None = None,
        batch_img_metas: list[dict] | None = None,
        cfg: OptConfigType = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """As that of the base class, with ``masks (n, H, W)``."""
        assert batch_img_metas is not None
        cfg, priors = self.test_cfg if cfg is None else cfg, self._priors(cls_scores)
        outputs = cls_scores, bbox_preds, kernel_preds, mask_feat, score_factors
        if hasattr(self._predict_by_feat_single, 'by_batch'):
            return self._predict_masks(*outputs, priors, batch_img_metas, cfg, rescale, with_nms)
        return mask_joints.instances_of_each_image(self, *outputs, priors, batch_img_metas, cfg, rescale, with_nms)

    def _predict_masks(
        self,
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        kernel_preds: Sequence[Tensor],
        mask_feat: Tensor,
        score_factors: Sequence[Tensor] | None,
        priors: Priors,
        metas: list[dict],
        cfg: ConfigType,
        rescale: bool,
        with_nms: bool,
    ) -> InstanceList:
        test_cfg = TestCfg.read(cfg)
        together = [torch.cat(level, 1) for level in zip(bbox_preds, kernel_preds)]
        fields = self._candidates(cls_scores, together, score_factors, priors, metas, test_cfg)
        if hasattr(self._bbox_mask_post_process, 'by_batch'):
            results = self._results(fields, test_cfg, metas, rescale, with_nms)
            mask_feat = unstacked(mask_feat)
            for found, maps, meta in zip(results, mask_feat, metas):
                self._add_masks(found, maps, meta, cfg, rescale)
            return results
        images = [
            {name: value[b][keep] for name, value in fields.items()}
            for b, keep in enumerate(fields['scores'] > test_cfg.score_thr)
        ]
        return [
            self._bbox_mask_post_process(InstanceData(**image), maps, cfg, rescale, with_nms, meta)
            for image, maps, meta in zip(images, mask_feat, metas)
        ]

    def _decode(self, priors: Tensor, preds: Tensor, sizes: list[int], shapes: list[tuple[int, int]]) -> dict:
        boxes, kernels = preds.split([4, self.num_gen_params], -1)
        fields = super()._decode(priors, boxes, sizes, shapes)
        return dict(fields, kernels=kernels, priors=priors.expand(preds.shape[0], -1, -1))

    @by_batch
    def _predict_by_feat_single(  # type: ignore[override]  # four outputs
        self,
        cls_score_list: list[Tensor],
        bbox_pred_list: list[Tensor],
        kernel_pred_list: list[Tensor],
        mask_feat: Tensor,
        score_factor_list: list[Tensor | None],
        mlvl_priors: list[Tensor],
        img_meta: dict,
        cfg: ConfigType,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceData:
        """Instances of one image, whose maps are ``(C, H, W)``."""
        valid = torch.ones(1, sum(map(len, mlvl_priors)), dtype=torch.bool, device=mask_feat.device)
        scores, boxes, kernels = (
            [level[None] for level in levels] for levels in (cls_score_list, bbox_pred_list, kernel_pred_list)
        )
        factors = [factor[None] for factor in score_factor_list if factor is not None] or None
        priors = Priors(torch.cat(mlvl_priors)[None], valid, [len(level) for level in mlvl_priors])
        cfg = self.test_cfg if cfg is None else cfg
        outputs = scores, boxes, kernels, mask_feat[None], factors
        return self._predict_masks(*outputs, priors, [img_meta], cfg, rescale, with_nms)[0]

    @by_batch
    def _bbox_mask_post_process(
        self,
        results: InstanceData,
        mask_feat: Tensor,
        cfg: ConfigType,
        rescale: bool = False,
        with_nms: bool = True,
        img_meta: dict | None = None,
    ) -> InstanceData:
        """Instances of one image from candidates with ``kernels`` and ``priors``, by prototypes ``(E, h, w)``."""
        found = self._bbox_post_process(results, cfg, rescale, with_nms, img_meta)
        return self._add_masks(found, mask_feat, img_meta or {}, cfg, rescale)

    def _add_masks(
        self, results: InstanceData, mask_feat: Tensor, meta: dict, cfg: ConfigType, rescale: bool
    ) -> InstanceData:
        """Put ``masks`` into detections, in place of the kernels and priors that make them."""
        kernels, priors = results.pop('kernels'), results.pop('priors')
        if is_fixed_size():
            results.masks = self._masks_of(mask_feat, kernels, priors, results.scores > 0).values
            return results
        height, width = meta['ori_shape' if rescale else 'img_shape'][:2]
        if not len(kernels):
            results.masks = torch.zeros(0, height, width, dtype=torch.bool, device=kernels.device)
            return results
        stride, parts = self.prior_generator.strides[0][0], []
        found = torch.ones(1, len(kernels), dtype=torch.bool, device=kernels.device)
        logits = self._masks_of(mask_feat[None], kernels[None], priors[None], found).values
        for part in logits.split(max(1, PIXEL_BUDGET // (logits.shape[2] * logits.shape[3] * stride**2)), 1):
            part = F.interpolate(part, scale_factor=stride, mode='bilinear')
            if rescale:
                size = [math.ceil(side / scale) for side, scale in zip(part.shape[2:], meta['scale_factor'][1::-1])]
                part = F.interpolate(part, size=size, mode='bilinear', align_corners=False)[..., :height, :width]
            parts.append(part[0].sigmoid() > cfg.mask_thr_binary)
        results.masks = torch.cat(parts)
        return results


@MODELS.register_module()
class RTMDetInsSepBNHead(RTMDetInsHead):
    """RTMDetInsHead whose levels share the convolutions of classes and boxes, but not the norms.

    Classes and boxes have one tower, as in the published weights, under both names ``cls_convs`` and ``reg_convs``.

    Args:
        share_conv: Whether they share them.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        share_conv: bool = True,
        with_objectness: bool = False,
        norm_cfg: ConfigType = dict(type='BN', requires_grad=True),
        act_cfg: ConfigType = dict(type='SiLU', inplace=True),
        pred_kernel_size: int = 1,
        **kwargs: Any,
    ) -> None:
        self.share_conv = share_conv
        super().__init__(
            num_classes,
            in_channels,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            pred_kernel_size=pred_kernel_size,
            with_objectness=with_objectness,
            **kwargs,
        )

    def _init_box_layers(self) -> None:
        levels = range(len(self.prior_generator.strides))
        self.cls_convs = nn.ModuleList(self._towers_of() for _ in levels)
        self.reg_convs = nn.ModuleList(self.cls_convs)
        self.rtm_cls = nn.ModuleList(self._predictor(self.cls_out_channels) for _ in levels)
        self.rtm_reg = nn.ModuleList(self._predictor(4) for _ in levels)
        if self.with_objectness:
            self.rtm_obj = nn.ModuleList(self._predictor(1) for _ in levels)
        if self.share_conv:
            share_towers(self.cls_convs)

    def _init_kernel_layers(self) -> None:
        levels = range(len(self.prior_generator.strides))
        self.kernel_convs = nn.ModuleList(self._towers_of() for _ in levels)
        self.rtm_kernel = nn.ModuleList(self._predictor(self.num_gen_params) for _ in levels)

    def init_weights(self) -> None:
        super().init_weights()
        rare = bias_init_with_prob(0.01)
        for predictor in self.rtm_reg:
            normal_init(predictor, std=0.01, bias=1)  # so that distances are not all 0 behind the ReLU
        for predictor in (*self.rtm_cls, *(self.rtm_obj if self.with_objectness else ())):
            normal_init(predictor, std=0.01, bias=rare)

    def _level(self, i: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        branches = self.cls_convs[i], self.reg_convs[i], self.rtm_cls[i], self.rtm_reg[i]
        logits, distances = self._branches(x, *branches, self.rtm_obj[i] if self.with_objectness else None)
        kernels = self.rtm_kernel[i](through(self.kernel_convs[i], x))
        return logits, distances.relu() * self.prior_generator.strides[i][0], kernels
