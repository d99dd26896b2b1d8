"""Which pictures a metric is of: those of its annotation file that were tested, each once."""

from __future__ import annotations

import functools
import os.path as osp
import sys
from collections.abc import Hashable, Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from mmdet.errors import UserValueError

MARKS = ('img_id', 'img_path', 'ann_file', 'dataset_index')
"""What the metainfo of a data sample says of where it comes from: ``ann_file`` is written by the data set itself,
``dataset_index`` by a ``ConcatDataset``."""


def marks_of(data_sample: dict) -> dict[str, Any]:
    """Where a data sample comes from; what it does not say is missing."""
    return {name: data_sample[name] for name in MARKS if name in data_sample}


def source_of(marks: dict) -> Hashable:
    """What tells the data set of a picture from others."""
    source = marks.get('ann_file')
    return same_file(source) if source is not None else marks.get('dataset_index')


def picture_key(marks: dict) -> Hashable:
    """The same for two results of one picture only; ``None`` where an id is all that is known.

    An id is unique in its annotation file, not among several, and not where one file describes two folders.
    """
    if 'ann_file' not in marks and 'img_path' not in marks:
        return None
    return source_of(marks), marks.get('img_id'), marks.get('img_path')


@functools.cache
def same_file(path: str) -> str:
    """One text for all ways to write the path of a file."""
    return path if '://' in path else osp.realpath(path)


class PictureMetric(BaseMetric):
    """Base of metrics that count each picture once, and only those of their own annotation file.

    Other numbers of processes or another order of the batches make a loader give some pictures twice, which BaseMetric
    drops by their place; here they are told by what they are.

    Attributes:
        ann_file: Annotation file of the metric, ``None`` if it takes the ground truth from the data samples.
    """

    ann_file: str | None = None
    _size: int | None = None
    _dataset_meta: Any

    def evaluate(self, size: int) -> dict:
        """The numbers of all results that the processes hold; ``size`` is that of the data set."""
        self._size = size
        ours = type(self).compute_metrics.__module__.startswith('mmdet.')  # which tell repetitions themselves
        try:
            return super().evaluate(sys.maxsize if ours else size)
        finally:
            self._size = None

    def tested(self, results: Sequence, marks: Sequence[dict]) -> list:
        """The results of this metric, without repetitions; ``marks`` says of each what it is of (:func:`marks_of`)."""
        logger = MMLogger.get_current_instance()
        keys = [picture_key(mark) for mark in marks]
        chosen: Sequence[int] = range(len(results))
        sources = {mark.get('ann_file') for mark in marks}
        if self.ann_file is not None and len(sources) > 1:
            same = {source for source in sources if source and same_file(source) == same_file(self.ann_file)}
            if same:
                chosen = [i for i in chosen if marks[i].get('ann_file') in same]
                logger.info(f'{len(chosen)} of {len(results)} pictures are those of {self.ann_file}.')
        if not any(keys):
            return list(results)[: self._size]
        once: dict[Hashable, int] = {}
        for i in chosen:
            once.setdefault(i if keys[i] is None else keys[i], i)
        if len(once) < len(chosen):
            logger.info(f'{len(chosen) - len(once)} results are of pictures that came before, and do not count.')
        return [results[i] for i in once.values()]

    def meta_of(self, marks: Sequence[dict]) -> dict:
        """The ``metainfo`` of the data set that the pictures are of.

        Raises:
            UserValueError: they are of several with different classes.
        """
        meta: Any = self.dataset_meta
        if not isinstance(meta, (list, tuple)):
            if not meta or meta.get('classes') is None:
                raise UserValueError(
                    f'{type(self).__name__} does not know the names of the classes: the data set has no metainfo with '
                    "'classes', and dataset_meta of the metric was not set"
                )
            return meta
        indices = sorted({mark.get('dataset_index', 0) for mark in marks}) or [0]
        chosen = [meta[index] for index in indices]
        if any(tuple(one['classes']) != tuple(chosen[0]['classes']) for one in chosen):
            raise UserValueError(
                f'{type(self).__name__} is given pictures of {len(chosen)} data sets with different classes. '
                'MultiDatasetsEvaluator has a metric for each; or give each metric the ann_file of its data set'
            )
        return chosen[0]
