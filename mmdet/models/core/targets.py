"""Labels, weights and boxes that a dense head is trained towards.

Letters: B images, P priors of all levels, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmdet.utils import reduce_mean

from .assignment import Assignment
from .gt import PaddedGT
from .pyramid import per_level, split_levels


@dataclass
class DenseTargets:
    """Targets of every prior. Unpacks as the tuple of lists by level that ``get_targets`` of MMDetection returns.

    Attributes:
        labels: ``(B, P)`` class, C for background.
        label_weights: ``(B, P)``, 0 where the prior is ignored.
        bbox_targets: ``(B, P, 4)`` encoded deltas or, with ``reg_decoded_bbox``, xyxy boxes; finite everywhere.
        bbox_weights: ``(B, P, 4)``, 1 at positives.
        pos: ``(B, P)`` bool.
        avg_factor: 0-d tensor that the losses are divided by.
        gt_inds: ``(B, P)`` as in :class:`Assignment`, before sampling.
        anchors: ``(B, P, 4)``, set by heads whose ``get_targets`` returns the anchors first.
    """

    labels: Tensor
    label_weights: Tensor
    bbox_targets: Tensor
    bbox_weights: Tensor
    pos: Tensor
    avg_factor: Tensor
    level_sizes: list[int] = field(default_factory=list)
    gt_inds: Tensor | None = None
    anchors: Tensor | None = None
    extras: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        assignment: Assignment,
        gt: PaddedGT,
        num_classes: int,
        *,
        pos: Tensor | None = None,
        neg: Tensor | None = None,
        pos_weight: float = -1,
        encode: Callable[[Tensor], Tensor] | None = None,
        count_negatives: bool = False,
        level_sizes: Sequence[int] = (),
    ) -> DenseTargets:
        """Turn an assignment into targets.

        Args:
            pos: ``(B, P)`` positives that a sampler kept; all of the assignment's by default. So for ``neg``.
            pos_weight: Weight of positives in the classification loss; 1 where it is not above 0.
            encode: Maps matched boxes ``(B, P, 4)``, finite at every prior, to regression targets.
            count_negatives: Whether samples of both kinds count in ``avg_factor``, as where a sampler keeps few.
        """
        pos = assignment.pos if pos is None else pos
        neg = assignment.neg if neg is None else neg
        boxes, labels = gt.gather(assignment.gt_inds)
        weights = (pos | neg).to(boxes.dtype)
        if pos_weight > 0:
            weights = torch.where(pos, pos_weight, weights)
        bbox_targets = boxes if encode is None else encode(boxes)
        inside = pos[..., None]
        return cls(
            labels=torch.where(pos, labels, num_classes),
            label_weights=weights,
            bbox_targets=torch.where(inside, bbox_targets, 0.0),
            bbox_weights=inside.to(boxes.dtype).expand(-1, -1, bbox_targets.shape[-1]),
            pos=pos,
            avg_factor=count_per_image(pos) + count_per_image(neg) if count_negatives else count_per_image(pos),
            level_sizes=list(level_sizes),
            gt_inds=assignment.gt_inds,
        )

    def groups(self, num_gt: int) -> Tensor:
        """``(B, P)`` ground truth times L plus level of each positive, ``num_gt`` times L elsewhere."""
        assert self.gt_inds is not None, 'only targets made by build() know their ground truth'
        count = len(self.level_sizes)
        level = per_level(range(count), self.level_sizes, self.bbox_weights).long()
        return torch.where(self.pos, (self.gt_inds - 1) * count + level, num_gt * count)

    def by_level(self, name: str) -> list[Tensor]:
        return split_levels(getattr(self, name), self.level_sizes)

    def __iter__(self) -> Iterator[Any]:
        if self.anchors is not None:
            yield self.by_level('anchors')
        for name in ('labels', 'label_weights', 'bbox_targets', 'bbox_weights'):
            yield self.by_level(name)
        yield self.avg_factor

    @classmethod
    def coerce(cls, value: Any) -> DenseTargets:
        """``value`` itself, or the plain tuple of lists by level of an overridden ``get_targets``."""
        if isinstance(value, cls):
            return value
        value = list(value)
        anchors = torch.cat(list(value.pop(0)), 1) if value[1][0].dim() == value[0][0].dim() - 1 else None
        labels, label_weights, bbox_targets, bbox_weights, avg_factor, *extras = value
        sizes = [level.shape[1] for level in labels]
        labels, label_weights, bbox_targets, bbox_weights = (
            torch.cat(list(levels), 1) for levels in (labels, label_weights, bbox_targets, bbox_weights)
        )
        return cls(
            labels,
            label_weights,
            bbox_targets,
            bbox_weights,
            pos=(bbox_weights > 0).any(-1),
            avg_factor=torch.as_tensor(avg_factor, dtype=bbox_weights.dtype, device=labels.device),
            level_sizes=sizes,
            anchors=anchors,
            extras=dict(sampling_results=extras[0]) if extras else {},
        )


def mean_count(count: Tensor, minimum: float = 1) -> Tensor:
    """A count averaged over the processes, at least ``minimum``: the normaliser of point heads."""
    return reduce_mean(count.float()).clamp(min=minimum)


def count_per_image(mask: Tensor) -> Tensor:
    """Sum over the images of the marked priors of each, at least 1 an image: the normaliser of anchor heads."""
    return mask.sum(1).clamp(min=1).sum().float()


@dataclass
class PointTargets:
    """Targets of points. Unpacks as the two lists by level, images joined, that point heads of MMDetection return.

    Attributes:
        labels: ``(B, P)`` class, C for background.
        bbox_targets: ``(B, P, 4)``, finite everywhere, meaningful at positives.
    """

    labels: Tensor
    bbox_targets: Tensor
    level_sizes: list[int]

    def __iter__(self) -> Iterator[list[Tensor]]:
        for value in (self.labels, self.bbox_targets):
            yield [level.flatten(0, 1) for level in split_levels(value, self.level_sizes)]

    @classmethod
    def coerce(cls, value: Any, batch: int) -> PointTargets:
        """``value`` itself, or the plain tuple of an overridden ``get_targets`` for ``batch`` images."""
        if isinstance(value, cls):
            return value
        labels, boxes = ([level.unflatten(0, (batch, -1)) for level in levels] for levels in value)
        return cls(torch.cat(labels, 1), torch.cat(boxes, 1), [level.shape[1] for level in labels])
