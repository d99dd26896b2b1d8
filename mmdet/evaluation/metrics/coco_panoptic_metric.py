from __future__ import annotations

import json
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import dump, get_local_path
from mmengine.logging import MMLogger, print_log

from mmdet.errors import UserKeyError, UserRuntimeError, UserValueError
from mmdet.registry import METRICS
from mmdet.utils.output_names import OutputNames

from ..functional.panoptic import VOID, id2rgb, panoptic_counts, panoptic_quality, read_panoptic_map
from .pictures import PictureMetric, marks_of, same_file
from .samples import to_numpy


@METRICS.register_module()
class CocoPanopticMetric(PictureMetric):
    """Panoptic, segmentation and recognition quality in percent: of all, of things (``_th``) and of stuff (``_st``).

    Args:
        ann_file: Ground truth in COCO's panoptic format. ``None`` takes ``segments_info`` and ``seg_map_path`` of the
            data samples.
        seg_prefix: Folder of the PNG files of ``ann_file``.
        classwise: Print a table with each class.
        format_only: Write the predictions and evaluate nothing; needs ``outfile_prefix``.
        outfile_prefix: Path and name without suffix: ``.panoptic.json`` and a folder ``.panoptic`` of PNG files follow.
        nproc: Accepted for compatibility; each image is counted when it is predicted.
    """

    default_prefix: str | None = 'coco_panoptic'

    def __init__(
        self,
        ann_file: str | None = None,
        seg_prefix: str | None = None,
        classwise: bool = False,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        nproc: int = 32,
        file_client_args: dict | None = None,
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if file_client_args is not None:
            raise UserRuntimeError('file_client_args is no longer taken; use backend_args (see mmengine.fileio).')
        if format_only and outfile_prefix is None:
            raise UserValueError('format_only=True writes result files, so outfile_prefix must say where.')
        if ann_file is not None and seg_prefix is None:
            raise UserValueError('ann_file needs seg_prefix, the folder of its PNG files.')
        self.ann_file = ann_file
        self._foreign = 0
        self._names = OutputNames(by_stem=True)
        self.seg_prefix = seg_prefix
        self.classwise = classwise
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.backend_args = backend_args
        self._truth = self._categories = None
        if ann_file is not None:
            with get_local_path(ann_file, backend_args=backend_args) as path:
                content = json.loads(Path(path).read_bytes())
            for key in ('annotations', 'categories'):
                if key not in content:
                    raise UserKeyError(
                        f'{ann_file}: a COCO panoptic annotation file needs a list under the key {key!r}.'
                    )
            self._truth = {entry['image_id']: entry for entry in content['annotations']}
            self._categories = content['categories']

    def categories(self) -> list[dict]:
        """``id``, ``name`` and ``isthing`` of each label."""
        meta = self.meta_of([])
        classes = meta['classes']
        if self._categories is None:
            things = set(meta.get('thing_classes', classes))
            return [dict(id=i, name=name, isthing=int(name in things)) for i, name in enumerate(classes)]
        by_name = {category['name']: category for category in self._categories}
        missing = [name for name in classes if name not in by_name]
        if missing:
            raise UserValueError(f'The annotations have no category {", ".join(map(repr, missing[:5]))}.')
        return [by_name[name] for name in classes]

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        categories = self.categories()
        for data_sample in data_samples:
            marks = marks_of(data_sample)
            if self.ann_file and 'dataset_index' in marks and same_file(marks.get('ann_file', '')) != self._own_file:
                self._foreign += 1
                continue
            pred, labels = self._segments(data_sample)
            ids = {segment: categories[label]['id'] for segment, label in labels.items()}
            if self.outfile_prefix is not None:
                written = self._write(data_sample, pred, ids)
                if self.format_only:
                    self.results.append((None, written, marks))
                    continue
            else:
                written = None
            truth, truth_ids, crowds = self._ground_truth(data_sample, categories)
            self.results.append((panoptic_counts(truth, pred, truth_ids, ids, crowds), written, marks))

    @property
    def _own_file(self) -> str | None:
        return None if self.ann_file is None else same_file(self.ann_file)

    def _segments(self, data_sample: dict) -> tuple[np.ndarray, dict[int, int]]:
        """The predicted map, with ids from 1 and 0 for void, and the label of each id."""
        from mmdet.structures.mask import INSTANCE_OFFSET

        coded = to_numpy(data_sample['pred_panoptic_seg']['sem_seg']).reshape(data_sample['ori_shape'][:2])
        values, inverse = np.unique(coded, return_inverse=True)
        classes = len(self.meta_of([marks_of(data_sample)])['classes'])
        labels = values.astype(np.int64) % INSTANCE_OFFSET
        ids = np.where(labels < classes, np.arange(1, len(values) + 1), VOID)
        found = {int(i): int(label) for i, label in zip(ids, labels, strict=True) if i != VOID}
        return ids[inverse].reshape(coded.shape), found

    def _ground_truth(self, data_sample: dict, categories: list[dict]) -> tuple[np.ndarray, dict[int, int], set[int]]:
        if self._truth is not None:
            entry = self._truth.get(data_sample['img_id'])
            if entry is None:
                raise UserValueError(f'The annotations have no image {data_sample["img_id"]!r}.')
            path = f'{str(self.seg_prefix).rstrip("/")}/{entry["file_name"]}'
            known = {category['id'] for category in categories}
            segments = [s for s in entry['segments_info'] if s['category_id'] in known]
            ids = {s['id']: s['category_id'] for s in segments}
        else:
            if 'segments_info' not in data_sample or 'seg_map_path' not in data_sample:
                raise UserValueError(
                    'CocoPanopticMetric without ann_file needs segments_info and seg_map_path among the meta_keys of '
                    'PackDetInputs.'
                )
            path = data_sample['seg_map_path']
            segments = data_sample['segments_info']
            ids = {s['id']: categories[s['category']]['id'] for s in segments}
        crowds = {s['id'] for s in segments if s.get('iscrowd', 0)}
        return read_panoptic_map(path, self.backend_args), ids, crowds

    def _write(self, data_sample: dict, pred: np.ndarray, ids: dict[int, int]) -> dict:
        import cv2

        folder = Path(f'{self.outfile_prefix}.panoptic')
        folder.mkdir(parents=True, exist_ok=True)
        name = str(Path(self._names(data_sample['img_path'])).with_suffix('.png'))
        cv2.imwrite(str(folder / name), id2rgb(pred)[..., ::-1])
        area = np.bincount(pred.ravel(), minlength=max(ids, default=0) + 1)
        segments = [dict(id=i, category_id=category, area=int(area[i])) for i, category in ids.items()]
        return dict(image_id=data_sample['img_id'], file_name=name, segments_info=segments)

    def compute_metrics(self, results: list) -> dict[str, float]:
        logger = MMLogger.get_current_instance()
        if not results and self._foreign:
            raise UserValueError(
                f'None of the {self._foreign} pictures tested is of {self.ann_file}, the ann_file of the metric: the '
                'data sets of the ConcatDataset have others'
            )
        self._foreign = 0
        results = self.tested(results, [marks for *_, marks in results])
        if self.outfile_prefix is not None:
            written = [entry for _, entry, _ in results]
            path = f'{self.outfile_prefix}.panoptic.json'
            dump(dict(annotations=written, categories=self.categories()), path)
            logger.info(f'The predictions are saved as {path}.')
            if self.format_only:
                return OrderedDict()
        sums: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(4))
        for counts, *_ in results:
            for category, values in counts.items():
                sums[category] += values
        categories = self.categories()
        quality = 100 * panoptic_quality(np.stack([sums[category['id']] for category in categories]))  # (K, 3)
        isthing = np.array([bool(category.get('isthing', 1)) for category in categories])
        groups: dict[str, dict] = {}
        classwise: dict[str, dict] | None = None
        for name, group in (('All', isthing | True), ('Things', isthing), ('Stuff', ~isthing)):
            values = quality[group]
            values = values[~np.isnan(values[:, 0])]
            mean = values.mean(0) if len(values) else np.zeros(3)
            groups[name] = dict(zip(('pq', 'sq', 'rq'), map(float, mean), strict=True), n=len(values))
        if self.classwise:
            names = [category['name'] for category in categories]
            classwise = {
                name: dict(zip(('pq', 'sq', 'rq'), values, strict=True))
                for name, values in zip(names, quality, strict=True)
            }
        print_panoptic_table(groups, classwise, logger)
        return parse_pq_results(groups)


