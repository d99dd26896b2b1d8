"""Negatives by the rank of their scores (PISA, arXiv:1904.04821). Letters: B images, P candidates, M groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdet.models.core import Assignment, AssignResult, as_masks, by_batch, draw, rank_within
from mmdet.ops.padded_nms import padded_nms
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor

from .base_sampler import Drawn
from .ohem_sampler import LooksAtOutputs
from .random_sampler import RandomSampler


@dataclass
class Ranking:
    """Score hierarchical local ranks (Sec. 3.2).

    Attributes:
        rank: ``(B, P)``, 0 for the most important of an image, meaningful where ``ranked``.
        ranked: ``(B, P)`` the negatives that score enough for a rank.
        loss: ``(B, P)`` classification losses as background.
    """

    rank: Tensor
    ranked: Tensor
    loss: Tensor


@TASK_UTILS.register_module()
class ScoreHLRSampler(RandomSampler, LooksAtOutputs):
    """Positives at random, the negatives of the first ranks, and a weight for each by its rank (Sec. 3.2 and 4.1).

    Args:
        context: The RoI head whose scores decide; of a cascade, its current stage.
        k, bias: Exponent and least value of the weights, as in Eq. 3.
        score_thr: Negatives that score less have no rank: they fill up at random, with the least weight.
        iou_thr: Boxes that overlap by more are of one group, in which they are ranked first.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        context,
        neg_pos_ub: int = -1,
        add_gt_as_proposals: bool = True,
        k: float = 0.5,
        bias: float = 0,
        score_thr: float = 0.05,
        iou_thr: float = 0.5,
        **kwargs,
    ) -> None:
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals)
        self.context = context
        self.k, self.bias, self.score_thr, self.iou_thr = k, bias, score_thr, iou_thr

    def draw(
        self, assignment: Assignment, boxes: Tensor | None = None, feats: Sequence[Tensor] = (), **kwargs
    ) -> Drawn:
        assert boxes is not None
        if not boxes.shape[1]:
            return super().draw(assignment)
        found = self._ranking(boxes, assignment.neg, feats)
        drawn = super().draw(assignment, ranking=found)
        return *drawn, self._weights(found, as_masks(drawn[2], drawn[3], boxes.shape[1]))

    def neg_keys(self, assignment: Assignment, room: Tensor, ranking: Ranking | None = None, **kwargs) -> Tensor:
        """Ranks first, then anything."""
        assert ranking is not None
        noise = torch.rand(ranking.rank.shape, device=ranking.rank.device)
        return torch.where(ranking.ranked, 1.0 + ranking.rank.shape[1] - ranking.rank, noise)

    @by_batch
    def _sample_neg(  # type: ignore[override]  # with weights
        self,
        assign_result: AssignResult,
        num_expected: int,
        bboxes: Tensor | None = None,
        feats: Sequence[Tensor] | None = None,
        **kwargs,
    ) -> tuple[Tensor, Tensor]:
        """Indices of at most ``num_expected`` negatives of one image, the most important first, and their weights."""
        image = Assignment(assign_result.gt_inds[None])
        if not image.neg.shape[1]:
            return image.gt_inds[0], image.gt_inds.new_zeros(0, dtype=torch.float32)
        found = self._ranking(get_box_tensor(bboxes)[None], image.neg, feats or ())
        room = image.gt_inds.new_tensor([[num_expected]])
        index, valid = draw(image.neg, num_expected, self.neg_keys(image, room, found))
        weights = self._weights(found, as_masks(index, valid, image.neg.shape[1]))
        return index[valid], weights[0, index[valid]]

    @torch.no_grad()
    def _ranking(self, boxes: Tensor, neg: Tensor, feats: Sequence[Tensor]) -> Ranking:
        """Rank the negatives among candidates ``(B, P, 4)``: first within groups that overlap, then all the firsts of
        groups, all the seconds and so on, by their scores."""
        head, (rois, outs) = self._head, self._outputs(boxes, feats)
        logits = outs['cls_score'].float()
        background = torch.full_like(neg, head.num_classes, dtype=torch.long).flatten()
        loss = head.loss_cls(logits, background, reduction_override='none')
        loss = loss.flatten(1).sum(1) if loss.dim() > 1 else loss
        scores, labels = head.activate(logits)[:, :-1].max(-1)
        moved = boxes
        if outs['bbox_pred'] is not None:
            deltas = head._pred_of_label(outs['bbox_pred'].float(), labels)
            moved = get_box_tensor(head.bbox_coder.decode(rois[:, 1:], deltas)).view_as(boxes)
        scores = scores.view_as(neg)
        ranked = neg & (scores > self.score_thr)
        groups = torch.where(ranked, overlapping_groups(moved, scores, ranked, self.iou_thr), neg.shape[1])
        local = rank_within(groups, scores.double(), neg.shape[1] + 1)
        importance = torch.where(ranked, scores.double() - local, -torch.inf)
        rank = importance.argsort(dim=1, descending=True, stable=True).argsort(1)
        return Ranking(rank, ranked, loss.view_as(neg))

    def _weights(self, found: Ranking, drawn: Tensor) -> Tensor:
        """``(B, P)`` weights of the negatives that are ``drawn (B, P)``, which keep the sum of their losses."""
        count, ranked = drawn.sum(1, keepdim=True), found.ranked.sum(1, keepdim=True)
        bound = torch.maximum(count, ranked).clamp(min=1)
        last = torch.minimum(count, ranked).clamp(min=1) - 1  # the rank of the last drawn, if any has a rank
        weight = (bound - torch.where(found.ranked, found.rank, last)) / bound
        weight = (self.bias + (1 - self.bias) * weight).clamp(min=0).pow(self.k)
        weight = torch.where(ranked > 0, weight, 1.0)
        before, after = ((found.loss * part * drawn).sum(1, keepdim=True) for part in (1, weight))
        ratio = torch.where(after > 0, before / after.clamp(min=torch.finfo(after.dtype).tiny), 1.0)
        return weight * ratio


def overlapping_groups(boxes: Tensor, scores: Tensor, valid: Tensor, iou_thr: float) -> Tensor:
    """``(B, P)`` which box of those that greedy suppression keeps, best first, keeps or suppresses each valid one.

    Args:
        boxes: ``(B, P, 4)`` xyxy.
    """
    index, counts = padded_nms(boxes, scores, None, valid, iou_thr)
    kept = boxes.gather(1, index[..., None].expand(-1, -1, 4))  # (B, M, 4)
    real = torch.arange(kept.shape[1], device=boxes.device) < counts[:, None]
    return ((bbox_overlaps(kept, boxes) > iou_thr) & real[..., None]).int().argmax(1)
