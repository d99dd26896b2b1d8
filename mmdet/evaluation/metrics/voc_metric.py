from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from mmengine.logging import MMLogger

from mmdet.errors import UserKeyError, UserValueError
from mmdet.registry import METRICS

from ..functional.mean_ap import eval_map
from ..functional.recall import eval_recalls
from .pictures import PictureMetric, marks_of
from .samples import require_finite, to_numpy


@METRICS.register_module()
class VOCMetric(PictureMetric):
    """Pascal VOC's mean AP, or the recall of proposals.

    Args:
        iou_thrs: One threshold or several; ``mAP`` is the mean over them.
        scale_ranges: ``(low, high)`` object sizes in pixels to evaluate apart; only with a single IoU threshold is
            each range a number of its own, ``mAP`` then being their mean.
        metric: ``mAP`` or ``recall``.
        proposal_nums: Proposals an image, for ``recall``.
        eval_mode: ``area`` (VOC 2010 on) or ``11points`` (VOC 2007).
        use_legacy_coordinate: Boxes hold their last pixel row and column, as the VOC kit has it.
    """

    default_prefix: str | None = 'pascal_voc'

    def __init__(
        self,
        iou_thrs: float | Sequence[float] = 0.5,
        scale_ranges: Sequence[tuple] | None = None,
        metric: str | Sequence[str] = 'mAP',
        proposal_nums: Sequence[int] = (100, 300, 1000),
        eval_mode: str = '11points',
        collect_device: str = 'cpu',
        prefix: str | None = None,
        use_legacy_coordinate: bool = True,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.iou_thrs = [iou_thrs] if isinstance(iou_thrs, float) else list(iou_thrs)
        self.scale_ranges = scale_ranges
        self.proposal_nums = proposal_nums
        if not isinstance(metric, str):
            if len(metric) != 1:
                raise UserValueError(f'VOCMetric evaluates one metric at a time, got {list(metric)}.')
            metric = metric[0]
        if metric not in ('mAP', 'recall'):
            raise UserKeyError(f"metric should be 'mAP' or 'recall', got {metric!r}.")
        if eval_mode not in ('area', '11points'):
            raise UserValueError(f"eval_mode must be 'area' or '11points', got {eval_mode!r}.")
        self.metric = metric
        self.eval_mode = eval_mode
        self.use_legacy_coordinate = use_legacy_coordinate

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for data_sample in data_samples:
            if 'gt_instances' not in data_sample:
                raise UserValueError('VOCMetric needs gt_instances: put LoadAnnotations into the test pipeline.')
            annotation: dict = dict(picture=marks_of(data_sample))
            for key, suffix in (('gt_instances', ''), ('ignored_instances', '_ignore')):
                instances = data_sample.get(key)
                boxes = instances['bboxes'] if instances else np.zeros((0, 4), dtype=np.float32)
                annotation[f'bboxes{suffix}'] = to_numpy(getattr(boxes, 'tensor', boxes)).reshape(-1, 4)
                labels = instances['labels'] if instances else np.zeros(0, dtype=int)
                annotation[f'labels{suffix}'] = to_numpy(labels)
            pred = data_sample['pred_instances']
            boxes, scores = to_numpy(pred['bboxes']).reshape(-1, 4), to_numpy(pred['scores']).reshape(-1, 1)
            require_finite(dict(bboxes=boxes, scores=scores), data_sample.get('img_id'))
            labels = to_numpy(pred['labels'])
            rows = np.concatenate([boxes, scores], 1).astype(np.float32)
            by_class = [rows[labels == c] for c in range(len(self.meta_of([annotation['picture']])['classes']))]
            self.results.append((annotation, by_class))

    def compute_metrics(self, results: list) -> dict[str, float]:
        logger = MMLogger.get_current_instance()
        if not results:
            logger.error('VOCMetric: there are no results to evaluate.')
            return OrderedDict()
        pictures = [gt.get('picture', {}) for gt, _ in results]
        gts, preds = zip(*self.tested(results, pictures), strict=True)
        meta = self.meta_of(pictures)
        if self.metric == 'recall':
            return self._recall(gts, preds, logger)
        kind = meta.get('dataset_type')
        if kind == 'VOC2007' and self.eval_mode != '11points':
            warnings.warn("VOC2007 is by its definition evaluated with eval_mode='11points'.")
        numbers, mean_aps = OrderedDict(mAP=0.0), []
        for iou_thr in self.iou_thrs:
            logger.info(f'\n{"-" * 15}iou_thr: {iou_thr}{"-" * 15}')
            mean_ap, _ = eval_map(
                preds,
                gts,
                scale_ranges=self.scale_ranges,
                iou_thr=iou_thr,
                dataset=meta['classes'],
                logger=logger,
                eval_mode=self.eval_mode,
                use_legacy_coordinate=self.use_legacy_coordinate,
            )
            mean_aps.append(np.mean(mean_ap))
            numbers[f'AP{round(iou_thr * 100):02d}'] = round(float(mean_aps[-1]), 3)
        numbers['mAP'] = float(np.mean(mean_aps))
        return numbers

    def _recall(self, gts: Sequence[dict], preds: Sequence[list], logger: MMLogger) -> dict[str, float]:
        recalls = eval_recalls(
            [gt['bboxes'] for gt in gts],
            [np.concatenate(pred) for pred in preds],
            self.proposal_nums,
            self.iou_thrs,
            logger=logger,
            use_legacy_coordinate=self.use_legacy_coordinate,
        )
        numbers = OrderedDict()
        for num, row in zip(self.proposal_nums, recalls, strict=True):
            numbers.update({f'recall@{num}@{thr}': float(value) for thr, value in zip(self.iou_thrs, row, strict=True)})
        if len(self.iou_thrs) > 1:
            numbers.update({f'AR@{n}': float(r) for n, r in zip(self.proposal_nums, recalls.mean(1), strict=True)})
        return numbers
