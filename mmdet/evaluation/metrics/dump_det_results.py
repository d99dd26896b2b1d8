from __future__ import annotations

from collections.abc import Sequence

from mmengine.evaluator import DumpResults
from mmengine.evaluator.metric import _to_cpu

from mmdet.registry import METRICS

from .pictures import PictureMetric, marks_of
from .samples import encode_masks


@METRICS.register_module()
class DumpDetResults(PictureMetric, DumpResults):
    """Write the predictions of every image once, masks as RLE and without ground truth, to a pickle file.

    ``tools/analysis_tools/eval_metric.py`` evaluates such a file.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for data_sample in _to_cpu(data_samples):
            kept = {
                key: value
                for key, value in data_sample.items()
                if key not in ('gt_instances', 'ignored_instances', 'gt_panoptic_seg', 'gt_sem_seg')
            }
            if 'masks' in kept.get('pred_instances', {}):
                kept['pred_instances'] = {
                    **kept['pred_instances'],
                    'masks': encode_masks(kept['pred_instances']['masks']),
                }
            self.results.append(kept)

    def compute_metrics(self, results: list) -> dict:
        return super().compute_metrics(self.tested(results, list(map(marks_of, results))))
