"""Regions that the second stage is trained on, in a fixed number of slots for each image.

Letters: B images, N proposals, G padded ground truths, S slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.structures.bbox import get_box_tensor

from .assign_result import AssignResult
from .gt import PaddedGT, pad_batch
from .sampling import as_slots
from .sampling_result import SamplingResult

FIELDS = ('boxes', 'valid', 'pos', 'gt_inds', 'gt_boxes', 'gt_labels', 'is_gt')


@dataclass
class RoISamples:
    """Drawn regions; iterates as the list of ``SamplingResult`` that research code expects, made when asked for.

    The first ``num_pos_slots`` slots of every image hold all positives, so a branch for positives is a slice. Empty
    slots hold some region with weight 0.

    Attributes:
        boxes: ``(B, S, 4)`` xyxy in pixels of the network input.
        valid: ``(B, S)`` whether the slot is used.
        pos: ``(B, S)`` whether it holds a positive.
        gt_inds: ``(B, S)`` 0-based ground truth of each positive, 0 elsewhere.
        gt_boxes, gt_labels: ``(B, S, 4)`` and ``(B, S)``, meaningful at positives.
        is_gt: ``(B, S)`` whether the region is itself a ground truth that was added to the proposals.
    """

    boxes: Tensor
    valid: Tensor
    pos: Tensor
    gt_inds: Tensor
    gt_boxes: Tensor
    gt_labels: Tensor
    is_gt: Tensor
    num_pos_slots: int
    gt: PaddedGT
    _results: list | None = field(default=None, repr=False)

    @classmethod
    def from_drawn(
        cls, boxes: Tensor, gt_inds: Tensor, is_gt: Tensor, gt: PaddedGT, drawn: Sequence[Tensor], slots: int
    ) -> RoISamples:
        """Put drawn candidates into slots.

        Args:
            boxes: ``(B, N, 4)`` candidates with their ``gt_inds (B, N)``, as in ``Assignment``.
            drawn: Indices and validity of positives, then of negatives, each ``(B, K)``.
            slots: Slots of each image; never more than candidates.
        """
        pos_index, pos_valid, neg_index, neg_valid = drawn
        index, valid, pos = as_slots(pos_index, pos_valid, neg_index, neg_valid, min(slots, boxes.shape[1]))
        num_pos = min(pos_index.shape[1], index.shape[1])
        if boxes.device.type == 'cpu' and type(boxes) is Tensor:  # looking costs nothing here, empty slots would
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
            gt,
        )

    @classmethod
    def from_results(cls, results: Sequence, gt: PaddedGT) -> RoISamples:
        """Slots of ``SamplingResult`` objects, for samplers that work image by image."""
        boxes = [get_box_tensor(result.priors) for result in results]
        pos = [torch.arange(len(b), device=b.device) < len(r.pos_inds) for b, r in zip(boxes, results)]
        inds, is_gt = [], []
        for b, result in zip(boxes, results):
            rest = len(b) - len(result.pos_inds)
            inds.append(torch.cat([result.pos_assigned_gt_inds + 1, b.new_zeros(rest, dtype=torch.long)]))
            is_gt.append(torch.cat([result.pos_is_gt.bool(), b.new_zeros(rest, dtype=torch.bool)]))
        matched = pad_batch(inds)
        gt_boxes, gt_labels = gt.gather(matched)
        return cls(
            pad_batch(boxes),
            pad_batch([torch.ones_like(p) for p in pos]),
            pad_batch(pos),
            (matched - 1).clamp(min=0),
            gt_boxes,
            gt_labels,
            pad_batch(is_gt),
            max(1, *(len(result.pos_inds) for result in results)),
            gt,
            list(results),
        )

    def pack(self, slots: Tensor) -> Tensor:
        """Rows ``(K, ...)`` of ``slots (B, S, ...)``: all of them or, on the CPU, those that are used."""
        flat = slots.flatten(0, 1)
        return flat[self._used] if self._used is not None else flat

    def unpack(self, flat: Tensor) -> Tensor:
        """The inverse of :meth:`pack`; slots that are not used get zeros."""
        if self._used is not None:
            flat = flat.new_zeros(self.valid.numel(), *flat.shape[1:]).index_put((self._used,), flat)
        return flat.unflatten(0, self.valid.shape)

    @property
    def _used(self) -> Tensor | None:
        if self.valid.device.type != 'cpu' or type(self.valid) is not Tensor:
            return None
        return self.valid.flatten().nonzero().flatten()

    @property
    def rois(self) -> Tensor:
        """``(K, 5)``: image index and box."""
        return self.pack(with_image(self.boxes))

    def positives(self) -> RoISamples:
        """The slots for positives; of these, ``valid`` are those that hold one."""
        n = self.num_pos_slots
        names = ('boxes', 'pos', 'pos', 'gt_inds', 'gt_boxes', 'gt_labels', 'is_gt')
        slots = dict(zip(FIELDS, (getattr(self, name)[:, :n] for name in names)))
        return RoISamples(**slots, num_pos_slots=n, gt=self.gt)

    def _list(self) -> list:
        if self._results is None:
            self._results = [self._result(b) for b in range(len(self.boxes))]
        return self._results

    def _result(self, b: int):
        used = self.valid[b]
        pos = self.pos[b][used]
        count = self.gt.counts[b]
        assigned = torch.where(pos, self.gt_inds[b][used] + 1, 0)
        labels = torch.where(pos, self.gt_labels[b][used], -1)
        return SamplingResult(
            pos.nonzero().flatten(),
            (~pos).nonzero().flatten(),
            self.boxes[b][used],
            self.gt.boxes[b, :count],
            AssignResult(count, assigned, torch.zeros_like(assigned, dtype=torch.float32), labels),
            self.is_gt[b][used].to(torch.uint8),
        )

    def __iter__(self) -> Iterator:
        return iter(self._list())

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index):
        return self._list()[index]


def with_image(boxes: Tensor) -> Tensor:
    """``(B, S, 4)`` as RoIs ``(B, S, 5)`` whose first column is the image."""
    images = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)
    return torch.cat([images[:, None, None].expand(-1, boxes.shape[1], -1), boxes], -1)


def pad_proposals(proposals: Sequence[InstanceData], name: str = 'bboxes') -> tuple[Tensor, Tensor]:
    """Boxes ``(B, N, 4)`` of each image's proposals and a mask ``(B, N)``."""
    boxes = [get_box_tensor(proposal.get(name)).detach() for proposal in proposals]
    return pad_batch(boxes), pad_batch([box.new_ones(len(box), dtype=torch.bool) for box in boxes])
