"""What no loss may see: boxes that are no numbers or have no area, and labels of no class."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmdet.errors import UserKeyError, UserValueError

FARTHEST = 1e7
"""Coordinate beyond which areas and distances lose their meaning in 32 bits."""


_LOADED_BY = {'bboxes': 'with_bbox=True', 'masks': 'with_mask=True'}


def check_ground_truth(
    samples: Sequence[Any],
    num_labels: int | None = None,
    needed: Sequence[str] = (),
    semantic_labels: tuple[int, int] | None = None,
) -> int:
    """Check the ground truth of a training batch while it lies on the host; what lies on a device is not looked at.

    Boxes without area, which an augmentation leaves at a border, are taken out of ``gt_instances``, in place.

    Args:
        samples: Data samples with ``gt_instances`` and perhaps ``ignored_instances``.
        num_labels: Labels are below it, where it is known.
        needed: ``'bboxes'`` and ``'masks'``, if ``gt_instances`` must have them.
        semantic_labels: Labels of ``gt_sem_seg`` are below the first number, or are the second, which is ignored.

    Returns:
        How many boxes were taken out.

    Raises:
        UserKeyError: nothing has loaded what is needed.
        UserValueError: for a coordinate that is not finite, or a label of no class; with the path of the picture.
    """
    for name in needed:
        instances = [sample.get('gt_instances') for sample in samples]
        if instances and not any(each is not None and name in each for each in instances):
            raise UserKeyError(
                f'{_name(samples[0])}: its ground truth has no {name}, which this model learns from: the pipeline of '
                f'train_dataloader needs LoadAnnotations with {_LOADED_BY[name]}'
            )
    if semantic_labels is not None:
        _check_semantic(samples, *semantic_labels)
    found = [
        (sample, name, boxes)
        for sample in samples
        for name in ('gt_instances', 'ignored_instances')
        if (boxes := _on_host(sample, name, 'bboxes')) is not None
    ]
    if not found or torch._C._len_torch_dispatch_stack():  # values of fake tensors cannot be looked at
        return 0
    flat = torch.cat([boxes.reshape(-1) for *_, boxes in found])
    if not bool((flat.abs() <= FARTHEST).all()):
        _refuse_boxes(found)
    labels = [
        (sample, label)
        for sample in samples
        if (label := _on_host(sample, 'gt_instances', 'labels')) is not None and not label.is_floating_point()
    ]
    if labels:
        together = torch.cat([label.reshape(-1) for _, label in labels])
        low, high = (int(bound) for bound in together.aminmax())
        if low < 0 or (num_labels is not None and high >= num_labels):
            _refuse_labels(labels, num_labels)
    plain = [(sample, boxes) for sample, name, boxes in found if name == 'gt_instances' and boxes.shape[-1] == 4]
    if not plain:
        return 0
    together = torch.cat([boxes for _, boxes in plain])
    has_area = (together[:, 2:] > together[:, :2]).all(1)
    if bool(has_area.all()):
        return 0
    for (sample, _), keep in zip(plain, has_area.split([len(boxes) for _, boxes in plain]), strict=True):
        if not bool(keep.all()):
            sample.gt_instances = sample.gt_instances[keep]
            message = f'{_name(sample)}: {int((~keep).sum())} boxes without area were left out of training'
            print_log(message, 'current', logging.WARNING)
    return int((~has_area).sum())


def _on_host(sample: Any, name: str, key: str) -> Tensor | None:
    """A field of instances, if there is something in it and it is a tensor on the host."""
    instances = sample.get(name)
    value = None if instances is None else instances.get(key)
    value = getattr(value, 'tensor', value)
    return value if isinstance(value, Tensor) and value.device.type == 'cpu' and len(value) else None


def _check_semantic(samples: Sequence[Any], count: int, ignored: int) -> None:
    if torch._C._len_torch_dispatch_stack():
        return
    for sample in samples:
        labels = _on_host(sample, 'gt_sem_seg', 'sem_seg')
        if labels is None:
            continue
        wrong = (labels != ignored) & ((labels >= count) | (labels < 0))
        if bool(wrong.any()):
            raise UserValueError(
                f'{_name(sample)}: its semantic map has the label {int(labels[wrong][0])}, but the model has the '
                f'classes 0 to {count - 1} and ignores {ignored}'
            )


def _name(sample: Any) -> str:
    metainfo = getattr(sample, 'metainfo', {})
    return str(metainfo.get('img_path') or f'image {metainfo.get("img_id")!r}')


def _refuse_boxes(found: Sequence[tuple[Any, str, Tensor]]) -> None:
    for sample, name, boxes in found:
        wrong = ~(boxes.abs() <= FARTHEST).flatten(1).all(1)
        if bool(wrong.any()):
            number = int(wrong.nonzero()[0])
            raise UserValueError(
                f'{_name(sample)}: box {number} of its {name} is {boxes[number].tolist()} after the transforms, '
                'which no loss can be computed of'
            )


def _refuse_labels(labels: Sequence[tuple[Any, Tensor]], num_labels: int | None) -> None:
    for sample, label in labels:
        wrong = (label < 0) | (label >= num_labels if num_labels is not None else False)
        if bool(wrong.any()):
            number = int(wrong.nonzero()[0])
            among = '' if num_labels is None else f', but the model has the classes 0 to {num_labels - 1}'
            raise UserValueError(f'{_name(sample)}: box {number} has the label {int(label[number])}{among}')
