"""What a report tells that only the run itself knows: the first batches, and what the best epoch detected."""

from __future__ import annotations

import json
import math
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import collect_results, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmdet.apis.report_config import keep_changes
from mmdet.engine.hooks.checkpoint_hook import overall_metric, says_no_truth
from mmdet.evaluation.collected import Collected, picture_of, truth_of, with_detections
from mmdet.evaluation.metrics.samples import encode_masks
from mmdet.structures.mask import bitmaps_of

FOLDER, DETECTIONS = 'report', 'evaluation.npz'
SHOWN = 0.05  # the least score of a detection whose mask is kept


def harmless(method: Any) -> Any:
    """A report must not end a run: what goes wrong is logged."""

    @wraps(method)
    def call(self: Any, runner: Any, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, runner, *args, **kwargs)
        except Exception as error:
            if not self.failed:
                runner.logger.info(f'The report misses something: {type(error).__name__}: {error}', exc_info=True)
            self.failed = True

    return call


class ReportHook(Hook):
    """Keeps ``report/batch_*.jpg`` and ``report/evaluation.npz`` of the best epoch, in the work dir.

    Args:
        batches: Of the first how many to keep pictures.
        max_detections: Best of a picture that are kept.
    """

    priority = 'VERY_LOW'

    def __init__(self, batches: int = 2, max_detections: int = 100) -> None:
        self.batches, self.max_detections = batches, max_detections
        self.failed = False
        self._handle: Any = None
        self._seen = 0
        self._best: float | None = None
        self._found: list = []
        self._truth: dict[int, Collected] = {}

    # ----------------------------------------------------------------------------------------------------------------
    # Batches
    @harmless
    def before_train(self, runner: Any) -> None:
        self.folder = Path(runner.work_dir) / FOLDER
        if is_main_process():
            keep_changes(runner.cfg, self.folder)
        if runner.iter and (self.folder / DETECTIONS).is_file():
            self._best = Collected.load(self.folder / DETECTIONS).meta.get('score')
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if is_main_process() and self.batches and not runner.iter:
            self._handle = model.data_preprocessor.register_forward_hook(
                lambda module, inputs, batch: self._keep_batch(runner, module, batch)
            )

    @harmless
    def _keep_batch(self, runner: Any, preprocessor: Any, batch: Any) -> None:
        from mmdet.visualization import DetLocalVisualizer
        from mmdet.visualization.sheet import draw_sheet

        self._seen += 1
        if self._seen >= self.batches:
            self._handle.remove()
        inputs = batch['inputs'][:9]
        if getattr(preprocessor, '_enable_normalize', False):
            inputs = inputs * preprocessor.std + preprocessor.mean
        if getattr(preprocessor, '_channel_conversion', False) is False:
            inputs = inputs.flip(1)  # BGR, as it was read
        pictures = inputs.detach().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        visualizer = DetLocalVisualizer(name=f'report-batch-{id(self)}-{self._seen}')
        visualizer.dataset_meta = getattr(runner.train_dataloader.dataset, 'metainfo', None) or {}
        drawn = [
            visualizer.draw_datasample(picture, sample, draw_pred=False)
            for picture, sample in zip(pictures, batch['data_samples'], strict=False)
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        draw_sheet(drawn, self.folder / f'batch_{self._seen}.jpg', 3, (400, 400))

    # ----------------------------------------------------------------------------------------------------------------
    # Detections
    def before_val_epoch(self, runner: Any) -> None:
        self._found = []

    before_test_epoch = before_val_epoch

    @harmless
    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        for sample in outputs or ():
            found: Any = sample.pred_instances if 'pred_instances' in sample else {}
            if 'bboxes' in found and 'scores' in found:
                best = found.scores.argsort(descending=True)[: self.max_detections]
                columns = (found.bboxes[best], found.scores[best], found.labels[best])
                codes = _codes(found.masks, best, found.scores) if 'masks' in found else [None] * len(best)
                self._found.append((picture_of(sample), *(_array(column) for column in columns), codes))

    after_test_iter = after_val_iter

    @harmless
    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        self._end(runner, metrics, runner.val_dataloader.dataset, Path(runner.work_dir) / FOLDER, only_best=True)

    @harmless
    def after_test_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        self._end(runner, metrics, runner.test_dataloader.dataset, Path(runner._log_dir) / FOLDER, only_best=False)

    def _end(self, runner: Any, metrics: dict | None, dataset: Any, folder: Path, only_best: bool) -> None:
        found = collect_results(self._found, len(dataset)) if runner.world_size > 1 else self._found
        self._found = []
        numbers = {name: float(value) for name, value in (metrics or {}).items() if isinstance(value, (int, float))}
        if not found or not numbers or not is_main_process():
            return
        name = overall_metric(numbers)
        score = numbers[name]
        if only_best and (not math.isfinite(score) or says_no_truth(name, score)):
            return
        if only_best and self._best is not None and score <= self._best:
            return
        self._best = score
        if id(dataset) not in self._truth:
            self._truth[id(dataset)] = truth_of(dataset)
        kept = with_detections(self._truth[id(dataset)], found)
        training = runner._train_loop is not None and only_best
        place = dict(epoch=runner.epoch, iter=runner.iter) if training else {}
        checkpoint = {} if training else dict(checkpoint=str(runner._load_from))
        kept.meta = json.loads(json.dumps(dict(metric=name, score=score, metrics=numbers, **place, **checkpoint)))
        kept.save(folder / DETECTIONS)


def _array(value: Any) -> np.ndarray:
    value = getattr(value, 'tensor', value)
    return value.detach().float().cpu().numpy()


def _codes(masks: Any, rows: Any, scores: Any) -> list[Any]:
    """Codes of the masks of ``rows``; None for detections that score less than what is drawn."""
    shown = [row for row in rows.tolist() if scores[row] >= SHOWN]  # the best come first
    if not shown:
        return [None] * len(rows)
    codes = encode_masks([masks[row] for row in shown] if isinstance(masks, list) else bitmaps_of(masks[shown]))
    return [*codes, *[None] * (len(rows) - len(shown))]
