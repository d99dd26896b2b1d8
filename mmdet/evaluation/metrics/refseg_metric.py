from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmdet.errors import UserKeyError, UserValueError
from mmdet.registry import METRICS

from .pictures import PictureMetric, marks_of
from .samples import to_numpy

MEASURES = ('cIoU', 'mIoU')


@METRICS.register_module()
class RefSegMetric(PictureMetric):
    """Masks of referring expressions: ``cIoU``, all intersections over all unions, and ``mIoU``, the mean IoU of the
    pictures, both in percent.

    The masks of all expressions of a picture count as one intersection and one union. The truth is ``gt_masks`` of a
    data sample, or the masks of its ``gt_instances``.

    Args:
        metric: One or both of ``cIoU`` and ``mIoU``.
    """

    default_prefix: str | None = 'refseg'

    def __init__(self, metric: str | Sequence[str] = ('cIoU', 'mIoU'), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.metrics = [metric] if isinstance(metric, str) else list(metric)
        for name in self.metrics:
            if name not in MEASURES:
                raise UserKeyError(f'metric should be one of {", ".join(MEASURES)}, got {name!r}.')

    def compute_iou(self, pred_seg: Any, gt_seg: Any) -> tuple[Any, Any]:
        """Pixels of the intersection and of the union of boolean masks."""
        return (pred_seg & gt_seg).sum(), (pred_seg | gt_seg).sum()

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for data_sample in data_samples:
            found = _bitmaps(data_sample['pred_instances'].get('masks'))
            truth = data_sample.get('gt_masks')
            if truth is None:
                truth = (data_sample.get('gt_instances') or {}).get('masks')
            if truth is None:
                raise UserKeyError(
                    'RefSegMetric needs the true masks: LoadAnnotations(with_mask=True) in the test pipeline, and '
                    "'gt_masks' among the meta_keys of PackDetInputs"
                )
            truth = _bitmaps(truth)
            if found.shape != truth.shape:
                raise UserValueError(
                    f'image {data_sample.get("img_id")!r}: the prediction has masks of shape {found.shape}, the truth '
                    f'of {truth.shape}; RefSegMetric compares a mask for each expression'
                )
            overlap, union = self.compute_iou(found, truth)
            self.results.append((marks_of(data_sample), int(overlap), int(union)))

    def compute_metrics(self, results: list) -> dict[str, float]:
        results = self.tested(results, [marks for marks, _, _ in results])
        table = np.array([result[1:] for result in results], dtype=float).reshape(-1, 2)
        overlap, union = table.T
        shares = overlap / np.maximum(union, 1)
        numbers = dict(
            cIoU=100 * float(overlap.sum() / max(union.sum(), 1)), mIoU=100 * float(shares.sum() / max(len(shares), 1))
        )
        return {name: numbers[name] for name in self.metrics}


def _bitmaps(masks: Any) -> np.ndarray:
    """(n, h, w) booleans."""
    from mmdet.structures.mask import bitmaps_of

    return to_numpy(bitmaps_of(masks)).astype(bool)
