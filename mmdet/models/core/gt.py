"""Ground truth of a batch as padded tensors.

Letters: B images, G ground truths of the image that has most, P priors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmdet.structures.bbox import BaseBoxes, get_box_tensor

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
    """

    boxes: Tensor
    labels: Tensor
    mask: Tensor
    counts: list[int]
    ignored: Tensor | None = None
    ignored_mask: Tensor | None = None

    @classmethod
    def from_instances(
        cls, instances: Sequence[InstanceData], ignored: Sequence[InstanceData] | None = None
    ) -> PaddedGT:
        """Pad ``bboxes`` and ``labels``; lengths are host integers, so nothing waits for the device."""
        boxes = [box_rows(instance.bboxes) for instance in instances]
        padded, mask = _pad(boxes)
        labels = _at_least_one(pad_sequence([instance.labels.long() for instance in instances], batch_first=True))
        regions = region_mask = None
        if ignored is not None and any(item is not None and len(item) for item in ignored):
            regions, region_mask = _pad(
                [
                    boxes[i].new_zeros(0, boxes[i].shape[-1]) if item is None else box_rows(item.bboxes)
                    for i, item in enumerate(ignored)
                ]
            )
        return cls(padded, labels, mask, [len(b) for b in boxes], regions, region_mask)

    def gather(self, gt_inds: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes ``(B, P, 4)`` and labels ``(B, P)`` of 1-based ``gt_inds``; row 0 stands in where there is none."""
        index = (gt_inds - 1).clamp(min=0)
        return self.boxes.gather(1, index[..., None].expand(-1, -1, self.boxes.shape[-1])), self.labels.gather(1, index)

    def chunks(self, num_priors: int, matrices: int = 1) -> Iterator[slice]:
        """Slices of the G axis whose ``matrices`` matrices ``(B, g, P)`` stay within the budget."""
        batch, total = self.mask.shape
        budget = CPU_MATRIX_BUDGET if self.mask.device.type == 'cpu' else MATRIX_BUDGET
        step = max(1, budget // max(1, batch * num_priors * matrices))
        for start in range(0, total, step):
            yield slice(start, start + step)

    def take(self, part: slice) -> PaddedGT:
        """The ground truths of one slice of the G axis."""
        return PaddedGT(self.boxes[:, part], self.labels[:, part], self.mask[:, part], self.counts)


def box_rows(boxes: Tensor | BaseBoxes, size: int = 4) -> Tensor:
    """Boxes as ``(n, size)``; no boxes may come in any shape, such as ``(0,)``."""
    boxes = get_box_tensor(boxes)
    return boxes if boxes.numel() or boxes.dim() == 2 else boxes.new_zeros(0, size)


def _at_least_one(padded: Tensor) -> Tensor:
    if padded.shape[1]:
        return padded
    return padded.new_zeros(len(padded), 1, *padded.shape[2:])


def _pad(boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
    padded = _at_least_one(pad_sequence(boxes, batch_first=True))
    ones = [box.new_ones(len(box), dtype=torch.bool) for box in boxes]
    return padded, _at_least_one(pad_sequence(ones, batch_first=True))


def pad_batch(items: Sequence[Tensor]) -> Tensor:
    """Tensors ``(n_i, ...)`` of any kind padded with zeros to ``(B, max(n_i, 1), ...)``."""
    return _at_least_one(pad_sequence(list(items), batch_first=True))
