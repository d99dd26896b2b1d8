from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from mmengine.logging import MMLogger

from mmdet.errors import UserValueError
from mmdet.registry import METRICS

from ..functional.mean_ap import eval_map
from .pictures import PictureMetric, marks_of
from .samples import require_finite, to_numpy


class RowsByClass(Sequence):
    """Rows ``(m, 5)`` of one image, cut by class when they are asked for: most of hundreds of classes have none."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
        self.rows = rows[np.argsort(labels, kind='stable')]
        self.ends = np.searchsorted(np.sort(labels), np.arange(num_classes + 1))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index):
        return self.rows[self.ends[index] : self.ends[index + 1]]


@METRICS.register_module()
class OpenImagesMetric(PictureMetric):
    """Mean AP of Open Images (arXiv:1811.00982, Sec. 5.3.2): groups, a hierarchy of classes, and labels of images.

    The data samples need ``instances`` and, where they are used, ``image_level_labels`` among the ``meta_keys`` of
    PackDetInputs; the hierarchy is ``RELATION_MATRIX`` of the data set.

    Args:
        iou_thrs: One threshold or several; ``mAP`` is the mean over them.
        ioa_thrs: For each of them the part of a detection that lies inside a group-of box it belongs to.
        scale_ranges: ``(low, high)`` object sizes in pixels to evaluate apart; ``mAP`` is then their mean.
        use_group_of: Whether of all detections in one group-of box only the best counts.
        get_supercategory: Whether an object is one of its superclasses too.
        filter_labels: Whether detections are left out whose class, or one of its superclasses, is neither that of an
            object of the image nor one of its labels: nobody knows whether they are right.
    """

    default_prefix: str | None = 'openimages'

    def __init__(
        self,
        iou_thrs: float | Sequence[float] = 0.5,
        ioa_thrs: float | Sequence[float] | None = 0.5,
        scale_ranges: Sequence[tuple] | None = None,
        use_group_of: bool = True,
        get_supercategory: bool = True,
        filter_labels: bool = True,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.iou_thrs = [iou_thrs] if isinstance(iou_thrs, float) else list(iou_thrs)
        self.ioa_thrs = list(ioa_thrs) if isinstance(ioa_thrs, Sequence) else [ioa_thrs] * len(self.iou_thrs)
        if len(self.iou_thrs) != len(self.ioa_thrs):
            raise UserValueError(f'{len(self.iou_thrs)} iou_thrs need as many ioa_thrs, not {len(self.ioa_thrs)}.')
        if use_group_of and None in self.ioa_thrs:
            raise UserValueError('use_group_of=True needs ioa_thrs.')
        self.scale_ranges, self.use_group_of = scale_ranges, use_group_of
        self.get_supercategory, self.filter_labels = get_supercategory, filter_labels

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for data_sample in data_samples:
            if 'instances' not in data_sample:
                raise UserValueError(
                    "OpenImagesMetric needs 'instances' among the meta_keys of PackDetInputs in the test pipeline."
                )
            instances = list(data_sample['instances'])
            if self.get_supercategory:
                instances += self._get_supercategory_ann(instances, self._relations(data_sample))
            annotation = dict(
                picture=marks_of(data_sample),
                labels=np.array([instance['bbox_label'] for instance in instances], dtype=np.int64),
                bboxes=np.array([instance['bbox'] for instance in instances], dtype=np.float32).reshape(-1, 4),
                gt_is_group_ofs=np.array([instance['is_group_of'] for instance in instances], dtype=bool),
            )
            pred = data_sample['pred_instances']
            boxes, scores = to_numpy(pred['bboxes']).reshape(-1, 4), to_numpy(pred['scores'])
            require_finite(dict(bboxes=boxes, scores=scores), data_sample.get('img_id'))
            image_labels = data_sample.get('image_level_labels')
            found = self._process_predictions(
                boxes, scores, to_numpy(pred['labels']), instances, image_labels, self._relations(data_sample)
            )
            self.results.append((annotation, found))

    def _relations(self, data_sample: dict) -> np.ndarray:
        """``(C, C)``: 1 where the class of the row is that of the column, or below it."""
        relations = self.meta_of([marks_of(data_sample)]).get('RELATION_MATRIX')
        if relations is None:
            raise UserValueError("OpenImagesMetric needs 'RELATION_MATRIX' in the metainfo of the data set.")
        return relations

    def _get_supercategory_ann(self, instances: Sequence[dict], relations: np.ndarray | None = None) -> list[dict]:
        """Each instance once more for each of its superclasses."""
        relations = self._relations({}) if relations is None else relations
        return [
            {**instance, 'bbox_label': int(label)}
            for instance in instances
            for label in np.flatnonzero(relations[instance['bbox_label']])
            if label != instance['bbox_label']
        ]

    def _process_predictions(
        self,
        pred_bboxes: np.ndarray,
        pred_scores: np.ndarray,
        pred_labels: np.ndarray,
        gt_instances: Sequence[dict],
        image_level_labels: np.ndarray | None,
        relations: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, scores and labels with the detections of superclasses that the image is known to have or not to have,
        and without those of which nothing is known."""
        relations = self._relations({}) if relations is None else relations
        known = {instance['bbox_label'] for instance in gt_instances}
        known |= set(() if image_level_labels is None else to_numpy(image_level_labels).tolist())
        place, labels = np.arange(len(pred_labels)), np.array(pred_labels)
        for label in np.unique(pred_labels):
            for above in np.flatnonzero(relations[label]):
                if above in known and above != label:
                    place = np.append(place, np.flatnonzero(pred_labels == label))
                    labels = np.append(labels, np.full(len(place) - len(labels), above))
                elif above not in known and self.filter_labels:
                    place, labels = place[labels != label], labels[labels != label]
        return pred_bboxes[place], pred_scores[place], labels

    def compute_metrics(self, results: list) -> dict[str, float]:
        logger = MMLogger.get_current_instance()
        if not results:
            logger.error('OpenImagesMetric: there are no results to evaluate.')
            return OrderedDict()
        results = self.tested(results, [annotation['picture'] for annotation, _ in results])
        classes = self.meta_of([annotation['picture'] for annotation, _ in results])['classes']
        preds = [
            RowsByClass(np.concatenate([boxes, scores[:, None]], 1).astype(np.float32), labels, len(classes))
            for _, (boxes, scores, labels) in results
        ]
        numbers, mean_aps = OrderedDict(), []
        for iou_thr, ioa_thr in zip(self.iou_thrs, self.ioa_thrs, strict=True):
            logger.info(f'\n{"-" * 15}iou_thr, ioa_thr: {iou_thr}, {ioa_thr}{"-" * 15}')
            mean_ap, _ = eval_map(
                preds,
                [annotation for annotation, _ in results],
                scale_ranges=self.scale_ranges,
                iou_thr=iou_thr,
                ioa_thr=ioa_thr,
                dataset=classes,
                logger=logger,
                use_group_of=self.use_group_of,
            )
            mean_aps.append(np.mean(mean_ap))
            numbers[f'AP{round(iou_thr * 100):02d}'] = round(float(mean_aps[-1]), 3)
        numbers['mAP'] = float(np.mean(mean_aps))
        return numbers
