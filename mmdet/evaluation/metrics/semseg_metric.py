from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger, print_log
from torch import Tensor

from mmdet.errors import UserKeyError, UserValueError
from mmdet.registry import METRICS
from mmdet.utils.output_names import OutputNames

from .pictures import PictureMetric, marks_of

NUMBERS = {'mIoU': ('IoU', 'Acc'), 'mDice': ('Dice', 'Acc'), 'mFscore': ('Fscore', 'Precision', 'Recall')}
"""What each of ``iou_metrics`` tells of a class, beside the share of right pixels, ``aAcc``, of all."""


@METRICS.register_module()
class SemSegMetric(PictureMetric):
    """Semantic segmentation in percent, from the pixels of all pictures together.

    ``aAcc`` is the share of pixels that are right; names of means over the classes that there are begin with m. Of
    ``iou_metrics`` 'mIoU' gives ``mIoU`` and ``mAcc``, 'mDice' ``mDice`` and ``mAcc``, 'mFscore' ``mFscore``,
    ``mPrecision`` and ``mRecall``. Numbers have two digits after the point. A table of the classes goes to the log.

    Args:
        beta: Weight of recall against precision in the F-score.
        output_dir: Folder for the predicted maps, PNG files with the label of each pixel.
        format_only: Write them and evaluate nothing.
        ignore_index: Label that does not count, unless the ground truth of a picture says which.
        nan_to_num: Number for classes that neither ground truth nor predictions have; they count in the means then.
    """

    def __init__(
        self,
        iou_metrics: Sequence[str] = ['mIoU'],
        beta: int = 1,
        collect_device: str = 'cpu',
        output_dir: str | None = None,
        format_only: bool = False,
        backend_args: dict | None = None,
        prefix: str | None = None,
        ignore_index: int = 255,
        nan_to_num: float | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.metrics = [iou_metrics] if isinstance(iou_metrics, str) else list(iou_metrics)
        unknown = [name for name in self.metrics if name not in NUMBERS]
        if unknown or not self.metrics:
            raise UserValueError(f'iou_metrics={iou_metrics!r}: they are some of {", ".join(NUMBERS)}')
        if format_only and output_dir is None:
            raise UserValueError('format_only=True writes the predicted maps, so output_dir must say where.')
        self.beta = beta
        self.output_dir = output_dir
        self.format_only = format_only
        self.backend_args = backend_args
        self.ignore_index = ignore_index
        self.nan_to_num = nan_to_num
        self._names = OutputNames(by_stem=True)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for data_sample in data_samples:
            marks = marks_of(data_sample)
            if 'pred_sem_seg' not in data_sample:
                raise UserKeyError(f'{marks.get("img_path")}: the model has predicted no semantic map (pred_sem_seg)')
            pred = _labels(data_sample['pred_sem_seg'])
            if self.output_dir is not None:
                self._write(pred, str(marks.get('img_path')))
            areas = None if self.format_only else self._areas(pred, data_sample, marks)
            self.results.append((areas, marks))

    def _areas(self, pred: Tensor, data_sample: dict, marks: dict) -> tuple[Tensor, ...]:
        name, classes = marks.get('img_path'), self.meta_of([marks])['classes']
        if 'gt_sem_seg' not in data_sample:
            raise UserKeyError(
                f'{name} has no semantic map to compare with: the pipeline of the data set needs LoadAnnotations with '
                'with_seg=True'
            )
        label = _labels(data_sample['gt_sem_seg']).to(pred.device)
        if label.shape != pred.shape:
            raise UserValueError(
                f'{name}: the predicted map is {pred.shape[1]}x{pred.shape[0]}, the semantic map of the ground truth '
                f'{label.shape[1]}x{label.shape[0]}. In a test pipeline annotations are loaded after Resize'
            )
        ignored = _ignored(data_sample, self.ignore_index)
        wrong = (label != ignored) & (label >= len(classes))
        if bool(wrong.any()):
            raise UserValueError(
                f'{name}: its semantic map has the label {int(label[wrong][0])}, but the data set has {len(classes)} '
                f'classes, numbered from 0, and ignores {ignored}'
            )
        return self._compute_pred_stats(pred, label, len(classes), ignored)

    def _write(self, pred: Tensor, path: str) -> None:
        import cv2

        assert self.output_dir is not None
        file = Path(self.output_dir, self._names(path)).with_suffix('.png')
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), pred.cpu().numpy().astype(np.uint8))

    @staticmethod
    def _compute_pred_stats(
        pred_label: Tensor, label: Tensor, num_classes: int, ignore_index: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pixels of each class in one picture, ``(num_classes,)`` each: in both maps, in any, predicted, true."""
        counts = label != ignore_index
        pred_label, label = pred_label[counts].long(), label[counts].long()

        def area(labels: Tensor) -> Tensor:
            inside = labels[(labels >= 0) & (labels < num_classes)]
            return torch.bincount(inside, minlength=num_classes).cpu()

        both, predicted, true = area(label[label == pred_label]), area(pred_label), area(label)
        return both, predicted + true - both, predicted, true

    def compute_metrics(self, results: list) -> dict[str, float]:
        logger = MMLogger.get_current_instance()
        results = self.tested(results, [marks for _, marks in results])
        if self.format_only:
            logger.info(f'The predicted maps are saved in {self.output_dir}.')
            return OrderedDict()
        numbers = self.get_return_metrics([areas for areas, _ in results])
        classes = self.meta_of([marks for _, marks in results])['classes']
        summary = OrderedDict(
            ('aAcc' if name == 'aAcc' else f'm{name}', _mean(np.atleast_1d(values))) for name, values in numbers.items()
        )
        print_semantic_table(numbers, classes, logger)
        return summary

    def get_return_metrics(self, results: list) -> dict[str, np.ndarray]:
        """Numbers from 0 to 1: ``aAcc`` of all, and each other name for each class, (K,); NaN where there is nothing.

        Args:
            results: What :meth:`_compute_pred_stats` gives for each picture.
        """
        both, either, predicted, true = (torch.stack(areas).sum(0).double() for areas in zip(*results, strict=True))
        found = OrderedDict(aAcc=both.sum() / true.sum())
        recall, precision = both / true, both / predicted
        for metric in self.metrics:
            if metric == 'mIoU':
                found.update(IoU=both / either, Acc=recall)
            elif metric == 'mDice':
                found.update(Dice=2 * both / (predicted + true), Acc=recall)
            else:
                weight = self.beta**2
                score = (1 + weight) * precision * recall / (weight * precision + recall)
                found.update(Fscore=score, Precision=precision, Recall=recall)
        values = OrderedDict((name, value.numpy()) for name, value in found.items())
        if self.nan_to_num is not None:
            values = OrderedDict((name, np.nan_to_num(value, nan=self.nan_to_num)) for name, value in values.items())
        return values


def _labels(data: dict) -> Tensor:
    """``sem_seg`` as (h, w)."""
    labels = torch.as_tensor(data['sem_seg'])
    return labels.reshape(labels.shape[-2:])


def _ignored(data_sample: dict, default: int) -> int:
    for key in ('gt_sem_seg', 'pred_sem_seg'):
        if 'ignore_index' in data_sample[key]:
            return int(data_sample[key]['ignore_index'])
    return default


def _mean(values: np.ndarray) -> float:
    there = values[~np.isnan(values)]
    return round(100 * float(there.mean()), 2) if len(there) else float('nan')


def print_semantic_table(results: dict[str, np.ndarray], class_names: Sequence[str], logger: Any = None) -> None:
    """Log what :meth:`SemSegMetric.get_return_metrics` gives, in percent."""
    from terminaltables import AsciiTable

    numbers = {name: values for name, values in results.items() if name != 'aAcc'}
    rows = [['class', *numbers]]
    for index, name in enumerate(class_names):
        values = [values[index] for values in numbers.values()]
        rows.append([name, *('-' if np.isnan(value) else f'{100 * value:.2f}' for value in values)])
    rows.append(['mean', *(f'{_mean(values):.2f}' for values in numbers.values())])
    table = AsciiTable(rows)
    table.inner_footing_row_border = True
    print_log('Semantic segmentation:\n' + table.table, logger=logger)
