"""YOLOF (arXiv:2103.09460). Letters: B images, G ground truths, P anchors, K pairs of a ground truth, C classes."""

from __future__ import annotations

import torch
from mmcv.cnn import ConvModule
from mmengine.model import bias_init_with_prob, constant_init, normal_init
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmdet.errors import UserValueError
from mmdet.models.core import Assignment, DenseTargets, PaddedGT, Priors, by_batch, flatten_outputs, widened
from mmdet.models.task_modules.assigners.atss_assigner import gather_boxes
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList, OptInstanceList, reduce_mean

from . import family_joints, joints
from .anchor_head import AnchorHead

INF = 1e8


@MODELS.register_module()
class YOLOFHead(AnchorHead):
    """One level, as many anchors and predictions for every object, and class scores with an implicit objectness.

    Args:
        num_cls_convs, num_reg_convs: Convolutions of the towers.

    The assigner is `UniformAssigner`. The boxes are trained on all its pairs, some of them several times.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_cls_convs: int = 2,
        num_reg_convs: int = 4,
        norm_cfg=dict(type='BN', requires_grad=True),
        **kwargs,
    ) -> None:
        self.num_cls_convs, self.num_reg_convs, self.norm_cfg = num_cls_convs, num_reg_convs, norm_cfg
        super().__init__(num_classes, in_channels, **kwargs)
        if len(self.prior_generator.strides) != 1:
            raise UserValueError(f'YOLOFHead has one level, not strides={self.prior_generator.strides}')

    def _init_layers(self) -> None:
        width = self.in_channels
        tower = lambda count: nn.Sequential(
            *(ConvModule(width, width, 3, padding=1, norm_cfg=self.norm_cfg) for _ in range(count))
        )
        self.cls_subnet, self.bbox_subnet = tower(self.num_cls_convs), tower(self.num_reg_convs)
        self.cls_score = nn.Conv2d(width, self.num_base_priors * self.num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(width, self.num_base_priors * 4, 3, padding=1)
        self.object_pred = nn.Conv2d(width, self.num_base_priors, 3, padding=1)

    def init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, mean=0, std=0.01)
            if isinstance(module, _NormBase):
                constant_init(module, 1)
        normal_init(self.cls_score, std=0.01, bias=bias_init_with_prob(0.01))

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits ``(B, A * C, H, W)``, with the objectness in them, and deltas ``(B, A * 4, H, W)``."""
        logits = widened(self.cls_score(self.cls_subnet(x))).unflatten(1, (-1, self.num_classes))
        reg_feat = self.bbox_subnet(x)
        objects = widened(self.object_pred(reg_feat))[:, :, None]
        # The logit of the product of both probabilities.
        both = 1 + logits.exp().clamp(max=INF) + objects.exp().clamp(max=INF)
        return (logits + objects - both.log()).flatten(1, 2), self.bbox_pred(reg_feat)

    def loss_by_feat(
        self, cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        own = not hasattr(self.get_anchors, 'by_batch')
        priors = (joints.own_priors if own else AnchorHead._priors)(self, cls_scores, batch_img_metas)
        self._check_shapes(batch_img_metas)
        logits, deltas = flatten_outputs((cls_scores, self.cls_out_channels), (bbox_preds, 4))
        gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
        if hasattr(self.get_targets, 'by_batch') and hasattr(self._get_targets_single, 'by_batch'):
            targets = self._pair_targets(deltas, self._inside(priors, batch_img_metas), gt)
            pairs = [targets.extras[name].flatten(0, 1) for name in ('boxes', 'truth', 'weights')]
        else:
            targets, *pairs = family_joints.pair_targets(self, cls_scores, bbox_preds, priors, gt, batch_img_metas)
        total = reduce_mean(targets.avg_factor)
        return dict(
            loss_cls=self._loss(
                self.loss_cls, targets.level_sizes, logits, targets.labels, targets.label_weights, avg_factor=total
            ),
            loss_bbox=self.loss_bbox(*pairs, avg_factor=total),
        )

    def _pair_targets(self, deltas: Tensor, priors: Priors, gt: PaddedGT) -> DenseTargets:
        """Targets of the classes; ``extras`` have predicted ``boxes`` and their ``truth`` ``(B, G * K, 4)``, and
        ``weights (B, G * K)``."""
        anchors = priors.expanded()
        boxes = get_box_tensor(self.bbox_coder.decode(anchors, deltas))
        assignment = self._assign(self.assigner, priors, gt, dict(bboxes=boxes.detach()))
        targets = self._build_targets(priors, assignment, gt)
        pairs, counted = assignment.extras['pairs'], assignment.extras['counted']
        chosen = gather_boxes(boxes, pairs)
        truth = gt.boxes[:, :, None].expand_as(chosen)
        truth = torch.where(counted[..., None], truth, chosen.detach())  # finite, and no loss, where none counts
        values = dict(boxes=chosen, truth=truth, weights=counted.to(boxes.dtype))
        targets.extras.update({name: value.flatten(1, 2) for name, value in values.items()})
        return targets

    @by_batch
    def get_targets(  # type: ignore[override]  # the arguments of 3.x
        self,
        cls_scores_list: list[Tensor],
        bbox_preds_list: list[Tensor],
        anchor_list: list[Tensor],
        valid_flag_list: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
        unmap_outputs: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Targets from anchors ``(P, 4)`` and deltas by image.

        Returns:
            Labels and their weights ``(B, P)``, the number of positives, and of all n pairs whether they count
            ``(n,)``, the predicted boxes and the ground truths ``(n, 4)``.
        """
        ignored = [None] * len(batch_img_metas) if batch_gt_instances_ignore is None else batch_gt_instances_ignore
        images = zip(bbox_preds_list, anchor_list, valid_flag_list, batch_gt_instances, batch_img_metas, ignored)
        singles = [self._get_targets_single(*image) for image in images]
        labels, weights = (torch.stack([single[i] for single in singles]) for i in (0, 1))
        factor = labels.new_tensor(sum(single[4].avg_factor for single in singles)).float()
        return labels, weights, factor, *(torch.cat([single[i] for single in singles]) for i in (5, 6, 7))  # type: ignore[return-value]

    @by_batch
    def _get_targets_single(  # type: ignore[override]  # the arguments of 3.x
        self,
        bbox_preds: Tensor,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        gt_instances: InstanceData,
        img_meta: dict,
        gt_instances_ignore: InstanceData | None = None,
        unmap_outputs: bool = True,
    ) -> tuple:
        """Labels, their weights, positive and negative indices, the sampling result, and of all n pairs whether they
        count ``(n,)``, the predicted boxes and the ground truths ``(n, 4)`` of one image."""
        boxes = get_box_tensor(flat_anchors)
        priors = self._inside(Priors(boxes[None], valid_flags.bool()[None], [len(boxes)]), [img_meta])
        gt = PaddedGT.from_instances([gt_instances], [gt_instances_ignore])
        targets = self._pair_targets(bbox_preds.reshape(1, -1, 4), priors, gt)
        (result,) = joints.sampling_results(targets, priors, gt, Assignment(targets.gt_inds), self.sampler)
        size = targets.extras['weights'].shape[1] // gt.mask.shape[1] * len(gt_instances)
        pairs = (targets.extras[name][0, :size] for name in ('weights', 'boxes', 'truth'))
        return targets.labels[0], targets.label_weights[0], result.pos_inds, result.neg_inds, result, *pairs
