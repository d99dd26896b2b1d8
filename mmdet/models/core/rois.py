"""Regions that the second stage is trained on, in a fixed number of slots for each image.

Letters: B images, N proposals, G padded ground truths, S slots, K rows: the slots of all images that heads compute on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.ops.fixed_size import is_fixed_size
from mmdet.structures.bbox import BaseBoxes

from .constants import constant
from .fixed_results import fixed_instances
from .gt import PaddedGT, pad_batch
from .masks import HostRegions
from .pyramid import Priors
from .sampling import as_slots
from .sampling_result import results_of


@dataclass
class RoISamples:
    """Drawn regions; iterates as the list of ``SamplingResult`` that research code expects, made when asked for.

    The first ``num_pos_slots`` slots of every image hold all positives, so a branch for positives is a slice. Heads
    compute on rows: the slots of all images one after another. Packed rows leave empty slots out, for which the used
    ones must be counted on the host; otherwise empty slots take part with weight 0, and nothing has to be looked at.

    Attributes:
        boxes: ``(B, S, 4)`` xyxy in pixels of the network input.
        valid: ``(B, S)`` whether the slot is used.
        pos: ``(B, S)`` whether it holds a positive.
        gt_inds: ``(B, S)`` 0-based ground truth of each positive, 0 elsewhere.
        gt_boxes, gt_labels: ``(B, S, 4)`` and ``(B, S)``, meaningful at positives.
        is_gt: ``(B, S)`` whether the region is itself a ground truth that was added to the proposals.
        packed: Whether rows leave empty slots out.
        neg_weights: ``(B, S)`` weight of each negative in the classification, where a sampler has given one.
        host: The regions on their way to the host, where it draws their masks.
        index: ``(B, S)`` which of the candidates each slot holds, if they were drawn together.
        counts: Used slots of each image, which are its first, where the host knows their number without looking.
    """

    boxes: Tensor
    valid: Tensor
    pos: Tensor
    gt_inds: Tensor
    gt_boxes: Tensor
    gt_labels: Tensor
    is_gt: Tensor
    num_pos_slots: int
    packed: bool
    gt: PaddedGT | None = None
    counts: Sequence[int] | None = None
    results: list | None = field(default=None, repr=False)
    index: Tensor | None = None
    neg_weights: Tensor | None = None
    host: HostRegions | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._rows: Tensor | slice = slice(None)
        if self.packed and self.counts is not None:
            used = [b * self.valid.shape[1] + i for b, count in enumerate(self.counts) for i in range(count)]
            self._rows = constant(used, like=self.gt_inds)
        elif self.packed:
            self._rows = self.valid.flatten().nonzero().flatten()

    @classmethod
    def from_drawn(
        cls,
        boxes: Tensor,
        gt_inds: Tensor,
        is_gt: Tensor,
        gt: PaddedGT,
        drawn: Sequence[Tensor],
        slots: int,
        packed: bool,
    ) -> Self:
        """Put drawn candidates into slots.

        Args:
            boxes: ``(B, N, 4)`` candidates with their ``gt_inds (B, N)``, as in ``Assignment``.
            drawn: Indices and validity of positives, then of negatives, each ``(B, K)``; ``neg_weights (B, N)`` too,
                where a sampler weighs negatives.
            slots: Slots of each image; never more than candidates.
        """
        pos_index, pos_valid, neg_index, neg_valid, *weights = drawn
        index, valid, pos = as_slots(pos_index, pos_valid, neg_index, neg_valid, min(slots, boxes.shape[1]))
        num_pos = min(pos_index.shape[1], index.shape[1])
        if packed:
            used, num_pos = (max(1, int(mask.sum(1).max())) for mask in (valid, pos))
            index, valid, pos = index[:, :used], valid[:, :used], pos[:, :used]
        matched = gt_inds.gather(1, index) * pos
        gt_boxes, gt_labels = gt.gather(matched)
        return cls(
            boxes.gather(1, index[..., None].expand(-1, -1, 4)),
            valid,
            pos,
            (matched - 1).clamp(min=0),
            gt_boxes,
            gt_labels,
            is_gt.gather(1, index) & valid,
            num_pos,
            packed,
            gt,
            index=index,
            neg_weights=weights[0].gather(1, index) if weights else None,
        )

    def pack(self, slots: Tensor) -> Tensor:
        """Rows ``(K, ...)`` of ``slots (B, S, ...)``."""
        return slots.flatten(0, 1)[self._rows]

    def unpack(self, rows: Tensor) -> Tensor:
        """The inverse of :meth:`pack`; slots without a row get zeros."""
        slots = rows.new_zeros(self.valid.numel(), *rows.shape[1:])
        slots[self._rows] = rows
        return slots.unflatten(0, self.valid.shape)

    def rows(self, *names: str) -> list[Tensor]:
        """Fields as rows."""
        return [self.pack(getattr(self, name)) for name in names]

    @property
    def rois(self) -> Tensor:
        """``(K, 5)``: image index and box."""
        return self.pack(with_image(self.boxes))

    @cached_property
    def positives(self) -> RoISamples:
        """The slots for positives; of these, ``valid`` are those that hold one."""
        n = self.num_pos_slots
        names = ('boxes', 'pos', 'gt_inds', 'gt_boxes', 'gt_labels', 'is_gt')
        slots = {name: getattr(self, name)[:, :n] for name in names}
        return RoISamples(valid=slots['pos'], num_pos_slots=n, packed=self.packed, gt=self.gt, **slots)

    def positive_rows(self) -> Tensor:
        """Which rows are those of :attr:`positives`."""
        if self.packed:
            return self.pack(self.pos).nonzero().flatten()
        places = torch.arange(self.pos.numel(), device=self.pos.device).view(self.pos.shape)
        return places[:, : self.num_pos_slots].flatten()

    def __iter__(self) -> Iterator[Any]:
        if self.results is None:
            self.results = results_of(self)
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int | slice) -> Any:
        return list(self)[index]


@dataclass
class MatchedQueries(RoISamples):
    """Queries, of which some are matched, in their own order: S is their number Q, and rows are all of them.

    ``counts`` are the numbers of positives, which the host knows: one-to-one matching finds as many as there are ground
    truths, or queries. So nobody waits for the positives, and the batch norms of a branch for them see no empty slot.
    """

    @classmethod
    def of(
        cls, boxes: Tensor, gt_inds: Tensor, pos: Tensor, neg: Tensor, gt: PaddedGT, counts: Sequence[int]
    ) -> MatchedQueries:
        """Queries that stand for ``boxes (B, Q, 4)``, matched as ``gt_inds (B, Q)`` of an ``Assignment`` says."""
        matched = gt_inds * pos
        own = (matched - 1).clamp(min=0), *gt.gather(matched), torch.zeros_like(pos)
        return cls(boxes, pos | neg, pos, *own, num_pos_slots=max(1, *counts), packed=False, gt=gt, counts=counts)

    @cached_property
    def _order(self) -> Tensor:
        """``(B, n)`` queries, the positive ones first."""
        return self.pos.int().sort(dim=1, descending=True, stable=True).indices[:, : self.num_pos_slots]

    @cached_property
    def positives(self) -> RoISamples:
        """The positives in the order of the queries."""
        row = torch.arange(len(self.boxes), device=self.boxes.device)[:, None]
        names = ('boxes', 'pos', 'gt_inds', 'gt_boxes', 'gt_labels', 'is_gt')
        slots = {name: getattr(self, name)[row, self._order] for name in names}
        return RoISamples(
            valid=slots['pos'], num_pos_slots=self.num_pos_slots, packed=True, gt=self.gt, counts=self.counts, **slots
        )

    def positive_rows(self) -> Tensor:
        start = torch.arange(len(self.boxes), device=self.boxes.device)[:, None] * self.boxes.shape[1]
        return self.positives.pack(self._order + start)


class Proposals(Priors):
    """Regions ``boxes (B, N, 4)`` with a mask ``valid (B, N)``; iterates as ``InstanceData`` of each image."""

    fields: dict[str, Tensor] | None = None
    """Further values ``(B, N, ...)`` of the instances: scores and labels."""

    images: list[InstanceData] | None = None
    """The instances, once somebody has asked for them."""

    @classmethod
    def pad(cls, instances: Sequence[InstanceData], name: str = 'bboxes') -> Proposals:
        """The boxes of each image, or another field of theirs, without gradients."""
        boxes = [instance.get(name) for instance in instances]
        boxes = [(box.tensor if isinstance(box, BaseBoxes) else box).detach() for box in boxes]
        valid = pad_batch([box.new_ones(len(box), dtype=torch.bool) for box in boxes])
        return cls(pad_batch(boxes), valid, [valid.shape[1]])

    @classmethod
    def from_padded(cls, fields: dict[str, Tensor], counts: Tensor) -> Proposals:
        """The first ``counts (B,)`` of ``fields``, ``{name: (B, N, ...)}`` with ``bboxes`` among them."""
        boxes = fields['bboxes']
        valid = torch.arange(boxes.shape[1], device=boxes.device) < counts[:, None]
        boxes = boxes.masked_fill(~valid[..., None], 0)  # finite whatever the network said
        proposals = cls(boxes, valid, [boxes.shape[1]])
        proposals.fields = {name: value for name, value in fields.items() if name != 'bboxes'}
        return proposals

    @classmethod
    def of(cls, found: Proposals | Sequence[InstanceData]) -> Proposals:
        """A batch of what may be lists; also of a batch whose instances were handed out, and maybe changed."""
        if isinstance(found, Proposals):
            return found if found.images is None else cls.pad(found.images)
        return cls.pad(found)

    def _images(self) -> list[InstanceData]:
        if self.images is None and is_fixed_size():
            fields = dict(bboxes=self.boxes, **(self.fields or {}))
            self.images = [fixed_instances(fields, self.valid.sum(1))]
        elif self.images is None:
            rows = [torch.arange(self.boxes.shape[1], device=self.boxes.device)[valid] for valid in self.valid]
            values = dict(bboxes=self.boxes, **(self.fields or {}))
            self.images = [
                InstanceData(**{name: value[b][row] for name, value in values.items()}) for b, row in enumerate(rows)
            ]
        return self.images

    def __iter__(self) -> Iterator[InstanceData]:
        return iter(self._images())

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int | slice) -> Any:
        return self._images()[index]


def with_image(boxes: Tensor) -> Tensor:
    """``(B, S, 4)`` as RoIs ``(B, S, 5)`` whose first column is the image."""
    images = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    return torch.cat([images[:, None, None].expand(-1, boxes.shape[1], -1), boxes], -1)
