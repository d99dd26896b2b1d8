"""AutoAssign (arXiv:2007.03496). Letters: B images, G padded ground truths, P points of all levels, C classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn import Scale
from mmengine.model import bias_init_with_prob, normal_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.models.core import PaddedGT, by_batch, flatten_levels, mean_count, per_level, split_levels, stable_topk
from mmdet.models.task_modules.prior_generators import MlvlPointGenerator
from mmdet.registry import MODELS
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps

from .fcos_head import FCOSHead

EPS = 1e-12


class CenterPrior(nn.Module):
    """Weight of a point by its way from the centre of a box: a Gaussian that each class learns (Eq. 7).

    Args:
        force_topk: Whether a box without a point inside takes the ``topk`` points of the greatest weight.
    """

    def __init__(
        self, force_topk: bool = False, topk: int = 9, num_classes: int = 80, strides=(8, 16, 32, 64, 128)
    ) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(num_classes, 2))
        self.sigma = nn.Parameter(torch.ones(num_classes, 2))
        self.strides, self.force_topk, self.topk = strides, force_topk, topk

    def forward(
        self, anchor_points_list: list[Tensor], gt_instances: InstanceData, inside_gt_bbox_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both of :meth:`weigh` for the n ground truths of one image, ``(P, n)``."""
        gt, count = PaddedGT.from_instances([gt_instances]), len(gt_instances)
        if not count:
            return inside_gt_bbox_mask.to(self.mean.dtype), inside_gt_bbox_mask
        weight, inside = self.weigh(anchor_points_list, gt, inside_gt_bbox_mask.T[None])
        return weight[0].T, inside[0].T

    def weigh(self, points: list[Tensor], gt: PaddedGT, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``(B, G, P)``, and which points count for a box ``(B, G, P)``.

        Args:
            points: ``[(P_level, 2)]`` by level.
            inside: ``(B, G, P)`` which points lie inside.
        """
        flat = torch.cat(points)
        stride = per_level(self.strides, [len(level) for level in points], flat)
        factors = []
        for axis in (0, 1):
            center = (gt.boxes[..., axis] + gt.boxes[..., axis + 2])[..., None] / 2
            shift = self.mean[gt.labels, axis][..., None]
            sigma = self.sigma[gt.labels, axis][..., None]
            distance = ((flat[:, axis] - center) / stride - shift) ** 2
            factors.append(torch.exp(-distance / (2 * sigma**2)))
        weight = factors[0] * factors[1]
        if self.force_topk:
            nearest = stable_topk(weight, self.topk)[1]
            forced = torch.zeros_like(inside).scatter(-1, nearest, True)
            inside = inside | (forced & ~inside.any(-1, keepdim=True) & gt.mask[..., None])
        return torch.where(inside, weight, 0.0), inside


@MODELS.register_module()
class AutoAssignHead(FCOSHead):
    """FCOS whose points are weighed by their own confidence, and by a learned distance to the centre of the box.

    Args:
        force_topk, topk: See :class:`CenterPrior`.
        pos_loss_weight, neg_loss_weight, center_loss_weight: Weights of the three losses.
    """

    def __init__(
        self,
        *args,
        force_topk: bool = False,
        topk: int = 9,
        pos_loss_weight: float = 0.25,
        neg_loss_weight: float = 0.75,
        center_loss_weight: float = 0.75,
        **kwargs,
    ) -> None:
        super().__init__(*args, conv_bias=True, **kwargs)
        self.center_prior = CenterPrior(force_topk, topk, self.num_classes, self.strides)
        self.pos_loss_weight, self.neg_loss_weight = pos_loss_weight, neg_loss_weight
        self.center_loss_weight = center_loss_weight
        self.prior_generator = MlvlPointGenerator(self.strides, offset=0)

    def init_weights(self) -> None:
        super().init_weights()
        normal_init(self.conv_cls, std=0.01, bias=bias_init_with_prob(0.02))
        normal_init(self.conv_reg, std=0.01, bias=4.0)

    # Each level has a scale and a stride, as in 3.x.
    def forward_single(  # type: ignore[override]
        self, x: Tensor, scale: Scale, stride: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits, distances in pixels, and logits of the objectness."""
        reg_feat = self.reg_convs(x)
        bbox_pred = scale(self.conv_reg(reg_feat)).float().clamp(min=0) * stride
        return self.conv_cls(self.cls_convs(x)), bbox_pred, self.conv_centerness(reg_feat)

    def loss_by_feat(
        self, cls_scores, bbox_preds, objectnesses, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        priors = self._priors(bbox_preds)
        points, gt = priors.boxes[0], PaddedGT.from_instances(batch_gt_instances)
        levels = split_levels(points, priors.level_sizes, 0)
        inside, distances = self.get_targets(levels, batch_gt_instances)
        weight, inside = self.center_prior.weigh(levels, gt, inside)

        pred = flatten_levels(bbox_preds, 4)
        boxes, targets = self.bbox_coder.decode(points, pred), self.bbox_coder.decode(points, distances)
        pairs = boxes[:, None].expand_as(targets)  # (B, G, P, 4)
        with torch.no_grad():
            overlap = bbox_overlaps(pairs, targets, is_aligned=True).masked_fill(~gt.mask[..., None], 0).amax(1)
        loss_bbox = self.loss_bbox(pairs.reshape(-1, 4), targets.reshape(-1, 4), reduction_override='none')
        confidence = (
            flatten_levels(cls_scores, self.cls_out_channels).float().sigmoid()
            * flatten_levels(objectnesses, 1).float().sigmoid()
        )  # (B, P, C)

        loss_pos = self._pos_loss(confidence, loss_bbox.view_as(weight), gt, weight)
        loss_neg = self._neg_loss(confidence, gt, overlap, inside)
        total = weight.sum((1, 2))
        loss_center = torch.where(inside.any(-1).any(-1), gt.mask.sum(1) / total.clamp(min=EPS), total * 0)
        return dict(
            loss_pos=loss_pos / mean_count(gt.mask.sum()),
            loss_neg=loss_neg / mean_count(total.detach().sum()),
            loss_center=loss_center.mean() * self.center_loss_weight,
        )

    def get_targets(self, points: list[Tensor], batch_gt_instances) -> tuple[Tensor, Tensor]:
        """Which points lie inside a box ``(B, G, P)``, and their distances to its sides ``(B, G, P, 4)``."""
        flat, gt = torch.cat(points), PaddedGT.from_instances(batch_gt_instances)
        if hasattr(self._get_targets_single, 'by_batch'):
            return self._distances(flat, gt)
        inside = gt.mask[..., None].repeat(1, 1, len(flat))
        distances = flat.new_zeros(*inside.shape, 4)
        for b, instances in enumerate(batch_gt_instances):
            one_inside, one_distances = self._get_targets_single(instances, flat)
            inside[b, : len(instances)], distances[b, : len(instances)] = one_inside.T, one_distances.transpose(0, 1)
        return inside, distances

    @by_batch
    def _get_targets_single(self, gt_instances, points: Tensor) -> tuple[Tensor, Tensor]:
        """``(P, n)`` and ``(P, n, 4)`` of the n ground truths of one image: the batched path with B = 1."""
        inside, distances = self._distances(points, PaddedGT.from_instances([gt_instances]))
        count = len(gt_instances)
        return inside[0, :count].T, distances[0, :count].transpose(0, 1)

    def _distances(self, points: Tensor, gt: PaddedGT) -> tuple[Tensor, Tensor]:
        distances = self.bbox_coder.encode(points, gt.boxes[:, :, None])
        return (distances.amin(-1) > 0) & gt.mask[..., None], distances

    def get_pos_loss_single(
        self,
        cls_score: Tensor,
        objectness: Tensor,
        reg_loss: Tensor,
        gt_instances: InstanceData,
        center_prior_weights: Tensor,
    ) -> tuple[Tensor]:
        """The loss of the positives of one image.

        Args:
            cls_score, objectness: ``(P, C)`` and ``(P, 1)`` probabilities.
            reg_loss, center_prior_weights: ``(P, n)``.
        """
        if not len(gt_instances):
            return (reg_loss.sum() * 0,)
        gt, confidence = PaddedGT.from_instances([gt_instances]), (cls_score * objectness)[None]
        return (self._pos_loss(confidence, reg_loss.T[None], gt, center_prior_weights.T[None]),)

    def get_neg_loss_single(
        self,
        cls_score: Tensor,
        objectness: Tensor,
        gt_instances: InstanceData,
        ious: Tensor,
        inside_gt_bbox_mask: Tensor,
    ) -> tuple[Tensor]:
        """The loss of the negatives of one image.

        Args:
            cls_score, objectness: ``(P, C)`` and ``(P, 1)`` probabilities.
            ious: ``(P,)`` of the predicted box with its best ground truth.
            inside_gt_bbox_mask: ``(P, n)`` which points count for a ground truth.
        """
        gt, inside = PaddedGT.from_instances([gt_instances]), inside_gt_bbox_mask.T[None]
        if not len(gt_instances):
            inside = inside.new_zeros(1, 1, len(cls_score))
        return (self._neg_loss((cls_score * objectness)[None], gt, ious.reshape(1, -1), inside),)

    def _pos_loss(self, confidence: Tensor, loss_bbox: Tensor, gt: PaddedGT, center_weight: Tensor) -> Tensor:
        """Eq. 5 and 6, summed. ``confidence (B, P, C)``, ``loss_bbox`` and ``center_weight (B, G, P)``."""
        labels = gt.labels[..., None].expand_as(loss_bbox)
        score = confidence.transpose(1, 2).gather(1, labels) * torch.exp(-loss_bbox)
        weight = torch.exp(score * 3) * center_weight
        weight = weight / weight.sum(-1, keepdim=True).clamp(min=EPS)
        score = torch.where(gt.mask, (score * weight).sum(-1), 1.0)
        return _entropy(score.clamp(max=1), 1.0).sum() * self.pos_loss_weight

    def _neg_loss(self, confidence: Tensor, gt: PaddedGT, overlap: Tensor, inside: Tensor) -> Tensor:
        """Focal loss of the points off the objects, inside them by how badly they fit (Eq. 9), summed.

        Args:
            overlap: ``(B, P)`` of the predicted box with the best ground truth.
        """
        gain = (1 / (1 - overlap).clamp(min=EPS))[:, None].expand(inside.shape)
        low = gain.masked_fill(~inside, torch.inf).amin(-1, keepdim=True)
        high = gain.masked_fill(~inside, -torch.inf).amax(-1, keepdim=True)
        gain = torch.where(inside, (gain - low + EPS) / (high - low + EPS), 0.0)
        # Of boxes of one class over one point the last counts.
        order = torch.arange(inside.shape[1], device=inside.device)
        same = (gt.labels[:, :, None] == gt.labels[:, None]) & (order[:, None] < order)  # (B, G, G)
        hidden = same.to(gain.dtype) @ inside.to(gain.dtype) > 0
        spread = torch.zeros_like(confidence.transpose(1, 2)).scatter_add(
            1, gt.labels[..., None].expand(inside.shape), gain.masked_fill(hidden, 0)
        )
        score = confidence * (1 - spread.transpose(1, 2))
        return (score**2 * _entropy(score, 0.0)).sum() * self.neg_loss_weight


def _entropy(probability: Tensor, target: float) -> Tensor:
    with torch.autocast(probability.device.type, enabled=False):
        return F.binary_cross_entropy(probability, torch.full_like(probability, target), reduction='none')
