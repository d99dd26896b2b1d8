from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement

from mmdet.errors import UserKeyError, UserValueError
from mmdet.registry import EVALUATOR, METRICS


@EVALUATOR.register_module()
class MultiDatasetsEvaluator(Evaluator):
    """A metric for each data set of a ``ConcatDataset``.

    A metric is given the results of its data set alone, and that data set's ``metainfo``. A result knows by
    ``dataset_index`` which it is of. Metrics that are appended later, as ``tools/test.py --out`` does, see all results.

    Args:
        metrics: As many as the ``ConcatDataset`` has data sets, in the same order.
        dataset_prefixes: The names of the data sets, which go before those of their numbers:
            ``{prefix}/coco/bbox_mAP``.

    Raises:
        UserValueError: the numbers of metrics, prefixes and data sets differ, or two prefixes are equal.
    """

    def __init__(self, metrics: Any, dataset_prefixes: Sequence[str]) -> None:
        metrics = list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
        super().__init__([METRICS.build(metric) if isinstance(metric, dict) else metric for metric in metrics])
        self.dataset_prefixes = list(dataset_prefixes)
        if len(self.dataset_prefixes) != len(self.metrics):
            raise UserValueError(
                f'MultiDatasetsEvaluator has {len(self.metrics)} metrics, but {len(self.dataset_prefixes)} '
                f'dataset_prefixes: {", ".join(map(str, self.dataset_prefixes))}'
            )
        if len(set(self.dataset_prefixes)) < len(self.dataset_prefixes):
            raise UserValueError(f'dataset_prefixes are not distinct: {", ".join(map(str, self.dataset_prefixes))}')

    @property
    def dataset_meta(self) -> Any:
        """``metainfo`` of the ``ConcatDataset``: one, or a list where the data sets have different classes."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: Any) -> None:
        self._dataset_meta = dataset_meta
        count = len(self.dataset_prefixes)
        metas = dataset_meta if isinstance(dataset_meta, (list, tuple)) else [dataset_meta] * count
        self._require_as_many(len(metas))
        for metric, meta in zip(self.metrics, metas, strict=False):
            metric.dataset_meta = meta
        for metric in self.metrics[count:]:
            metric.dataset_meta = dataset_meta

    def process(self, data_samples: Sequence, data_batch: Any = None) -> None:
        """Give each result to the metric of its data set."""
        samples = [sample.to_dict() if isinstance(sample, BaseDataElement) else sample for sample in data_samples]
        mine: list[list[dict]] = [[] for _ in self.dataset_prefixes]
        for sample in samples:
            index = sample.get('dataset_index')
            if index is None:
                raise UserKeyError(
                    'MultiDatasetsEvaluator needs to know which data set a result is of, but image '
                    f'{sample.get("img_id")!r} has no dataset_index: the data set must be a ConcatDataset'
                )
            if not 0 <= index < len(mine):
                self._require_as_many(index + 1)
            mine[index].append(sample)
        for metric, own in zip(self.metrics, mine, strict=False):
            if own:
                metric.process(data_batch, own)
        for metric in self.metrics[len(mine) :]:
            metric.process(data_batch, samples)

    def evaluate(self, size: int) -> dict[str, float]:
        """The numbers of all metrics, each with the prefix of its data set."""
        ends = self._get_cumulative_sizes()
        sizes = [end - start for start, end in pairwise([0, *ends])] if ends else [size] * len(self.dataset_prefixes)
        self._require_as_many(len(sizes))
        numbers: dict[str, float] = OrderedDict()
        for prefix, metric, own in zip(self.dataset_prefixes, self.metrics, sizes, strict=False):
            numbers.update({f'{prefix}/{name}': value for name, value in metric.evaluate(own).items()})
        for metric in self.metrics[len(sizes) :]:
            numbers.update(metric.evaluate(size))
        return numbers

    def _get_cumulative_sizes(self) -> list[int]:
        """At which sample each data set ends; empty where the ``metainfo`` does not say it."""
        meta: Any = self.dataset_meta
        meta = meta[0] if isinstance(meta, (list, tuple)) and meta else meta
        return list((meta or {}).get('cumulative_sizes', ()))

    def _require_as_many(self, count: int) -> None:
        if count != len(self.dataset_prefixes):
            raise UserValueError(
                f'MultiDatasetsEvaluator has {len(self.dataset_prefixes)} metrics for {count} data sets: it needs one '
                'for each data set of the ConcatDataset, in the same order'
            )
