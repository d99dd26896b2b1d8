from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

from mmengine.logging import MMLogger

from mmdet.errors import UserValueError
from mmdet.registry import METRICS

from ..functional.overlaps import bbox_overlaps
from .expressions import ExpressionMetric, corners


@METRICS.register_module()
class RefExpMetric(ExpressionMetric):
    """How often one of the k surest boxes of an expression is that of its object (arXiv:1608.00272, Sec. 5).

    Gives ``{data set}_precision@{k}`` for each ``dataset_name`` of the images (``refcoco``, ``refcoco+``, ``refcocog``)
    and ``mean_precision``, the mean of these. MMDetection 3.x divides their sum by nine, which is that of three data
    sets at three k, whatever the file has.

    Args:
        ann_file: COCO file with an image, and one annotation, for each expression.
        topk: The numbers k.
        iou_thrs: A box with at least this IoU is that of the object.
    """

    default_prefix: str | None = 'refexp'

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str = 'bbox',
        topk: Sequence[int] = (1, 5, 10),
        iou_thrs: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(ann_file, metric, iou_thrs, **kwargs)
        self.topk = topk

    def compute_metrics(self, results: list) -> dict[str, float]:
        logger = MMLogger.get_current_instance()
        hits: Counter[tuple[str, int]] = Counter()
        counts: Counter[str] = Counter()
        for result in self.tested(results, results):
            image, annotations = self._truth(result['img_id'])
            if len(annotations) != 1:
                raise UserValueError(
                    f'{self.ann_file}: image {result["img_id"]!r} has {len(annotations)} annotations; an expression '
                    'has one object. gRefCOCOMetric takes any number'
                )
            name = str(image.get('dataset_name', 'refcoco'))
            overlaps = bbox_overlaps(result['bboxes'], corners(annotations))[:, 0]
            counts[name] += 1
            for k in self.topk:
                hits[name, k] += bool((overlaps[:k] >= self.iou_thrs).any())
        shares = {(name, k): hits[name, k] / counts[name] for name in sorted(counts) for k in self.topk}
        for name in sorted(counts):
            logger.info(f'{name}: ' + ', '.join(f'precision@{k} {shares[name, k]:.4f}' for k in self.topk))
        numbers: dict[str, float] = OrderedDict(mean_precision=sum(shares.values()) / max(len(shares), 1))
        numbers.update({f'{name}_precision@{k}': share for (name, k), share in shares.items()})
        return numbers
