"""What the metrics of referring expressions share: boxes of a prediction, and the truth of an annotation file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmdet.errors import UserKeyError, UserValueError

from ..functional.coco_eval import load_coco
from .pictures import PictureMetric, marks_of
from .samples import require_finite, to_numpy


def boxes_of(data_sample: dict) -> dict:
    """Boxes (n, 4), scores (n,) and labels (n,) of a prediction, the surest first, and where the sample comes from."""
    found = data_sample['pred_instances']
    result = {key: to_numpy(found[key]) for key in ('bboxes', 'scores', 'labels') if key in found}
    require_finite(result, data_sample.get('img_id'))
    order = np.argsort(-result['scores'], kind='stable')
    return {**marks_of(data_sample), **{key: value[order] for key, value in result.items()}}


class ExpressionMetric(PictureMetric):
    """Base of metrics of one expression a sample, whose boxes ``ann_file`` has in COCO's format, by ``img_id``."""

    def __init__(self, ann_file: str | None, metric: str, iou_thrs: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if ann_file is None:
            raise UserValueError(f'{type(self).__name__} needs ann_file, which has the boxes of the expressions')
        if metric != 'bbox':
            raise UserKeyError(f"metric of {type(self).__name__} must be 'bbox', not {metric!r}")
        self.ann_file, self.metric, self.iou_thrs = ann_file, metric, iou_thrs
        self.coco = load_coco(ann_file)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        self.results += [boxes_of(data_sample) for data_sample in data_samples]

    def _truth(self, img_id: Any) -> tuple[dict, list[dict]]:
        """The entry of an image and its annotations.

        Raises:
            UserValueError: the file has no such image.
        """
        if img_id not in self.coco.imgs:
            raise UserValueError(
                f'image {img_id!r} was tested, and {self.ann_file} does not have it. Is the ann_file of the metric '
                'that of the test dataset?'
            )
        return self.coco.imgs[img_id], self.coco.imgToAnns.get(img_id, [])


def corners(annotations: Sequence[dict]) -> np.ndarray:
    """(n, 4) boxes of COCO annotations as x1, y1, x2, y2."""
    boxes = np.array([entry['bbox'] for entry in annotations], dtype=float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes
