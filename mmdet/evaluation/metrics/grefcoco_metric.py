from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.logging import MMLogger

from mmdet.registry import METRICS

from ..functional.overlaps import bbox_overlaps
from .expressions import ExpressionMetric, corners

NO_TARGET = -1


def matched(overlaps: np.ndarray, threshold: float) -> int:
    """How many pairs a greedy matching finds, the greatest IoU first, each row and column once.

    Args:
        overlaps: (n, g) IoU.
    """
    left, count = overlaps.copy(), 0
    while left.size:
        row, column = np.unravel_index(left.argmax(), left.shape)
        if left[row, column] < threshold:
            break
        count += 1
        left = np.delete(np.delete(left, row, 0), column, 1)
    return count


@METRICS.register_module()
class gRefCOCOMetric(ExpressionMetric):
    """Expressions that name any number of objects, or none (gRefCOCO, arXiv:2308.16182, Sec. 4).

    Gives ``F1_score``, the share of expressions whose F1 is at least ``thresh_f1``; ``N_acc``, the share of expressions
    without an object for which nothing is found; ``T_acc``, the share of those with objects for which something is.

    Args:
        ann_file: COCO file; an annotation with ``category_id`` -1 says that there is no object.
        iou_thrs: IoU of a match.
        thresh_score: Boxes with at least this score count as found.
    """

    default_prefix: str | None = 'grefcoco'

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str = 'bbox',
        iou_thrs: float = 0.5,
        thresh_score: float = 0.7,
        thresh_f1: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(ann_file, metric, iou_thrs, **kwargs)
        self.thresh_score, self.thresh_f1 = thresh_score, thresh_f1

    def compute_metrics(self, results: list) -> dict[str, float]:
        results = self.tested(results, results)
        right = 0
        something, nothing = [], []  # for expressions with and without an object, whether the answer is right
        for result in results:
            annotations = self._truth(result['img_id'])[1]
            boxes = result['bboxes'][result['scores'] >= self.thresh_score]
            if not annotations or any(entry['category_id'] == NO_TARGET for entry in annotations):
                nothing.append(not len(boxes))
                f1 = float(nothing[-1])
            else:
                something.append(bool(len(boxes)))
                hits = matched(bbox_overlaps(boxes, corners(annotations)), self.iou_thrs)
                f1 = 2 * hits / (len(boxes) + len(annotations))
            right += f1 >= self.thresh_f1
        numbers = dict(
            F1_score=right / max(len(results), 1),
            T_acc=sum(something) / max(len(something), 1),
            N_acc=sum(nothing) / max(len(nothing), 1),
        )
        MMLogger.get_current_instance().info(', '.join(f'{name} {value:.4f}' for name, value in numbers.items()))
        return numbers
