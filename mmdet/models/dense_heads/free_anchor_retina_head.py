"""FreeAnchor (arXiv:1909.02466). Letters: B images, G ground truths, P anchors, K anchors of a bag, C classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import PaddedGT, by_batch, flatten_outputs
from mmdet.models.task_modules.assigners.atss_assigner import gather_boxes
from mmdet.registry import MODELS
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps

from . import family_joints, joints
from .retina_head import RetinaHead

EPS = 1e-12


@MODELS.register_module()
class FreeAnchorRetinaHead(RetinaHead):
    """RetinaNet whose objects learn which anchor of a bag is theirs.

    Args:
        pre_anchor_topk: Anchors of the greatest overlap in the bag of an object.
        bbox_thr: Overlap of a predicted box from which on it may be the object's (Eq. 8, t).
        gamma, alpha: Of the focal loss, Eq. 11.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        conv_cfg=None,
        norm_cfg=None,
        pre_anchor_topk: int = 50,
        bbox_thr: float = 0.6,
        gamma: float = 2.0,
        alpha: float = 0.5,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, in_channels, stacked_convs, conv_cfg, norm_cfg, **kwargs)
        self.pre_anchor_topk, self.bbox_thr, self.gamma, self.alpha = pre_anchor_topk, bbox_thr, gamma, alpha

    def loss_by_feat(
        self, cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        """``positive_bag_loss`` and ``negative_bag_loss``."""
        logits, deltas = flatten_outputs((cls_scores, self.cls_out_channels), (bbox_preds, 4))
        scores, gt = logits.sigmoid(), PaddedGT.from_instances(batch_gt_instances)
        anchors = joints.own_anchors(self, cls_scores, batch_img_metas)
        if hasattr(self.positive_loss_single, 'by_batch'):
            box_prob, positive, count = self._positive_losses(scores, deltas, anchors, gt)
        else:
            box_prob, positive, count = family_joints.bags_of_each_image(self, scores, deltas, anchors, gt)
        positive_loss = positive.sum() / count.clamp(min=1) + deltas.sum() * 0  # a gradient without objects, too
        negative = self.negative_bag_loss(scores, box_prob).sum() / (count * self.pre_anchor_topk).clamp(min=1)
        return dict(positive_bag_loss=positive_loss, negative_bag_loss=negative)

    def _positive_losses(
        self, scores: Tensor, deltas: Tensor, anchors: Tensor, gt: PaddedGT
    ) -> tuple[Tensor, Tensor, Tensor]:
        """How sure a box is an object of each class ``(B, P, C)``, loss of each bag ``(B, G)``, and their number."""
        with torch.no_grad():
            boxes = self.bbox_coder.decode(anchors, deltas)
            box_prob = torch.zeros_like(scores).transpose(1, 2)  # (B, C, P)
            bags = []
            for part in gt.chunks(anchors.shape[1], matrices=4):
                overlap = bbox_overlaps(gt.boxes[:, part], boxes)  # (B, g, P)
                top = overlap.amax(2, keepdim=True).clamp(min=self.bbox_thr + EPS)
                sure = ((overlap - self.bbox_thr) / (top - self.bbox_thr)).clamp(0, 1) * gt.mask[:, part, None]
                row = gt.labels[:, part, None].expand_as(sure)
                box_prob = box_prob.scatter_reduce(1, row, sure.to(box_prob.dtype), 'amax')
                # Not by index: an object with fewer anchors has others in its bag, published losses depend on which.
                bags.append(bbox_overlaps(gt.boxes[:, part], anchors).topk(self.pre_anchor_topk, -1, sorted=False)[1])
            bag = torch.cat(bags, 1)  # (B, G, K)
        column = bag * scores.shape[2] + gt.labels[..., None]
        bag_scores = scores.flatten(1).gather(1, column.flatten(1)).view(bag.shape)
        own, truth = gather_boxes(anchors, bag), gt.boxes[:, :, None]
        truth = torch.where(gt.mask[..., None, None], truth.expand_as(own), own)  # finite where there is no object
        target = self.bbox_coder.encode(own, truth)
        loss_bbox = self.loss_bbox(gather_boxes(deltas, bag), target, reduction_override='none').sum(-1)
        losses = self.positive_bag_loss(bag_scores.flatten(0, 1), (-loss_bbox).exp().flatten(0, 1)).view(gt.mask.shape)
        return box_prob.transpose(1, 2), torch.where(gt.mask, losses, 0.0), gt.mask.sum()

    @by_batch
    def positive_loss_single(
        self, cls_prob: Tensor, bbox_pred: Tensor, flat_anchors: Tensor, gt_instances: InstanceData
    ) -> tuple[Tensor, Tensor, int]:
        """The values of one image: ``(P, C)``, ``(n,)`` and n."""
        image = cls_prob[None], bbox_pred[None], flat_anchors[None]
        box_prob, losses, _ = self._positive_losses(*image, PaddedGT.from_instances([gt_instances]))
        return box_prob[0], losses[0, : len(gt_instances)], len(gt_instances)

    def positive_bag_loss(self, matched_cls_prob: Tensor, matched_box_prob: Tensor) -> Tensor:
        """Losses ``(n,)`` of bags whose anchors have these probabilities ``(n, K)``: mean-max, Eq. 7."""
        prob = matched_cls_prob * matched_box_prob
        weight = 1 / (1 - prob).clamp(min=EPS)
        bag = (weight / weight.sum(1, keepdim=True) * prob).sum(1)
        return self.alpha * F.binary_cross_entropy(bag, torch.ones_like(bag), reduction='none')

    def negative_bag_loss(self, cls_prob: Tensor, box_prob: Tensor) -> Tensor:
        """Losses ``(B, P, C)`` of class scores, the less the surer the box is an object (Eq. 11)."""
        prob = (cls_prob * (1 - box_prob)).clamp(EPS, 1 - EPS)
        negative = prob**self.gamma * F.binary_cross_entropy(prob, torch.zeros_like(prob), reduction='none')
        return (1 - self.alpha) * negative
