"""Whether an exported file finds what its detector finds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.structures import InstanceData
from torch import Tensor

SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.1
"""In pixels of the network input."""
MASK_TOLERANCE = 0.02
"""Share of the pixels of two masks, or of a map, that may differ."""
HALF_TOLERANCES = (2e-2, 2.0, 0.1)
INT8_TOLERANCES = (0.2, 16.0, 0.5)
"""Of scores, boxes and masks, for files that compute in less than single precision."""
SMALL = 100
"""A mask of fewer pixels counts as one of so many: the edge is all of it."""
NEAR = 8.0
SURE = 0.3
MOST = 0.9
"""Share of the detections that files in less than single precision have to find."""


@dataclass
class Difference:
    """Between two lists of detections.

    Attributes:
        scores, boxes: The largest difference of two detections that belong together, the latter in pixels.
        pairs: How many belong together.
        alone: The highest score of a detection that has no partner, over that of the last one that was kept; 0 where
            each has one.
        alone_count: How many have none.
        masks: The largest share of the pixels of two masks, or of a map, that differ; None where there are none.
    """

    scores: float = 0.0
    boxes: float = 0.0
    pairs: int = 0
    alone: float = 0.0
    alone_count: int = 0
    masks: float | None = None

    def within(
        self, scores: float = SCORE_TOLERANCE, boxes: float = BOX_TOLERANCE, masks: float = MASK_TOLERANCE
    ) -> bool:
        """Whether nothing differs by more."""
        return self.badness(scores, boxes, masks) <= 1

    def badness(
        self, scores: float = SCORE_TOLERANCE, boxes: float = BOX_TOLERANCE, masks: float = MASK_TOLERANCE
    ) -> float:
        """How many times as much something differs as it may."""
        return max(self.scores / scores, self.boxes / boxes, self.alone / scores, (self.masks or 0.0) / masks)

    def joined(self, other: Difference) -> Difference:
        """The worse of two."""
        return Difference(
            max(self.scores, other.scores),
            max(self.boxes, other.boxes),
            self.pairs + other.pairs,
            max(self.alone, other.alone),
            self.alone_count + other.alone_count,
            max((m for m in (self.masks, other.masks) if m is not None), default=None),
        )

    def __str__(self) -> str:
        text = f'{self.pairs} pairs: scores differ by at most {self.scores:.2g}, boxes by {self.boxes:.2g} px'
        if self.masks is not None:
            text += f', masks in {self.masks:.2%} of their pixels'
        return text + (f'; {self.alone_count} without a partner, up to {self.alone:.2g}' if self.alone_count else '')


def tolerances(precision: str) -> tuple[float, float, float]:
    """Of scores, boxes and masks, for a file that computes in ``precision``."""
    whole = SCORE_TOLERANCE, BOX_TOLERANCE, MASK_TOLERANCE
    table = {'float32': whole, 'float16': HALF_TOLERANCES, 'int8': INT8_TOLERANCES}
    return table[precision]


def least_share(precision: str) -> float:
    """Of the detections of an image, that a file has to find."""
    return 1.0 if precision == 'float32' else MOST


def least_score(precision: str, found: Sequence[InstanceData]) -> float:
    """Detections that score no more are not compared: in less than single precision they may be others.

    Args:
        found: By the detector. Where nothing is sure, as after few steps, those of half the best score count.
    """
    best = max((float(image.scores.max()) for image in found if len(image.scores)), default=0.0)
    return 0.0 if precision == 'float32' else min(SURE, best / 2)


def compare(
    first: Sequence[InstanceData],
    second: Sequence[InstanceData],
    limit: int | None = None,
    near: float = NEAR,
    least: float = 0.0,
    share: float = 1.0,
) -> Difference:
    """Of the detections of each image, ``bboxes (n, 4)``, ``scores (n,)``, ``labels (n,)`` and maybe
    ``masks (n, H, W)``.

    Each detection of ``first`` belongs to that of ``second`` of the same label which is most like it, nearest in box,
    score and mask.

    Args:
        limit: A list with so many detections is full: what scores less than its last one may be missing in it.
        near: A box that lies further away, in pixels, belongs to another detection.
        least: Detections that score no more are left out.
        share: Only so many of the detections of an image have to be found, as in a file that computes in less than
            single precision: of boxes that score nearly the same, suppression keeps another one there.
    """
    total = Difference()
    for one, other in zip(first, second):
        total = total.joined(_of_image(one[one.scores > least], other[other.scores > least], limit, near, least, share))
    return total


def compare_maps(first: Tensor, second: Tensor) -> Difference:
    """Of maps of labels ``(..., H, W)``."""
    return Difference(masks=float((first != second).double().mean()))


def _of_image(
    one: InstanceData, other: InstanceData, limit: int | None, near: float, least: float, share: float
) -> Difference:
    if not len(one.scores) or not len(other.scores):
        rest = one.scores if len(one.scores) else other.scores
        return Difference(alone=max(float(rest.max()) - least, 0.0) if len(rest) else 0.0, alone_count=len(rest))
    score, box = _distances(one, other)
    same = (one.labels[:, None] == other.labels[None]) & (box <= near)
    cost = torch.where(same, score + box / near, torch.inf)
    mask = _mask_distances(one, other) if 'masks' in one and 'masks' in other else None
    rows, columns = _pairs(cost if mask is None else cost + mask)
    left = torch.ones(len(one.scores), dtype=torch.bool)
    right = torch.ones(len(other.scores), dtype=torch.bool)
    left[rows], right[columns] = False, False
    lasts = [
        float(scores.min()) if limit is not None and len(scores) >= limit else least
        for scores in (other.scores, one.scores)
    ]
    alone = max(_alone(one.scores, left, lasts[0], share), _alone(other.scores, right, lasts[1], share))
    return Difference(
        _worst(score[rows, columns], share),
        _worst(box[rows, columns], share),
        len(rows),
        alone,
        int(left.sum() + right.sum()),
        None if mask is None else _worst(mask[rows, columns], share),
    )


def _distances(one: InstanceData, other: InstanceData) -> tuple[Tensor, Tensor]:
    score = (one.scores[:, None] - other.scores[None]).abs().float()
    box = (one.bboxes[:, None].float() - other.bboxes[None].float()).abs().amax(-1)
    return score, box


def _mask_distances(one: InstanceData, other: InstanceData) -> Tensor:
    """The share of pixels of either mask that is not in both, ``(n, m)``."""
    first, second = (image.masks.flatten(1).float() for image in (one, other))
    common = first @ second.T
    either = first.sum(1)[:, None] + second.sum(1) - common
    return (either - common) / either.clamp(min=SMALL)


def _pairs(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Of pairs of finite cost the cheapest, each row and each column once."""
    from scipy.optimize import linear_sum_assignment

    large = 1e6
    rows, columns = linear_sum_assignment(torch.where(cost.isfinite(), cost, large).numpy())
    rows, columns = torch.from_numpy(rows), torch.from_numpy(columns)
    known = cost[rows, columns].isfinite()
    return rows[known], columns[known]


def _alone(scores: Tensor, without: Tensor, last: float, share: float) -> float:
    """How far detections without a partner score above the least that the other list may end with."""
    return _worst(torch.where(without, (scores - last).clamp(min=0), 0.0), share)


def _worst(values: Tensor, share: float) -> float:
    """The largest of a share of values, the smallest ones."""
    count = math.ceil(share * len(values))
    return float(values.float().kthvalue(count).values) if count else 0.0
