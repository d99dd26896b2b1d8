from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.logging import MMLogger

from mmdet.errors import UserKeyError
from mmdet.registry import METRICS

from ..functional.overlaps import bbox_overlaps
from .expressions import boxes_of
from .pictures import PictureMetric
from .samples import to_numpy

ALL = -1  # as a number of boxes


class RecallTracker:
    """Counts hits and misses at each number of boxes, by category.

    Args:
        topk: The numbers, -1 for all boxes.
    """

    def __init__(self, topk: Sequence[int]) -> None:
        self.topk = tuple(topk)
        self._hits: Counter[tuple[int, str]] = Counter()
        self._counts: Counter[tuple[int, str]] = Counter()

    def add_positive(self, k: int, category: str) -> None:
        """Count a hit."""
        self._add(k, category, 1)

    def add_negative(self, k: int, category: str) -> None:
        """Count a miss."""
        self._add(k, category, 0)

    def _add(self, k: int, category: str, hit: int) -> None:
        if k not in self.topk:
            raise UserKeyError(f'{k} is not among the numbers of boxes, which are {self.topk}')
        self._counts[k, category] += 1
        self._hits[k, category] += hit

    def report(self) -> dict[int, dict[str, float]]:
        """Recall by number of boxes and category."""
        found: dict[int, dict[str, float]] = {k: {} for k in self.topk}
        for k, category in self._counts:
            found[k][category] = self._hits[k, category] / self._counts[k, category]
        return found


@METRICS.register_module()
class Flickr30kMetric(PictureMetric):
    """Recall of phrases (Flickr30k Entities, arXiv:1505.04870): how often one of the k surest boxes of a phrase is one
    of its boxes.

    Gives ``Recall@{k}`` over all phrases that have boxes, ``Recall@all`` for -1. A data sample has ``phrase_ids``, the
    number of its phrase for each of the ``gt_instances``; labels of predictions are these numbers too.

    Args:
        topk: The numbers k, -1 for all boxes.
        iou_thrs: A box with at least this IoU is one of the phrase.
        merge_boxes: The box around all boxes of a phrase takes their place (the MERGED-BOXES protocol of MDETR,
            arXiv:2104.12763, Appendix D; by default ANY-BOX).
    """

    default_prefix: str | None = 'flickr30k'

    def __init__(
        self,
        topk: Sequence[int] = (1, 5, 10, -1),
        iou_thrs: float = 0.5,
        merge_boxes: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = tuple(topk)
        self.iou_thrs = iou_thrs
        self.merge = merge_boxes

    def merge_boxes(self, boxes: Any) -> list[list[float]]:
        """The box around boxes (n, 4), in a list."""
        boxes = np.asarray(boxes, dtype=float).reshape(-1, 4)
        return [[*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist()]]

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for data_sample in data_samples:
            if 'phrase_ids' not in data_sample:
                raise UserKeyError(
                    "Flickr30kMetric needs 'phrase_ids' among the meta_keys of PackDetInputs; Flickr30kDataset has it"
                )
            truth = data_sample['gt_instances']['bboxes']
            self.results.append(
                dict(
                    boxes_of(data_sample),
                    truth=to_numpy(getattr(truth, 'tensor', truth)).reshape(-1, 4),
                    phrase_ids=np.asarray(data_sample['phrase_ids'], dtype=int),
                )
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        tracker = RecallTracker(self.topk)
        for result in self.tested(results, results):
            for phrase in np.unique(result['phrase_ids']).tolist():
                truth = result['truth'][result['phrase_ids'] == phrase]
                boxes = result['bboxes'][result['labels'] == phrase]
                truth = np.asarray(self.merge_boxes(truth)) if self.merge else truth
                best = bbox_overlaps(boxes, truth).max(1)
                for k in self.topk:
                    hit = (best[: None if k == ALL else k] >= self.iou_thrs).any()
                    (tracker.add_positive if hit else tracker.add_negative)(k, 'all')
        numbers: dict[str, float] = OrderedDict()
        for k, recalls in tracker.report().items():
            numbers[f'Recall@{"all" if k == ALL else k}'] = recalls.get('all', 0.0)
        MMLogger.get_current_instance().info(', '.join(f'{name} {value:.4f}' for name, value in numbers.items()))
        return numbers