def parse_pq_results(pq_results: dict[str, dict]) -> dict[str, float]:
    """``PQ``, ``SQ`` and ``RQ``, also with ``_th`` and ``_st``, from the results of All, Things and Stuff."""
    return OrderedDict(
        (f'{name.upper()}{suffix}', pq_results[group][name])
        for group, suffix in (('All', ''), ('Things', '_th'), ('Stuff', '_st'))
        for name in ('pq', 'sq', 'rq')
    )


def print_panoptic_table(
    pq_results: dict[str, dict], classwise_results: dict[str, dict] | None = None, logger: Any = None
) -> None:
    """Log ``pq``, ``sq``, ``rq`` and ``n`` of All, Things and Stuff, and of each class where they are given."""
    from terminaltables import AsciiTable

    rows = [['', 'PQ', 'SQ', 'RQ', 'categories']]
    for group in ('All', 'Things', 'Stuff'):
        result = pq_results[group]
        rows.append([group, *(f'{result[name]:.3f}' for name in ('pq', 'sq', 'rq')), str(result['n'])])
    print_log('Panoptic quality:\n' + AsciiTable(rows).table, logger=logger)
    if classwise_results is not None:
        rows = [['category', 'PQ', 'SQ', 'RQ']]
        for name, result in classwise_results.items():
            rows.append([name, *('-' if np.isnan(result[q]) else f'{result[q]:.3f}' for q in ('pq', 'sq', 'rq'))])
        print_log('\n' + AsciiTable(rows).table, logger=logger)
