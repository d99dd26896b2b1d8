from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.logging import MMLogger

from mmdet.datasets.api_wrappers.columns import Objects
from mmdet.errors import UserKeyError, UserValueError
from mmdet.registry import METRICS

from ..functional.lvis_eval import evaluate_lvis, summarize_lvis
from .coco_metric import CocoMetric

MAX_DETECTIONS = 300
"""Of an image (arXiv:1908.03195, Sec. 3.2)."""


@METRICS.register_module()
class LVISMetric(CocoMetric):
    """AP of LVIS (arXiv:1908.03195), also for rare, common and frequent classes: ``bbox_AP``, ``bbox_APr``, ....

    The options are those of :class:`CocoMetric`. The 300 best detections of an image are evaluated, over all classes,
    whatever ``proposal_nums`` are; ``proposal`` gives ``AR@300`` and that of small, medium and large objects.
    """

    default_prefix: str | None = 'lvis'
    max_detections = MAX_DETECTIONS

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = 'bbox',
        classwise: bool = False,
        proposal_nums: Sequence[int] = (100, 300, 1000),
        iou_thrs: float | Sequence[float] | None = None,
        metric_items: Sequence[str] | None = None,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        file_client_args: dict | None = None,
        backend_args: dict | None = None,
        use_faster_coco_eval: bool | str = True,
    ) -> None:
        super().__init__(
            ann_file=ann_file,
            metric=metric,
            classwise=classwise,
            proposal_nums=proposal_nums,
            iou_thrs=iou_thrs,
            metric_items=metric_items,
            format_only=format_only,
            outfile_prefix=outfile_prefix,
            file_client_args=file_client_args,
            backend_args=backend_args,
            collect_device=collect_device,
            prefix=prefix,
            use_faster_coco_eval=use_faster_coco_eval,
        )
        if ann_file is None:
            raise UserValueError(
                f'{type(self).__name__} needs ann_file: it says which classes are known to be absent from an image.'
            )

    def _evaluate(self, metric: str, preds: list[dict], logger: MMLogger) -> dict[str, float]:
        agnostic = metric == 'proposal'
        evaluator = evaluate_lvis(
            self._coco_api,
            self._columns(preds, metric),
            'bbox' if agnostic else metric,
            self._categories,
            self.img_ids,
            self.iou_thrs,
            self.max_detections,
            use_cats=not agnostic,
            faster=self.use_faster_coco_eval,
        )
        numbers = summarize_lvis(evaluator)
        logger.info('\n' + '\n'.join(f'{name:<9} {value:.3f}' for name, value in numbers.items()))
        items = self.metric_items
        if items is None:
            items = [name for name in numbers if name.startswith('AR' if agnostic else 'AP')]
        for item in items:
            if item not in numbers:
                raise UserKeyError(f'metric_items: {item!r} is not supported. Choose from {", ".join(numbers)}.')
        found = {item if agnostic else f'{metric}_{item}': numbers[item] for item in items}
        return {**found, **self._per_class(evaluator, logger)} if self.classwise and not agnostic else found


@METRICS.register_module()
class LVISFixedAPMetric(LVISMetric):
    """LVIS's AP with a limit for each class instead of each image (arXiv:2102.01066, Sec. 4): ``AP``, ``APr``, ....

    Classes compete for no place among the detections of an image, so that the score of one says nothing of another.

    Args:
        topk: Detections of a class that are evaluated, those of the highest scores in all pictures.
    """

    default_prefix: str | None = 'lvis_fixed_ap'
    max_detections = 2**31 - 1

    def __init__(
        self,
        ann_file: str,
        topk: int = 10000,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(
            ann_file,
            format_only=format_only,
            outfile_prefix=outfile_prefix,
            collect_device=collect_device,
            prefix=prefix,
            backend_args=backend_args,
        )
        self.topk = topk

    def _columns(self, results: Sequence[dict], kind: str) -> Objects:
        found = super()._columns(results, kind)
        order = np.lexsort((-found.scores, found.category_ids))
        classes = np.asarray(found.category_ids)[order]
        rank = np.arange(len(order)) - np.searchsorted(classes, classes)
        return found.take(np.sort(order[rank < self.topk]))

    def _evaluate(self, metric: str, preds: list[dict], logger: MMLogger) -> dict[str, float]:
        numbers = super()._evaluate(metric, preds, logger)
        return {name.removeprefix(f'{metric}_'): value for name, value in numbers.items()}
