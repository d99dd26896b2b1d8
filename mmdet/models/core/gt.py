"""Ground truth of a batch as padded tensors, and the targets that priors get of it.

Letters: B images, G ground truths of the image that has most, P priors of all levels, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from mmengine.dist import all_reduce
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.structures.bbox import BaseBoxes, bbox_xyxy_to_cxcywh

from .pyramid import per_level

if TYPE_CHECKING:
    from .assignment import Assignment

# Floats in one (B, G, P) matrix before a rule works through the ground truths in parts: 256 MiB in float32. On the CPU
# 16 MiB: blocks that its allocator hands out again are twice as fast as fresh pages.
MATRIX_BUDGET = 64 * 1024**2
CPU_MATRIX_BUDGET = 4 * 1024**2


@dataclass
class PaddedGT:
    """
    Attributes:
        boxes: ``(B, G, 4)`` xyxy in pixels of the network input, zeros where padded. G is at least 1, so that no rule
            needs a case of its own for a batch without objects.
        labels: ``(B, G)`` class indices.
        mask: ``(B, G)`` bool, False where padded.
        counts: Objects of each image, known on the host.
        ignored: ``(B, I, 4)`` regions that are neither object nor background, or None if no image has one.
        ignored_mask: ``(B, I)``.
        instances, ignored_instances: What they were padded from, for code that works image by image.
    """

    boxes: Tensor
    labels: Tensor
    mask: Tensor
    counts: list[int]
    ignored: Tensor | None = None
    ignored_mask: Tensor | None = None
    instances: Sequence[InstanceData] = ()
    ignored_instances: Sequence[InstanceData | None] = ()

    @classmethod
    def from_instances(
        cls, instances: Sequence[InstanceData], ignored: Sequence[InstanceData] | None = None
    ) -> PaddedGT:
        """Pad ``bboxes`` and ``labels``; lengths are host integers, so nothing waits for the device."""
        boxes = [box_rows(instance.bboxes) for instance in instances]
        padded, mask = _pad(boxes)
        labels = pad_batch([instance.labels.long() for instance in instances])
        regions = region_mask = None
        if ignored is not None and any(item is not None and len(item) for item in ignored):
            regions, region_mask = _pad(
                [
                    boxes[i].new_zeros(0, boxes[i].shape[-1]) if item is None else box_rows(item.bboxes)
                    for i, item in enumerate(ignored)
                ]
            )
        counts = [len(b) for b in boxes]
        return cls(padded, labels, mask, counts, regions, region_mask, instances, ignored or [None] * len(counts))

    def gather(self, gt_inds: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes ``(B, P, 4)`` and labels ``(B, P)`` of 1-based ``gt_inds``; row 0 stands in where there is none."""
        index = (gt_inds - 1).clamp(min=0)
        return self.boxes.gather(1, index[..., None].expand(-1, -1, self.boxes.shape[-1])), self.labels.gather(1, index)

    def chunks(self, num_priors: int, matrices: int = 1) -> list[slice]:
        """Slices of the G axis whose ``matrices`` matrices ``(B, g, P)`` stay within the budget."""
        batch, total = self.mask.shape
        budget = CPU_MATRIX_BUDGET if self.mask.device.type == 'cpu' else MATRIX_BUDGET
        step = max(1, budget // max(1, batch * num_priors * matrices))
        return [slice(start, start + step) for start in range(0, total, step)]

    def take(self, part: slice) -> PaddedGT:
        """The ground truths of one slice of the G axis."""
        return PaddedGT(self.boxes[:, part], self.labels[:, part], self.mask[:, part], self.counts)

    def images(self, part: slice) -> PaddedGT:
        """Those of some images."""
        fields: dict[str, Any] = {n: None if value is None else value[part] for n, value in vars(self).items()}
        return PaddedGT(**fields)

    def normalized(self, sizes: Tensor) -> PaddedGT:
        """With boxes as cx, cy, w, h in parts of the images; ``sizes (B, 4)`` are width, height, width, height."""
        return replace(self, boxes=bbox_xyxy_to_cxcywh(self.boxes / sizes[:, None].to(self.boxes)))

    def repeated(self, layers: int) -> PaddedGT:
        """The B images once for each decoder layer, ``(layers * B, G, ...)``, the layers outside."""
        again = lambda value: None if value is None else value.repeat(layers, *[1] * (value.dim() - 1))
        tensors, lists = (
            ('boxes', 'labels', 'mask', 'ignored', 'ignored_mask'),
            ('counts', 'instances', 'ignored_instances'),
        )
        fields: dict[str, Any] = {name: again(getattr(self, name)) for name in tensors}
        fields.update({name: list(getattr(self, name)) * layers for name in lists})
        return PaddedGT(**fields)

    def of_one_class(self) -> PaddedGT:
        """All objects with label 0, for what tells objects from background."""
        instances = [InstanceData(**{**dict(x.items()), 'labels': torch.zeros_like(x.labels)}) for x in self.instances]
        return replace(self, labels=torch.zeros_like(self.labels), instances=instances)


class BestMatch:
    """The ground truth of the highest score for each prior, over parts of the G axis; the first of equals wins.

    Args:
        like: ``(B, P)`` any tensor of the shape and device of the result.
        start: Score below which nothing matches.
    """

    def __init__(self, like: Tensor, start: float) -> None:
        self.score = torch.full(like.shape, start, dtype=torch.float32, device=like.device)
        self.index = torch.zeros(like.shape, dtype=torch.int32, device=like.device)

    def update(self, scores: Tensor, part: slice) -> None:
        """``scores (B, g, P)`` of the ground truths in ``part``."""
        if scores.device.type == 'cpu':  # one by one, which is several times as fast there as max with indices
            for place, row in enumerate(scores.unbind(1), part.start or 0):
                self.index.masked_fill_(row > self.score, place)
                torch.maximum(self.score, row, out=self.score)
            return
        best, arg = scores.max(1)
        better = best > self.score
        self.score = torch.where(better, best, self.score)
        self.index = torch.where(better, arg.int() + (part.start or 0), self.index)

    @property
    def gt_inds(self) -> Tensor:
        """1-based index of the best ground truth."""
        return self.index.long() + 1


def unpack_gt_instances(batch_data_samples: Sequence) -> tuple[list, list, list[dict]]:
    """Ground truths, ignored regions (None where a sample has none) and meta information of each image."""
    gt_instances = [sample.gt_instances for sample in batch_data_samples]
    ignored = [getattr(sample, 'ignored_instances', None) for sample in batch_data_samples]
    return gt_instances, ignored, [sample.metainfo for sample in batch_data_samples]


def box_rows(boxes: Tensor | BaseBoxes, size: int = 4) -> Tensor:
    """Boxes as ``(n, size)``; no boxes may come in any shape, such as ``(0,)``."""
    boxes = boxes.tensor if isinstance(boxes, BaseBoxes) else boxes
    return boxes if boxes.numel() or boxes.dim() == 2 else boxes.new_zeros(0, size)


def _pad(boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
    padded, counts = pad_batch(boxes), torch.tensor([len(box) for box in boxes])
    mask = torch.arange(padded.shape[1]) < counts[:, None]
    return padded, mask.to(padded.device, non_blocking=True)


def pad_batch(items: Sequence[Tensor]) -> Tensor:
    """Tensors ``(n_i, ...)`` of any kind padded with zeros to ``(B, max(n_i, 1), ...)``."""
    return pad_rows(torch.cat(list(items)), [len(item) for item in items])


def pad_rows(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """Rows ``(N, ...)`` of B images, ``counts`` of each, padded with zeros to ``(B, max(n_i, 1), ...)``.

    A few steps however many images there are: a GPU waits for the host that has to launch one for each.
    """
    longest = max(1, *counts)
    if min(counts) == longest:
        return rows.unflatten(0, (-1, longest))
    places = [image * longest + place for image, count in enumerate(counts) for place in range(count)]
    index = torch.tensor(places, dtype=torch.long).to(rows.device, non_blocking=True)
    padded = rows.new_zeros(len(counts) * longest, *rows.shape[1:]).index_copy(0, index, rows)
    return padded.unflatten(0, (-1, longest))


@dataclass
class DenseTargets:
    """Targets of every prior.

    Attributes:
        labels: ``(B, P)`` class, C for background.
        label_weights: ``(B, P)``, 0 where the prior is ignored.
        bbox_targets: ``(B, P, 4)`` encoded deltas or, with ``reg_decoded_bbox``, xyxy boxes; finite everywhere.
        bbox_weights: ``(B, P, 4)``, 1 at positives.
        pos: ``(B, P)`` bool.
        avg_factor: 0-d tensor that the losses are divided by.
        gt_inds: ``(B, P)`` as in :class:`Assignment`, before sampling.
        anchors: ``(B, P, 4)``, where research code chose them together with the targets.
        extras: Further targets of a head, each ``(B, P, ...)``.
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
        priors: Tensor | None = None,
        coder: Any = None,
        count_negatives: bool = False,
        level_sizes: Sequence[int] = (),
    ) -> DenseTargets:
        """Turn an assignment into targets.

        Args:
            pos: ``(B, P)`` positives that a sampler kept; all of the assignment's by default. So for ``neg``.
            pos_weight: Weight of positives in the classification loss; 1 where it is not above 0.
            priors: ``(1 or B, P, 4)`` from which ``coder`` encodes the matched boxes; None to keep the boxes.
            count_negatives: Whether samples of both kinds count in ``avg_factor``, as where a sampler keeps few.
        """
        pos = assignment.gt_inds > 0 if pos is None else pos
        neg = assignment.gt_inds == 0 if neg is None else neg
        boxes, labels = gt.gather(assignment.gt_inds)
        weights = (pos | neg).to(boxes.dtype)
        if pos_weight > 0:
            weights = torch.where(pos, pos_weight, weights)
        inside = pos[..., None]
        bbox_targets = boxes
        if priors is not None:
            priors = priors.expand_as(boxes)
            bbox_targets = coder.encode(priors, torch.where(inside, boxes, priors))  # finite off the positives
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

    def repeated(self, layers: int) -> DenseTargets:
        """The same for each decoder layer, ``(layers * B, P, ...)``, the layers outside."""
        names = 'labels', 'label_weights', 'bbox_targets', 'bbox_weights', 'pos', 'gt_inds'
        values = {name: getattr(self, name) for name in names}
        again = {n: value.repeat(layers, *[1] * (value.dim() - 1)) for n, value in values.items() if value is not None}
        return replace(self, **again)

    def groups(self, num_gt: int) -> Tensor:
        """``(B, P)`` ground truth times L plus level of each positive, ``num_gt`` times L elsewhere."""
        assert self.gt_inds is not None, 'only targets made by build() know their ground truth'
        count = len(self.level_sizes)
        level = per_level(range(count), self.level_sizes, self.bbox_weights).long()
        return torch.where(self.pos, (self.gt_inds - 1) * count + level, num_gt * count)


def mean_count(count: Tensor, minimum: float = 1) -> Tensor:
    """A count averaged over the processes, at least ``minimum``: the normaliser of point heads. It has no gradient."""
    count = count.detach().float().clone()
    all_reduce(count, 'mean')
    return count.clamp(min=minimum)


def count_per_image(mask: Tensor) -> Tensor:
    """Sum over the images of the marked priors of each, at least 1 an image: the normaliser of anchor heads."""
    return mask.sum(1).clamp(min=1).sum().float()
