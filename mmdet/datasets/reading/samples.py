"""The samples of any data set, checked before the first of them is used."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmdet.errors import UserValueError

from .coco_file import plain_table
from .values import as_number, short


def check_samples(dataset: Any) -> list[dict]:
    """The samples that have ``instances``, whose boxes are finite numbers and whose labels are those of classes.

    In training, boxes without area or outside of their picture are taken out of ``instances``, unless they are ignored
    already; the dataset counts them. Boxes of other than four numbers are checked for being numbers alone.

    Raises:
        UserValueError: naming the picture and the value.
    """
    samples = [info for info in dataset.data_list if isinstance(info.get('instances'), list)]
    instances = [instance for info in samples for instance in info['instances']]
    if not instances:
        return samples
    counts = np.array([len(info['instances']) for info in samples])
    boxes = plain_table([instance['bbox'] for instance in instances])
    if boxes is None:
        if _refuse_numbers(dataset, samples):
            return samples
        boxes = np.array([instance['bbox'] for instance in instances], dtype=float).reshape(-1, 4)
    ignored = np.array([instance.get('ignore_flag', 0) for instance in instances], dtype=bool)
    _check_labels(dataset, samples, instances, ignored)
    if dataset.test_mode or getattr(dataset, 'ALL_STAY', False):
        return samples
    size = np.array([(info.get('width') or np.inf, info.get('height') or np.inf) for info in samples], dtype=float)
    width, height = np.repeat(size, counts, axis=0).T
    x1, y1, x2, y2 = boxes.T
    flat = ~ignored & ((x2 <= x1) | (y2 <= y1))
    outside = ~ignored & ~flat & ((x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height))
    if (flat | outside).any():
        kept = iter((~(flat | outside)).tolist())
        for info in samples:
            info['instances'] = [instance for instance in info['instances'] if next(kept)]
        dataset.report.count('degenerate box', int(flat.sum()))
        dataset.report.count('box outside', int(outside.sum()))
    return samples


def _refuse_numbers(dataset: Any, samples: list[dict]) -> bool:
    """Stop at a box that holds something else than finite numbers; whether boxes have other than four numbers."""
    others = False
    for info in samples:
        for number, instance in enumerate(info['instances'], start=1):
            box = np.asarray(instance['bbox'], dtype=object).ravel().tolist()
            values = [as_number(value.item() if isinstance(value, np.generic) else value) for value in box]
            if None in values or not values or any(isinstance(value, str) for value in box):
                raise UserValueError(
                    f'{dataset.ann_file}: object {number} of {info.get("img_path")!r} has the box '
                    f'{short(instance["bbox"])}, which is not finite numbers'
                )
            others |= len(values) != 4
    return others


def _check_labels(dataset: Any, samples: list[dict], instances: list[dict], ignored: np.ndarray) -> None:
    classes = dataset.metainfo.get('classes')
    labels = np.array([instance['bbox_label'] for instance in instances])
    if classes is None or labels.dtype.kind not in 'iu':
        return
    wrong = np.flatnonzero(~ignored & ((labels < 0) | (labels >= len(classes))))
    if len(wrong):
        label, place = labels[wrong[0]], wrong[0]
        info = next(info for info in samples if (place := place - len(info['instances'])) < 0)
        raise UserValueError(
            f'{dataset.ann_file}: an object of {info.get("img_path")!r} has the label {label}, but there are '
            f'{len(classes)} classes, numbered from 0'
        )
