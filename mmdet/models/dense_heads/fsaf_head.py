"""Feature selective anchor-free head (FSAF, arXiv:1903.00621).

Letters: B images, G padded ground truths, P anchors of all levels, L levels, C classes.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from mmdet.models.core import Assignment, DenseTargets, PaddedGT, Priors, flatten_levels, split_levels
from mmdet.models.losses.accuracy import accuracy
from mmdet.registry import MODELS
from mmdet.utils import ConfigType

from .retina_head import RetinaHead


@MODELS.register_module()
class FSAFHead(RetinaHead):
    """RetinaNet's towers; each ground truth is trained on the one level where its loss is least (Sec. 3.2).

    Both losses need ``reduction='none'``.

    Args:
        score_threshold: Score above which a positive counts as found in ``pos_recall``.
    """

    matches_in_targets = True

    def __init__(self, *args, score_threshold: float | None = None, init_cfg=None, **kwargs) -> None:
        if init_cfg is None:
            # The bias keeps predicted boxes from having no area at the start.
            override = [
                dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.01),
                dict(type='Normal', name='retina_reg', std=0.01, bias=0.25),
            ]
            init_cfg = dict(type='Normal', layer='Conv2d', std=0.01, override=override)
        super().__init__(*args, init_cfg=init_cfg, **kwargs)  # type: ignore[misc]  # never given by position
        self.score_threshold = score_threshold

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cls_score, bbox_pred = super().forward_single(x)
        return cls_score, self.relu(bbox_pred)

    def _build_targets(
        self, priors: Priors, assignment: Assignment, gt: PaddedGT, train_cfg: ConfigType | None = None
    ) -> DenseTargets:
        """With ``extras['class_weights'] (B, P, C)``, 0 for the class of a box in whose shadow the anchor lies."""
        targets = super()._build_targets(priors, assignment, gt, train_cfg)
        shadowed = assignment.extras.get('shadowed')
        if shadowed is not None:
            label = gt.labels[..., None].expand(shadowed.shape)
            hits = targets.label_weights.new_zeros(len(label), self.cls_out_channels, label.shape[-1])
            hits = hits.scatter_add(1, label, shadowed.to(hits.dtype))
            weights = targets.label_weights[..., None].repeat(1, 1, self.cls_out_channels)
            targets.extras['class_weights'] = weights.masked_fill(hits.transpose(1, 2) > 0, 0)
        return targets

    def loss_by_feat(
        self, cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        class_weights = targets.extras.get('class_weights', targets.label_weights)
        if class_weights.dim() == 2:
            class_weights = class_weights[..., None].expand(-1, -1, self.cls_out_channels)
        bbox_preds = [level.clamp(min=1e-4) for level in bbox_preds]  # boxes need an area
        outputs = (cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim)
        weighted = dataclasses.replace(targets, label_weights=class_weights)
        losses = self._each_loss(outputs, anchors, weighted, targets.avg_factor)
        batch = len(batch_img_metas)
        loss_cls, loss_bbox = (
            torch.cat([level.reshape(batch, len(level) // batch, -1) for level in levels], 1) for levels in losses
        )  # (B, P, C) and (B, P, 1 or 4)
        with torch.no_grad():
            num_gt = max(1, *map(len, batch_gt_instances))
            chosen = self.select_levels(loss_cls.sum(-1) + loss_bbox.sum(-1), targets, num_gt)
            dropped = targets.pos & ~chosen
            label = targets.labels.clamp(max=self.num_classes - 1)[..., None]
            keep = torch.ones_like(loss_cls).scatter(-1, label, (~dropped)[..., None].to(loss_cls.dtype))
            num_pos = chosen.sum().float()
            num_neg = ((class_weights > 0).any(-1) & ~targets.pos).sum().float()
            recall = accuracy(
                self._activate(flatten_levels(cls_scores, self.cls_out_channels)).flatten(0, 1),
                targets.labels.flatten(),
                1,
                self.score_threshold,
                chosen.flatten(),
            )
        avg_factor = torch.where(num_pos > 0, num_pos, num_neg)
        loss_cls, loss_bbox = (loss_cls * keep).sum(-1), loss_bbox.sum(-1) * ~dropped
        by_level = lambda loss: [level.sum() / avg_factor for level in split_levels(loss, targets.level_sizes)]
        return dict(
            loss_cls=by_level(loss_cls),
            loss_bbox=by_level(loss_bbox),
            num_pos=num_pos / len(batch_img_metas),
            pos_recall=recall,
        )

    def calculate_pos_recall(
        self, cls_scores: list[Tensor], labels_list: list[Tensor], pos_inds: list[Tensor]
    ) -> Tensor:
        """Percentage of positives whose class scores best and above ``score_threshold``.

        Args:
            cls_scores: ``(B, A * C, H, W)`` logits of each level.
            labels_list, pos_inds: ``(B * P_level,)`` classes and which are positive, of each level.
        """
        logits = torch.cat([flatten_levels([level], self.cls_out_channels).flatten(0, 1) for level in cls_scores])
        labels, pos = torch.cat(labels_list), torch.cat(pos_inds).bool()
        # One tensor for one k.
        return accuracy(self._activate(logits), labels, 1, self.score_threshold, pos)  # type: ignore[return-value]

    def collect_loss_level_single(
        self, cls_loss: Tensor, reg_loss: Tensor, assigned_gt_inds: Tensor, labels_seq: Tensor
    ) -> tuple[Tensor]:
        """The mean loss ``(n,)`` on one level of each ground truth in ``labels_seq (n,)``, 1e6 where it has no prior.

        Args:
            cls_loss, reg_loss: ``(P,)`` or, summed over their last axis, ``(P, k)``.
            assigned_gt_inds: ``(P,)``, numbered as ``labels_seq``.
        """
        loss = sum(x.sum(-1) if x.dim() == 2 else x for x in (cls_loss, reg_loss))
        match = assigned_gt_inds == labels_seq[:, None]  # (n, P)
        mean = torch.where(match, loss, 0.0).sum(1) / match.sum(1).clamp(min=1)
        return (torch.where(match.any(1), mean, 1e6),)

    def reweight_loss_single(
        self,
        cls_loss: Tensor,
        reg_loss: Tensor,
        assigned_gt_inds: Tensor,
        labels: Tensor,
        level: int,
        min_levels: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both losses of one level, summed over what is trained there, and which of its priors stay positive.

        Args:
            cls_loss: ``(P, C)``.
            reg_loss: ``(P,)`` or ``(P, 4)``.
            assigned_gt_inds: ``(P,)``, -1 where there is none.
            min_levels: Level of the least loss of each ground truth.
        """
        pos = assigned_gt_inds >= 0
        chosen = pos.clone()
        if len(min_levels):
            chosen = pos & (min_levels[assigned_gt_inds.clamp(min=0)] == level)
        dropped = pos & ~chosen
        label = labels.clamp(0, cls_loss.shape[1] - 1)[:, None]
        cls_loss = cls_loss * torch.ones_like(cls_loss).scatter(1, label, (~dropped)[:, None].to(cls_loss.dtype))
        reg_loss = reg_loss * (~dropped).reshape(-1, *[1] * (reg_loss.dim() - 1))
        return cls_loss.sum(), reg_loss.sum(), chosen

    def select_levels(self, loss: Tensor, targets: DenseTargets, num_gt: int) -> Tensor:
        """``(B, P)`` bool: positives on the level where the mean loss of their ground truth is least.

        Args:
            loss: ``(B, P)``.
            num_gt: G, the most ground truths of an image.
        """
        group, num_levels = targets.groups(num_gt), len(targets.level_sizes)
        total = loss.new_zeros(len(loss), num_gt * num_levels + 1)
        count = total.scatter_add(1, group, torch.ones_like(loss))
        mean = total.scatter_add(1, group, loss) / count.clamp(min=1)
        mean = mean.masked_fill(count == 0, 1e6)[:, :-1].unflatten(1, (num_gt, -1))  # (B, G, L)
        best = mean.argmin(-1).gather(1, (targets.gt_inds - 1).clamp(min=0))
        return targets.pos & (best == group % num_levels)
