from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import Tensor

from mmdet.datasets.reading.odvg_file import phrase_of, write_lines
from mmdet.errors import UserKeyError
from mmdet.registry import METRICS
from mmdet.utils.score_thresholds import ScoreThresholds, resolve_score_thresholds

from .pictures import PictureMetric, marks_of

NUMBERS = ('bboxes', 'scores', 'labels')


@METRICS.register_module()
class DumpODVGResults(PictureMetric):
    """Write predictions as an ODVG file, which :class:`ODVGDataset` reads: labels for training, made by a detector.

    A sample with ``tokens_positive`` becomes a line of grounding, any other one of detection, whose classes are the
    list in its ``text``, the ``label_names`` of its predictions, or the classes of the data set.

    Args:
        img_prefix: Folder of the pictures, which file names are below of.
        score_thr: Detections with higher scores are written: a number, or one for each class (a list by label, a dict
            by class name, or a JSON file of either).
        nms_thr: Of detections of a class, or of a phrase, that overlap more, the surest stays.
    """

    default_prefix: str | None = 'pl_odvg'

    def __init__(
        self,
        outfile_path: str,
        img_prefix: str,
        score_thr: ScoreThresholds = 0.1,
        collect_device: str = 'cpu',
        nms_thr: float | None = 0.5,
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.outfile_path, self.img_prefix = outfile_path, img_prefix
        self.score_thr, self.nms_thr = score_thr, nms_thr

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        self.results += [(marks_of(data_sample), self.line(data_sample)) for data_sample in data_samples]

    def line(self, data_sample: dict) -> dict:
        """What is written of a picture."""
        height, width = data_sample['ori_shape'][:2]
        found = data_sample['pred_instances']
        bboxes, scores, labels = (torch.as_tensor(found[key]).detach().cpu() for key in NUMBERS)
        record = dict(filename=self._filename(data_sample['img_path']), height=int(height), width=int(width))
        if data_sample.get('tokens_positive') is not None:
            return dict(record, grounding=self._grounding(data_sample, bboxes, scores, labels))
        kept, categories = self.selected(data_sample)
        instances = [
            dict(
                bbox=_rounded(bboxes[i]),
                score=round(float(scores[i]), 4),
                label=int(labels[i]),
                category=category,
            )
            for i, category in zip(kept.tolist(), categories, strict=True)
        ]
        return dict(record, detection=dict(instances=instances))

    def selected(self, data_sample: dict) -> tuple[Tensor, list[str]]:
        """Which detections of classes are written, the surest first, and the name of each."""
        found = data_sample['pred_instances']
        bboxes, scores, labels = (torch.as_tensor(found[key]).detach().cpu() for key in NUMBERS)
        text = data_sample.get('text')
        if isinstance(text, (list, tuple)) or 'label_names' not in found:
            classes = list(text) if isinstance(text, (list, tuple)) else self._classes()
            names = [_name(classes, label) for label in labels.tolist()]
            thresholds = resolve_score_thresholds(self.score_thr, classes)
            if isinstance(thresholds, Tensor):
                thresholds = thresholds[labels]
        else:
            names = list(map(str, found['label_names']))
            thresholds = self.score_thr  # type: ignore[assignment]
            if not isinstance(thresholds, (int, float)):
                known = list(dict.fromkeys(names))
                by_name = resolve_score_thresholds(_of_known(self.score_thr, known), known)
                thresholds = torch.as_tensor(by_name)[[known.index(name) for name in names]]
        kept = (scores > thresholds).nonzero()[:, 0]
        kept = kept[self._suppressed(bboxes[kept], scores[kept], labels[kept])]
        return kept, [names[i] for i in kept.tolist()]

    def _classes(self) -> list[str]:
        meta = self.dataset_meta
        meta = meta[0] if isinstance(meta, (list, tuple)) else meta
        classes = (meta or {}).get('classes')
        if classes is None:
            raise UserKeyError(
                "DumpODVGResults does not know the names of the classes: put 'text' among the meta_keys of "
                'PackDetInputs, or give the data set classes'
            )
        return list(classes)

    def _filename(self, path: str) -> str:
        name = os.path.relpath(path, self.img_prefix)
        return str(path) if name.startswith('..') else name.replace(os.sep, '/')

    def _suppressed(self, bboxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """Places of what stays, the surest first."""
        if self.nms_thr is None:
            return scores.argsort(descending=True, stable=True)
        from torchvision.ops import batched_nms

        return batched_nms(bboxes.float(), scores.float(), labels, self.nms_thr)

    def _grounding(self, data_sample: dict, bboxes: Tensor, scores: Tensor, labels: Tensor) -> dict:
        caption, positives = data_sample['text'], data_sample['tokens_positive']
        if isinstance(positives, int):  # -1: the caption is one phrase
            positives = [[[0, len(caption)]]]
        elif isinstance(positives, dict):
            positives = [positives[label] for label in sorted(positives)]
        regions = []
        for label, spans in enumerate(positives):
            phrase = [caption[start:end] for start, end in spans]
            limit: Any = self.score_thr
            if not isinstance(limit, (int, float)):
                limit = resolve_score_thresholds(limit, [phrase_of(caption, spans)])
            own = ((labels == label) & (scores > limit)).nonzero()[:, 0]
            own = own[self._suppressed(bboxes[own], scores[own], torch.zeros_like(own))]
            regions.append(
                dict(
                    phrase=phrase,
                    bbox=[_rounded(bboxes[i]) for i in own.tolist()],
                    score=[round(float(scores[i]), 4) for i in own.tolist()],
                    tokens_positive=[list(span) for span in spans],
                )
            )
        return dict(caption=caption, regions=regions)

    def compute_metrics(self, results: list) -> dict:
        lines = [line for _, line in self.tested(results, [marks for marks, _ in results])]
        write_lines(self.outfile_path, lines)
        MMLogger.get_current_instance().info(f'{len(lines)} pictures with their labels are in {self.outfile_path}')
        return {}


def _rounded(box: Tensor) -> list[float]:
    return [round(value, 2) for value in box.tolist()]


def _name(classes: Sequence[str], label: int) -> str:
    return str(classes[label]) if label < len(classes) else f'class {label}'


def _of_known(thresholds: Any, names: Sequence[str]) -> Any:
    """Thresholds by name, of those names that a picture has."""
    is_table = isinstance(thresholds, Mapping)
    return {name: value for name, value in thresholds.items() if name in names} if is_table else thresholds
