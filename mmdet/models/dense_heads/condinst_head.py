"""CondInst (arXiv:2003.05664).

Letters: B images, P points of all levels, C classes, D parameters of a mask, S slots, h and w of the masks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, kaiming_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    Assignment,
    GTMasks,
    LazySlots,
    PaddedGT,
    Slots,
    activations_of,
    aligned_bilinear,
    by_batch,
    constant,
    dynamic_inputs,
    dynamic_logits,
    empty_instances,
    enlarged_by_phase,
    flatten_levels,
    in_float32,
    in_parts,
    multi_apply,
    parameter_counts,
    pick_slots,
    rank_within,
    rows_at,
    split_parameters,
    sum_in_parts,
)
from mmdet.models.losses import DiceLoss
from mmdet.models.task_modules.prior_generators import MlvlPointGenerator
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptInstanceList, OptMultiConfig

from . import mask_joints
from .base_mask_head import BaseMaskHead, check_levels
from .fcos_head import FCOSHead

# Pixels of masks in single precision that are enlarged at once for results; 128 MiB.
PIXEL_BUDGET = 32 * 1024**2
FIELDS = ('param_preds', 'points', 'strides')
"""What the mask head needs to know of an object."""


@MODELS.register_module()
class CondInstBboxHead(FCOSHead):
    """FCOS that predicts besides, at each point, the parameters of the network that makes the object's mask.

    Args:
        num_params: D.
    """

    controller: Any

    def __init__(self, *args: Any, num_params: int = 169, **kwargs: Any) -> None:
        self.num_params = num_params
        super().__init__(*args, **kwargs)

    def _init_layers(self) -> None:
        super()._init_layers()
        self.controller = nn.Conv2d(self.feat_channels, self.num_params, 3, padding=1)

    def forward_single(  # type: ignore[override]  # four outputs
        self, x: Tensor, scale: nn.Module, stride: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As FCOS's, and parameters ``(B, D, H, W)``, which stand on the tower of the boxes."""
        cls_feat, reg_feat = self.cls_convs(x), self.reg_convs(x)
        return *self._outputs(cls_feat, reg_feat, scale, stride), self.controller(reg_feat)

    # ---------------------------------------------------------------------------------------------------- training

    def loss_by_feat(  # type: ignore[override]  # four outputs
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        centernesses: list[Tensor],
        param_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        priors = self._priors(cls_scores)
        labels, distances, gt_inds = self._all_targets(priors, batch_gt_instances)
        outputs = zip(('param_preds', 'scores', 'centernesses'), (param_preds, cls_scores, centernesses))
        infos = {name: flatten_levels(levels, levels[0].shape[1]) for name, levels in outputs}
        size = labels.shape
        infos['points'] = priors.boxes.expand(*size, -1)
        infos['strides'] = priors.stride.expand(size)
        infos['pos_assigned_gt_inds'] = gt_inds
        pos = (labels >= 0) & (labels < self.num_classes)
        self._raw_positive_infos['positive_infos'] = Slots(infos, pos)
        return self._losses(cls_scores, bbox_preds, centernesses, priors, labels, distances)

    def get_positive_infos(self) -> Slots:  # type: ignore[override]  # not a list, but iterates as one
        """The positives of the last :meth:`loss_by_feat`, all points being slots; also as a list by image.

        Fields: ``param_preds``, ``points`` and ``strides`` in pixels, logits ``scores`` and ``centernesses``, and
        ``pos_assigned_gt_inds`` from 0.
        """
        return self._raw_positive_infos.pop('positive_infos')

    def _centers(self, gt: PaddedGT) -> Tensor | None:
        """Centres of mass of the masks, where there are any."""
        if not self.center_sampling or not all('masks' in instances for instances in gt.instances):
            return None
        masks = GTMasks.of([instances.masks for instances in gt.instances], gt.boxes.device)
        return masks.padded(masks.centers()[1], gt.mask)

    def _targets_of(self, assignment: Assignment, points: Tensor, gt: PaddedGT) -> tuple[Tensor, ...]:
        return *super()._targets_of(assignment, points, gt), (assignment.gt_inds - 1).clamp(min=0)

    @by_batch
    def get_targets(self, points: list[Tensor], batch_gt_instances: InstanceList) -> tuple[list[Tensor], ...]:
        """As FCOS's, and the ground truth of each point from 0."""
        return super().get_targets(points, batch_gt_instances)

    @by_batch
    def _get_targets_single(
        self, gt_instances: InstanceData, points: Tensor, regress_ranges: Tensor, num_points_per_lvl: list[int]
    ) -> tuple[Tensor, ...]:
        """As FCOS's, and the ground truth ``(P,)`` of each point from 0."""
        return super()._get_targets_single(gt_instances, points, regress_ranges, num_points_per_lvl)

    # --------------------------------------------------------------------------------------------------- inference

    @in_float32
    @torch.no_grad()
    def predict_by_feat(  # type: ignore[override]  # four outputs
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None = None,
        param_preds: list[Tensor] | None = None,
        batch_img_metas: list[dict] | None = None,
        cfg: OptConfigType = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """As that of the base class, with the fields that the mask head needs: parameters, points and strides."""
        assert param_preds is not None and batch_img_metas is not None
        cfg, priors = self.test_cfg if cfg is None else cfg, self._priors(cls_scores)
        options = batch_img_metas, cfg, rescale, with_nms
        if not hasattr(self._predict_by_feat_single, 'by_batch'):
            outputs = cls_scores, bbox_preds, score_factors, param_preds
            return mask_joints.points_of_each_image(self, outputs, priors, *options)
        together = [torch.cat(level, 1) for level in zip(bbox_preds, param_preds)]
        return self._predict_batch(cls_scores, together, score_factors, priors, *options)

    def _decode(self, priors: Tensor, preds: Tensor, sizes: list[int], shapes: list[tuple[int, int]]) -> dict:
        boxes, params = preds.split([4, self.num_params], -1)
        strides = self._candidate_strides(sizes, preds)[:, 0].expand(preds.shape[:2])
        fields = super()._decode(priors, boxes, sizes, shapes)
        return dict(fields, param_preds=params, points=priors.expand(preds.shape[0], -1, -1), strides=strides)

    @by_batch
    def _predict_by_feat_single(  # type: ignore[override]  # four outputs
        self,
        cls_score_list: list[Tensor],
        bbox_pred_list: list[Tensor],
        score_factor_list: list[Tensor],
        param_pred_list: list[Tensor],
        mlvl_points: list[Tensor],
        mlvl_strides: list[Tensor],
        img_meta: dict,
        cfg: ConfigType,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceData:
        """Detections of one image, whose maps are ``(C, H, W)``."""
        together = [torch.cat(level) for level in zip(bbox_pred_list, param_pred_list)]
        outputs = cls_score_list, together, score_factor_list, mlvl_points
        return super()._predict_by_feat_single(*outputs, img_meta, cfg, rescale, with_nms)


class MaskFeatModule(BaseModule):
    """Features of masks from several levels of a pyramid, ``start_level`` to ``end_level`` (Sec. 3.1).

    Args:
        mask_stride: Stride of the first of these levels, and of the result.
        num_stacked_convs: Convolutions behind the sum of the levels.
    """

    def __init__(
        self,
        in_channels: int,
        feat_channels: int,
        start_level: int,
        end_level: int,
        out_channels: int,
        mask_stride: int = 4,
        num_stacked_convs: int = 4,
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = [dict(type='Normal', layer='Conv2d', std=0.01)],
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_levels(start_level, end_level)
        self.in_channels, self.feat_channels, self.out_channels = in_channels, feat_channels, out_channels
        self.start_level, self.end_level, self.mask_stride = start_level, end_level, mask_stride
        self.num_stacked_convs, self.conv_cfg, self.norm_cfg = num_stacked_convs, conv_cfg, norm_cfg
        self._init_layers()

    def _init_layers(self) -> None:
        options = dict(kernel_size=3, padding=1, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg)
        width = self.feat_channels
        self.convs_all_levels = nn.ModuleList()
        for level in range(self.start_level, self.end_level + 1):
            conv = ConvModule(self.in_channels, width, inplace=False, **options)
            self.convs_all_levels.append(nn.Sequential())
            self.convs_all_levels[-1].add_module(f'conv{level}', conv)
        branch = (ConvModule(width, width, **options) for _ in range(self.num_stacked_convs))
        self.conv_branch = nn.Sequential(*branch)
        self.conv_pred = nn.Conv2d(width, self.out_channels, 1)

    def init_weights(self) -> None:
        """As in detectron2, to which the learning rates are tuned: uniform, by the number of inputs."""
        super().init_weights()
        for module in (*self.convs_all_levels.modules(), *self.conv_branch.modules()):
            if isinstance(module, nn.Conv2d):
                kaiming_init(module, a=1, mode='fan_in', nonlinearity='leaky_relu', distribution='uniform')

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        """``(B, out_channels, h, w)`` of the levels of a pyramid."""
        found = None
        for layers, level in zip(self.convs_all_levels, x[self.start_level : self.end_level + 1]):
            maps = layers(level)
            found = maps if found is None else found + aligned_bilinear(maps, found.shape[2] // maps.shape[2])
        return self.conv_pred(self.conv_branch(found))


@MODELS.register_module()
class CondInstMaskHead(BaseMaskHead):
    """Masks by small networks whose parameters are predicted for each object.

    Args:
        mask_feature_head: Arguments of :class:`MaskFeatModule`.
        num_layers, feat_channels: Of each network.
        mask_out_stride: Stride of the masks that are trained.
        size_of_interest: Ways to an object are measured in so many strides of its level.
        max_masks_to_train: Most positives of an image that are trained, drawn at random; all if -1.
        topk_masks_per_img: If it is not -1, of the positives of each object the best are trained, so many of an image
            in all, and at least one of an object.

    With neither limit the number of slots on a GPU is that of all points: set one of them there.
    """

    learns_from_masks = True
    enlarged = 'aligned'

    def __init__(
        self,
        mask_feature_head: ConfigType,
        num_layers: int = 3,
        feat_channels: int = 8,
        mask_out_stride: int = 4,
        size_of_interest: int = 8,
        max_masks_to_train: int = -1,
        topk_masks_per_img: int = -1,
        loss_mask: OptConfigType = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
    ) -> None:
        super().__init__()
        self.mask_feature_head = MaskFeatModule(**mask_feature_head)
        self.mask_feat_stride, self.in_channels = (
            self.mask_feature_head.mask_stride,
            self.mask_feature_head.out_channels,
        )
        if self.mask_feat_stride % mask_out_stride:
            raise UserValueError(
                f'mask_out_stride={mask_out_stride} must divide the stride of the features, {self.mask_feat_stride}'
            )
        self.num_layers, self.feat_channels = num_layers, feat_channels
        self.mask_out_stride, self.size_of_interest = mask_out_stride, size_of_interest
        self.max_masks_to_train, self.topk_masks_per_img = max_masks_to_train, topk_masks_per_img
        self.prior_generator = MlvlPointGenerator([self.mask_feat_stride])
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.loss_mask: Any = None if loss_mask is None else MODELS.build(loss_mask)
        self._init_layers()

    def _init_layers(self) -> None:
        """Count the parameters of each layer."""
        counts = parameter_counts(self.in_channels + 2, self.feat_channels, self.num_layers)
        self.weight_nums, self.bias_nums = counts
        self.num_params = sum(self.weight_nums) + sum(self.bias_nums)

    @by_batch
    def parse_dynamic_params(self, params: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Weights ``[(n * out, in, 1, 1)]`` and biases ``[(n * out,)]`` of grouped convolutions of ``(n, D)``."""
        weights, biases = split_parameters(params, self.weight_nums, self.bias_nums)
        return [w.flatten(0, 1)[..., None, None] for w in weights], [b.flatten() for b in biases]

    @by_batch
    def dynamic_conv_forward(
        self, features: Tensor, weights: list[Tensor], biases: list[Tensor], num_insts: int
    ) -> Tensor:
        """Grouped convolutions of features ``(1, n * C, h, w)``: ``(1, n, h, w)``."""
        for i, (weight, bias) in enumerate(zip(weights, biases)):
            features = F.conv2d(F.relu(features) if i else features, weight, bias, groups=num_insts)
        return features

    def forward(self, x: tuple[Tensor, ...], positive_infos: Slots | InstanceList) -> tuple[Any, ...]:
        """Mask logits of stride ``mask_out_stride``: ``Slots`` of ``(B, S, h, w)``, as a list ``[(n, h, w)]``.

        Args:
            positive_infos: ``param_preds``, ``points`` and ``strides`` of the objects of each image.
        """
        features, infos = self.mask_feature_head(x), Slots.of(positive_infos, FIELDS)
        joints = self.forward_single, self.parse_dynamic_params, self.dynamic_conv_forward
        if not all(hasattr(method, 'by_batch') for method in joints):
            return multi_apply(self.forward_single, features, infos)
        reach, counts = infos.strides * self.size_of_interest, (self.weight_nums, self.bias_nums)
        places = self._locations(features)[::-1]
        maps, layers = dynamic_inputs(features, infos.param_preds, infos.points, reach, places, counts)
        return (LazySlots(self._logits, [maps], layers, infos.used),)

    def _logits(self, maps: Tensor, *layers: Tensor) -> Tensor:
        """Mask logits ``(B, S, h, w)`` in the size of the trained masks."""
        size = maps.shape[0] * activations_of(maps, layers)
        return self._enlarged(in_parts(dynamic_logits, size, *layers, shared=[maps]))

    def _locations(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """y ``(h,)`` and x ``(w,)`` of the cells of features in pixels."""
        y, x = (
            (torch.arange(side, device=features.device) + 0.5) * self.mask_feat_stride for side in features.shape[-2:]
        )
        return y, x

    def _enlarged(self, logits: Tensor) -> Tensor:
        return aligned_bilinear(logits, self.mask_feat_stride // self.mask_out_stride)

    @by_batch
    def forward_single(self, mask_feat: Tensor, positive_info: InstanceData) -> tuple[Tensor]:
        """Mask logits ``(n, h, w)`` of one image by features ``(C, h', w')``."""
        count = len(positive_info.points)
        y, x = self._locations(mask_feat)
        if not count:
            return (self._enlarged(mask_feat[None, :1])[0, :0] + positive_info.param_preds.sum() * 0,)
        reach = (positive_info.strides * self.size_of_interest)[:, None]
        across, down = ((positive_info.points[:, i, None] - place) / reach for i, place in enumerate((x, y)))
        across, down = across[:, None].expand(-1, len(y), -1), down[:, :, None].expand(-1, -1, len(x))
        inputs = torch.cat([across[:, None], down[:, None], mask_feat.expand(count, -1, -1, -1)], 1)
        parameters = self.parse_dynamic_params(positive_info.param_preds)
        return (self._enlarged(self.dynamic_conv_forward(inputs.flatten(0, 1)[None], *parameters, count))[0],)

    # ---------------------------------------------------------------------------------------------------- training

    def loss(self, x, batch_data_samples, positive_infos=None, **kwargs: Any) -> dict:
        if isinstance(positive_infos, Slots) and hasattr(self._get_targets_single, 'by_batch'):
            counts = [len(sample.gt_instances) for sample in batch_data_samples]
            index, used = self._trained(positive_infos, max(counts))
            names = (*FIELDS, 'pos_assigned_gt_inds')
            fields = {name: rows_at(positive_infos.values[name], index) for name in names}
            positive_infos = Slots(fields, used)
        return super().loss(x, batch_data_samples, positive_infos=positive_infos, **kwargs)

    def _trained(self, infos: Slots, num_gt: int) -> tuple[Tensor, Tensor]:
        """Indices ``(B, S)`` of the positives whose masks are trained, and which of these count.

        Args:
            num_gt: Objects of the fullest image.
        """
        limit: int | None = None
        used = infos.used
        if self.max_masks_to_train != -1:
            limit = self.max_masks_to_train
        elif self.topk_masks_per_img != -1:
            used, limit = self._best_of_each(infos, num_gt), max(self.topk_masks_per_img, num_gt, 1)
        return pick_slots(used, limit, at_random=True)

    def _best_of_each(self, infos: Slots, num_gt: int) -> Tensor:
        """``(B, P)`` bool: the positives of the highest scores of each object."""
        score = infos.scores.detach().amax(-1).sigmoid() * infos.centernesses.detach()[..., 0].sigmoid()
        owner = torch.where(infos.used, infos.pos_assigned_gt_inds, num_gt)
        found = torch.zeros(len(owner), num_gt + 1, dtype=torch.bool, device=owner.device)
        objects = found.scatter(1, owner, True)[:, :-1].sum(1, keepdim=True)
        each = (self.topk_masks_per_img // objects.clamp(min=1)).clamp(min=1)
        return infos.used & (rank_within(owner, score.float() * 0.999, num_gt + 1) < each)

    def loss_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self, mask_preds, batch_gt_instances, batch_img_metas, positive_infos, **kwargs: Any
    ) -> dict:
        """``loss_mask``, the mean over all positives.

        Args:
            mask_preds: Logits, ``Slots`` of ``(B, S, h, w)`` or a list ``[(n, h, w)]``.
        """
        if isinstance(mask_preds, LazySlots) and hasattr(self._get_targets_single, 'by_batch'):
            return dict(loss_mask=self._mask_loss(mask_preds, batch_gt_instances, positive_infos))
        preds, targets, used = self._all_pairs(mask_preds, batch_gt_instances, positive_infos)
        return dict(loss_mask=(self._compare(preds, targets) * used).sum() / used.sum().clamp(min=1))

    def _compare(self, preds: Tensor, targets: Tensor) -> Tensor:
        """``(B, S)`` loss of logits ``(B, S, ...)``."""
        loss = self.loss_mask(preds.flatten(0, 1), targets.flatten(0, 1), reduction_override='none')
        return loss.unflatten(0, preds.shape[:2])

    def _mask_loss(self, preds: LazySlots, gt_instances: InstanceList, infos: Slots) -> Tensor:
        """The loss of masks that are made part by part."""
        factor = self.mask_feat_stride // self.mask_out_stride
        height, width = (side * factor for side in preds.shared[0].shape[2:])
        masks, rows = self._rows(gt_instances, infos)
        in_order = type(self.loss_mask) is not DiceLoss  # to which the order of pixels is all the same
        targets = masks.strided(self.mask_out_stride, (height, width), 1 if in_order else factor)

        def losses(*given: Tensor) -> Tensor:
            logits = dynamic_logits(*given[:-1])
            logits = self._enlarged(logits) if in_order else enlarged_by_phase(logits, factor, factor // 2)
            return self._compare(logits, targets.index_select(0, given[-1].flatten()).view(*logits.shape))

        size, used = 6 * height * width, preds.used
        total = sum_in_parts(losses, size, used.float(), *preds.slots, rows, shared=preds.shared)
        return total / used.sum().clamp(min=1)

    def _rows(self, gt_instances: InstanceList, infos: Slots) -> tuple[GTMasks, Tensor]:
        """The masks of all images, and which of them belongs to each slot."""
        masks = GTMasks.of([instances.masks for instances in gt_instances], infos.used.device)
        return masks, masks.rows(torch.where(infos.used, infos.pos_assigned_gt_inds, 0))

    def _all_pairs(self, mask_preds, gt_instances: InstanceList, infos) -> tuple[Tensor, ...]:
        """As :meth:`_pairs`, by an own :meth:`_get_targets_single` where there is one."""
        if hasattr(self._get_targets_single, 'by_batch'):
            return self._pairs(mask_preds, gt_instances, infos)
        return mask_joints.pairs_by_single(self, mask_preds, gt_instances, infos)

    def _pairs(self, mask_preds, gt_instances: InstanceList, infos) -> tuple[Tensor, ...]:
        """Logits and target masks ``(B, S, h, w)``, and which slots are used ``(B, S)``."""
        preds, infos = Slots.of(mask_preds), Slots.of(infos, ('pos_assigned_gt_inds',))
        masks, rows = self._rows(gt_instances, infos)
        targets = masks.strided(self.mask_out_stride, tuple(preds.values.shape[-2:]))
        return preds.values, targets[rows], infos.used

    @by_batch
    def _get_targets_single(self, mask_preds: Tensor, gt_instances: InstanceData, positive_info: InstanceData) -> tuple:
        """Logits of those positives of one image that are trained, their masks, and their number.

        The masks are None where there is no object.
        """
        if not len(mask_preds) or not len(gt_instances):
            return mask_preds, None, 0
        used = torch.ones(1, len(mask_preds), dtype=torch.bool, device=mask_preds.device)
        infos = Slots({name: value[None] for name, value in positive_info.items()}, used)
        index, chosen = self._trained(infos, len(gt_instances))
        keep = index[0][chosen[0]]
        preds, *targets, _ = self._pairs([mask_preds[keep]], [gt_instances], [positive_info[keep]])
        return preds[0], *(value[0].to(mask_preds.dtype) for value in targets), len(keep)

    # --------------------------------------------------------------------------------------------------- inference

    @in_float32
    def predict_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self, mask_preds, results_list, batch_img_metas, rescale: bool = True, **kwargs: Any
    ) -> InstanceList:
        """Put ``masks (n, H, W)`` into the detections of each image; with ``rescale`` boxes are brought to the original
        image as well."""
        if is_fixed_size():
            results_list[0].masks = mask_preds.values.sigmoid()  # of stride mask_out_stride
            return results_list
        for preds, results, meta in zip(mask_preds, results_list, batch_img_metas):
            if len(results.bboxes):
                results.masks = self._predict_by_feat_single(preds, results.bboxes, meta, rescale)
            else:
                empty_instances([meta], results.bboxes.device, task_type='mask', instance_results=[results])
        return results_list

    @by_batch
    def _predict_by_feat_single(
        self, mask_preds: Tensor, bboxes: Tensor, img_meta: dict, rescale: bool, cfg: OptConfigType = None
    ) -> Tensor:
        """Masks of one image; with ``rescale`` its boxes are brought to the original image in place."""
        cfg = self.test_cfg if cfg is None else cfg
        height, width = img_meta['img_shape'][:2]
        if rescale:
            bboxes /= constant(img_meta['scale_factor'], like=bboxes).repeat(2)
        parts = []
        for logits in mask_preds.split(max(1, PIXEL_BUDGET // (height * width))):
            masks = aligned_bilinear(logits.sigmoid()[None], self.mask_out_stride)[:, :, :height, :width]
            if rescale:
                size = tuple(img_meta['ori_shape'][:2])
                masks = F.interpolate(masks, size, mode='bilinear', align_corners=False)
            parts.append(masks[0] > cfg.mask_thr)
        return torch.cat(parts)
