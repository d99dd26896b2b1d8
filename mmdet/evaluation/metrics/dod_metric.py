from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from mmengine.fileio import dump
from mmengine.logging import MMLogger

from mmdet.errors import UserKeyError, UserValueError
from mmdet.registry import METRICS

from ..functional.coco_eval import average_precision, evaluate_coco, load_coco, summarize, summary_table
from .expressions import boxes_of
from .pictures import PictureMetric

LENGTHS = {'short': (0, 3), 'mid': (4, 6), 'long': (7, 9), 'very_long': (10, None)}
"""Groups of descriptions by their first and last number of words (arXiv:2307.12813, Sec. 4)."""


@METRICS.register_module()
class DODCocoMetric(PictureMetric):
    """AP of described objects (D3, arXiv:2307.12813): the numbers of COCO, and the AP of descriptions by length.

    Gives ``mAP``, ``mAP_50``, ``mAP_75``, ``mAP_s``, ``mAP_m``, ``mAP_l``, and ``mAP_short`` (up to three words),
    ``mAP_mid`` (to six), ``mAP_long`` (to nine) and ``mAP_very_long``; -1 where there is no such description.

    Args:
        ann_file: COCO file whose categories are the descriptions. A data sample has ``sent_ids``, their ids by label.
        outfile_prefix: Write the detections to ``{prefix}.bbox.json``.
    """

    default_prefix: str | None = 'dod'

    def __init__(
        self,
        ann_file: str | None = None,
        collect_device: str = 'cpu',
        outfile_prefix: str | None = None,
        backend_args: dict | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if ann_file is None:
            raise UserValueError('DODCocoMetric needs ann_file, whose categories are the descriptions')
        self.ann_file, self.outfile_prefix, self.backend_args = ann_file, outfile_prefix, backend_args
        self._coco_api = load_coco(ann_file, backend_args=backend_args)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for data_sample in data_samples:
            if 'sent_ids' not in data_sample:
                raise UserKeyError("DODCocoMetric needs 'sent_ids' among the meta_keys of PackDetInputs")
            result = boxes_of(data_sample)
            sent_ids, labels = np.asarray(data_sample['sent_ids']), result['labels'].astype(int)
            if len(labels) and labels.max() >= len(sent_ids):
                raise UserValueError(
                    f'image {result["img_id"]!r} has a detection with label {labels.max()}, but {len(sent_ids)} '
                    'descriptions'
                )
            self.results.append(dict(result, categories=sent_ids[labels].tolist()))

    def xyxy2xywh(self, bbox: np.ndarray) -> list:
        """Corners to corner and size, as Python numbers."""
        x1, y1, x2, y2 = np.asarray(bbox, dtype=float).tolist()
        return [x1, y1, x2 - x1, y2 - y1]

    def results2json(self, results: Sequence[dict]) -> list[dict]:
        """COCO's result entries."""
        return [
            dict(image_id=result['img_id'], category_id=category, bbox=self.xyxy2xywh(box), score=float(score))
            for result in results
            for box, score, category in zip(result['bboxes'], result['scores'], result['categories'], strict=True)
        ]

    def compute_metrics(self, results: list) -> dict[str, float]:
        logger = MMLogger.get_current_instance()
        results = self.tested(results, results)
        detections = self.results2json(results)
        if self.outfile_prefix is not None:
            dump(detections, f'{self.outfile_prefix}.bbox.json')
        ids = self._coco_api.getCatIds()
        evaluator = evaluate_coco(
            self._coco_api, detections, 'bbox', ids, [result['img_id'] for result in results], max_dets=(1, 10, 100)
        )
        logger.info('\n' + summary_table(evaluator))
        numbers = {name: value for name, value in summarize(evaluator).items() if name.startswith('mAP')}
        values = [average_precision(evaluator, category=place) for place in range(len(ids))]
        words = [len(self._coco_api.cats[own]['name'].split(' ')) for own in ids]
        for name, (first, last) in LENGTHS.items():
            own = [
                value
                for value, count in zip(values, words, strict=True)
                if value > -1 and first <= count <= (last or count)
            ]
            numbers[f'mAP_{name}'] = float(np.mean(own)) if own else -1.0
            logger.info(f'mAP_{name} of {len(own)} descriptions: {numbers[f"mAP_{name}"]:.4f}')
        return OrderedDict(numbers)
