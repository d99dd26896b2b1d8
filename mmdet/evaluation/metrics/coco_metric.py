from __future__ import annotations

import datetime
from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import dump, load
from mmengine.logging import MMLogger

from mmdet.datasets.api_wrappers.columns import Objects, id_column
from mmdet.errors import UserKeyError, UserRuntimeError, UserValueError
from mmdet.registry import METRICS

from ..functional.coco_eval import (
    AREAS,
    average_precision,
    category_ids,
    class_score_thresholds,
    evaluate_coco,
    load_coco,
    summarize,
    summary_table,
)
from ..functional.recall import eval_recalls
from .pictures import PictureMetric, marks_of, source_of
from .samples import annotations_of, encode_masks, require_finite, to_numpy

DIGITS = 10  # below the noise of the sums, so that a perfect score reads 1.0


@METRICS.register_module()
class CocoMetric(PictureMetric):
    """AP and AR of boxes, masks and proposals as COCO defines them; https://cocodataset.org/#detection-eval.

    The pictures that were tested are evaluated, each once: a part of ``ann_file`` where the data set is one, and of a
    ``ConcatDataset`` those whose annotation file is ``ann_file``.

    Args:
        ann_file: Ground truth in COCO format. ``None`` builds it from the ``instances`` (or the ``gt_instances``, in
            pixels of the original image) of the data samples.
        metric: One or several of ``bbox``, ``segm``, ``proposal`` (COCO's AR of class-agnostic boxes) and
            ``proposal_fast`` (the same without area ranges, crowd regions left out, matched greedily by IoU).
        classwise: Add a table with the AP of each class, and ``{class}_precision`` to the results.
        proposal_nums: Detections an image that are evaluated. AP is taken at 100 where that is one of them.
        iou_thrs: 0.50:0.05:0.95 by default.
        metric_items: Names of the numbers to return: ``mAP``, ``mAP_50``, ``mAP_75``, ``mAP_s``, ``mAP_m``,
            ``mAP_l``, and recall at each of ``proposal_nums``: ``AR@100``, ``AR@300``, ``AR@1000``, ``AR_s@1000``,
            ``AR_m@1000``, ``AR_l@1000``.
        format_only: Write the result files and evaluate nothing; needs ``outfile_prefix``.
        outfile_prefix: Path and file name without suffix; ``.bbox.json`` and ``.segm.json`` follow.
        sort_categories: Order the categories of the annotation file by id first (Objects365 v1).
        use_mp_eval: Accepted for the configs that set it; evaluation needs no processes.
        use_faster_coco_eval: The backend, of equal numbers: ``True`` for hotcoco, ``False`` for pycocotools, or a name.
        class_thresholds: For each class find the score that maximises the F-measure at IoU 0.5, print these and write
            them as ``class_thresholds.json`` beside the results (in the work directory), or to the path given here.
    """

    default_prefix: str | None = 'coco'
    allowed_metrics = ('bbox', 'segm', 'proposal', 'proposal_fast')

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = 'bbox',
        classwise: bool = False,
        proposal_nums: Sequence[int] = (100, 300, 1000),
        iou_thrs: float | Sequence[float] | None = None,
        metric_items: Sequence[str] | None = None,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        file_client_args: dict | None = None,
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        sort_categories: bool = False,
        use_mp_eval: bool = False,
        use_faster_coco_eval: bool | str = True,
        class_thresholds: bool | str = False,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.metrics = [metric] if isinstance(metric, str) else list(metric)
        for name in self.metrics:
            if name not in self.allowed_metrics:
                raise UserKeyError(f'metric should be one of {", ".join(self.allowed_metrics)}, got {name!r}.')
        if file_client_args is not None:
            raise UserRuntimeError('file_client_args is no longer taken; use backend_args (see mmengine.fileio).')
        if format_only and outfile_prefix is None:
            raise UserValueError('format_only=True writes result files, so outfile_prefix must say where.')
        self.classwise = classwise
        self.use_mp_eval = use_mp_eval
        self.use_faster_coco_eval = use_faster_coco_eval
        self.class_thresholds = class_thresholds
        self.proposal_nums = list(proposal_nums)
        thresholds = np.linspace(0.5, 0.95, 10) if iou_thrs is None else iou_thrs
        self.iou_thrs = [thresholds] if isinstance(thresholds, (int, float)) else thresholds
        self.metric_items = [metric_items] if isinstance(metric_items, str) else metric_items
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.backend_args = backend_args
        self.sort_categories = sort_categories
        self.ann_file = ann_file
        self._coco_api: Any = None
        if ann_file is not None:
            self._coco_api = load_coco(ann_file, True, sort_categories, backend_args, truth=not format_only)
        self.cat_ids: Any = None  # by label, once the classes are known; None where the annotations lack the class
        self.img_ids: Any = None

    # -- collecting ------------------------------------------------------------------------------------------------

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep what is evaluated of each image as numpy arrays, masks as RLE."""
        for data_sample in data_samples:
            self.results.append((self._ground_truth(data_sample), self._prediction(data_sample)))

    def _prediction(self, data_sample: dict) -> dict:
        pred = data_sample['pred_instances']
        result = dict(img_id=data_sample['img_id'])
        for key in ('bboxes', 'scores', 'labels', 'mask_scores'):
            if key in pred:
                result[key] = to_numpy(pred[key])
        require_finite(result, data_sample['img_id'])
        if 'masks' in pred:
            result['masks'] = encode_masks(pred['masks'], f'image {data_sample["img_id"]!r}')
        return result

    def _ground_truth(self, data_sample: dict) -> dict:
        gt = marks_of(data_sample)
        gt['height'], gt['width'] = data_sample['ori_shape'][:2]
        if self._coco_api is None:
            gt['anns'] = annotations_of(data_sample)
        return gt

    # -- writing ---------------------------------------------------------------------------------------------------

    def xyxy2xywh(self, bbox: np.ndarray) -> list:
        """Corners to corner and size, as Python numbers: four of them, or a list of fours."""
        box = np.asarray(bbox, dtype=np.float64)
        return np.concatenate([box[..., :2], box[..., 2:4] - box[..., :2]], -1).tolist()

    def _columns(self, results: Sequence[dict], kind: str) -> Objects:
        """The detections for ``kind``: ``bbox``, ``segm`` or ``proposal`` (all of one class)."""
        labels, boxes, scores, masks = [np.zeros(0, dtype=int)], [np.zeros((0, 4))], [np.zeros(0)], []
        for result in results:
            labels.append(np.asarray(result['labels'], dtype=int))
            if labels[-1].size and kind != 'proposal' and labels[-1].max() >= len(self.cat_ids):
                raise UserValueError(
                    f'Image {result["img_id"]} has a detection with label {labels[-1].max()}, but the dataset has '
                    f'{len(self.cat_ids)} classes. Does num_classes of the model fit the dataset?'
                )
            corners = np.asarray(result['bboxes'], dtype=np.float64).reshape(-1, 4)
            boxes.append(np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1))
            score = result.get('mask_scores', result['scores']) if kind == 'segm' else result['scores']
            scores.append(np.asarray(score, dtype=np.float64))
            if kind == 'segm':
                masks += [_plain_mask(mask) for mask in result['masks']]
        counts = [len(label) for label in labels[1:]]
        label = np.concatenate(labels)
        if kind == 'proposal':
            label[:] = self.cat_ids.index(self._categories[0])
        found = Objects.of_detections(
            np.repeat(id_column([result['img_id'] for result in results]), counts),
            id_column([self._categories[0] if cat_id is None else cat_id for cat_id in self.cat_ids])[label],
            np.concatenate(boxes),
            np.concatenate(scores),
            masks if kind == 'segm' else None,
        )
        known = np.array([cat_id is not None for cat_id in self.cat_ids])[label]
        return found if known.all() else found.take(np.flatnonzero(known))

    def _detections(self, results: Sequence[dict], kind: str) -> list[dict]:
        """The same as COCO result entries."""
        found = self._columns(results, kind)
        columns = found.image_ids, found.boxes, found.scores, found.category_ids
        rows = zip(*(np.asarray(column).tolist() for column in columns), strict=True)
        entries = [dict(zip(('image_id', 'bbox', 'score', 'category_id'), row, strict=True)) for row in rows]
        for entry, mask in zip(entries, found.masks or ()):
            entry['segmentation'] = mask
        return entries

    def results2json(self, results: Sequence[dict], outfile_prefix: str) -> dict[str, str]:
        """Write ``{prefix}.bbox.json`` and, with masks, ``{prefix}.segm.json``; the paths by metric are returned."""
        files = dict.fromkeys(('bbox', 'proposal'), f'{outfile_prefix}.bbox.json')
        dump(self._detections(results, 'bbox'), files['bbox'])
        if any('masks' in result for result in results):
            files['segm'] = f'{outfile_prefix}.segm.json'
            dump(self._detections(results, 'segm'), files['segm'])
        return files

    def gt_to_coco_json(self, gt_dicts: Sequence[dict], outfile_prefix: str) -> str:
        """Write the ground truth of the data samples as ``{prefix}.gt.json`` in COCO format; its path is returned."""
        path = f'{outfile_prefix}.gt.json'
        dump(self._coco_format(gt_dicts), path)
        return path

    def _coco_format(self, gt_dicts: Sequence[dict]) -> dict:
        categories = [dict(id=i, name=name) for i, name in enumerate(self.dataset_meta['classes'])]
        images: list[dict] = []
        annotations: list[dict] = []
        for index, gt in enumerate(gt_dicts):
            img_id = gt.get('img_id', index)
            images.append(dict(id=img_id, width=gt['width'], height=gt['height'], file_name=gt.get('img_path') or ''))
            for ann in gt['anns']:
                box = self.xyxy2xywh(ann['bbox'])
                entry = dict(
                    id=len(annotations) + 1,  # pycocotools takes 0 for "not matched"
                    image_id=img_id,
                    bbox=box,
                    iscrowd=int(ann.get('ignore_flag', 0)),
                    category_id=int(ann['bbox_label']),
                    area=box[2] * box[3],
                )
                if ann.get('mask'):
                    entry['segmentation'] = _plain_mask(ann['mask'])
                annotations.append(entry)
        info = dict(
            date_created=str(datetime.datetime.now()), description='Ground truth of the data samples, by CocoMetric.'
        )
        return dict(info=info, images=images, categories=categories, licenses=[], annotations=annotations)

    # -- evaluating ------------------------------------------------------------------------------------------------

    def fast_eval_recall(
        self,
        results: Sequence[dict],
        proposal_nums: Sequence[int],
        iou_thrs: Sequence[float] | np.ndarray,
        logger: MMLogger | None = None,
    ) -> np.ndarray:
        """Average recall over ``iou_thrs`` at each number of proposals."""
        by_image = {result['img_id']: result for result in results}
        truths, proposals = [], []
        for img_id in self.img_ids:
            anns = self._coco_api.imgToAnns.get(img_id, [])
            kept = [ann['bbox'] for ann in anns if not (ann.get('ignore', False) or ann.get('iscrowd', 0))]
            boxes = np.asarray(kept, dtype=float).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            truths.append(boxes.astype(np.float32))
            result = by_image.get(img_id)
            if result is None:
                proposals.append(np.zeros((0, 5), dtype=np.float32))
            else:
                boxes = np.asarray(result['bboxes']).reshape(-1, 4)
                proposals.append(np.concatenate([boxes, np.asarray(result['scores'])[:, None]], 1))
        return eval_recalls(truths, proposals, proposal_nums, iou_thrs, logger=logger).mean(1)

    def compute_metrics(self, results: list) -> dict[str, float]:
        # an id alone tells a picture here, as far as nothing else is known of it
        marks = [gt if 'img_path' in gt else {'img_id': pred['img_id'], 'img_path': None, **gt} for gt, pred in results]
        results = self.tested(results, marks)
        given = self._coco_api, self._dataset_meta
        self._dataset_meta = self.meta_of([gt for gt, _ in results])
        try:
            return self._numbers(results)
        finally:
            self._coco_api, self._dataset_meta = given
            self.cat_ids = self.img_ids = None

    def _numbers(self, results: list) -> dict[str, float]:
        logger = MMLogger.get_current_instance()
        gts, preds = (list(column) for column in zip(*results, strict=True)) if results else ([], [])
        if self._coco_api is None:
            logger.info('No ann_file: the ground truth is taken from the data samples.')
            gts, preds = self._with_distinct_ids(gts, preds, logger)
            source = self._coco_format(gts)
            if self.outfile_prefix is not None:
                source = load(self.gt_to_coco_json(gts, self.outfile_prefix))
            self._coco_api = load_coco(source)
        self._index()
        if self.outfile_prefix is not None:
            self.results2json(preds, self.outfile_prefix)
        if self.format_only:
            logger.info(f'Results are saved as {self.outfile_prefix}.*.json.')
            return OrderedDict()
        preds = self._with_truth(gts, preds, logger)
        if not any(len(pred['scores']) for pred in preds):
            logger.error(f'The model returned no detections at all for {len(preds)} images: every AP and AR is zero.')
        numbers = OrderedDict()
        for metric in self.metrics:
            logger.info(f'Evaluating {metric}...')
            if metric == 'proposal_fast':
                recalls = self.fast_eval_recall(preds, self.proposal_nums, self.iou_thrs, logger)
                found = {f'AR@{n}': float(r) for n, r in zip(self.proposal_nums, recalls, strict=True)}
                logger.info('\n' + ''.join(f'\n{name}\t{value:.4f}' for name, value in found.items()))
            else:
                found = self._evaluate(metric, preds, logger)
            numbers.update({name: round(value, DIGITS) for name, value in found.items()})
        return numbers

    def _with_distinct_ids(self, gts: list[dict], preds: list[dict], logger: MMLogger) -> tuple[list, list]:
        """Ground truth and detections; where pictures share an id, all are numbered from 1."""
        if len({pred['img_id'] for pred in preds}) == len(preds):
            return gts, preds
        logger.info('Image ids of several data sets are equal: the pictures are numbered anew.')
        gts, preds = ([{**each, 'img_id': i + 1} for i, each in enumerate(column)] for column in (gts, preds))
        return gts, preds

    def _index(self) -> None:
        if self.cat_ids is None:
            self.cat_ids = category_ids(self._coco_api, self.dataset_meta['classes'])
            self._categories = [cat_id for cat_id in self.cat_ids if cat_id is not None]

    def _with_truth(self, gts: list[dict], preds: list[dict], logger: MMLogger) -> list[dict]:
        """Set ``img_ids`` to the pictures tested, and return their detections."""
        self.img_ids = [pred['img_id'] for pred in preds]
        unknown = [img_id for img_id in self.img_ids if img_id not in self._coco_api.imgs]
        if unknown:
            raise UserValueError(
                f'{len(unknown)} images that were tested are not in the annotation file (image ids '
                f'{", ".join(map(str, unknown[:3]))}, ...). Is the ann_file of the metric that of the test dataset?'
            )
        if len(set(self.img_ids)) == len(preds):
            return preds
        if len({source_of(gt) for gt in gts}) > 1:
            repeated = Counter(self.img_ids).most_common(1)[0][0]
            raise UserValueError(
                f'image id {repeated!r} is that of pictures of several data sets, and {self.ann_file} is the '
                'annotation file of none of them. Give each data set a CocoMetric with its own, or leave it out'
            )
        # one annotation file for several folders of pictures
        truth, entries = self._coco_api, []
        images = [{**truth.imgs[img_id], 'id': i + 1} for i, img_id in enumerate(self.img_ids)]
        for i, img_id in enumerate(self.img_ids):
            entries += [{**ann, 'image_id': i + 1} for ann in truth.imgToAnns.get(img_id, ())]
        self._coco_api = load_coco({**truth.dataset, 'images': images, 'annotations': entries})
        self.img_ids = [image['id'] for image in images]
        return self._with_distinct_ids(gts, preds, logger)[1]

    def _evaluate(self, metric: str, preds: list[dict], logger: MMLogger) -> dict[str, float]:
        if metric == 'segm' and any(len(pred['scores']) and 'masks' not in pred for pred in preds):
            raise UserKeyError("metric='segm' needs masks, but the predictions have none. Is the model box-only?")
        if len(self.proposal_nums) != 3:
            raise UserValueError(f'proposal_nums for {metric!r} must be three numbers, got {self.proposal_nums}.')
        evaluator = evaluate_coco(
            self._coco_api,
            self._columns(preds, metric),
            'bbox' if metric == 'proposal' else metric,
            self._categories,
            self.img_ids,
            self.iou_thrs,
            self.proposal_nums,
            use_cats=metric != 'proposal',
            faster=self.use_faster_coco_eval,
        )
        numbers = summarize(evaluator)
        logger.info('\n' + summary_table(evaluator))
        recalls = [name for name in numbers if name.startswith('AR')]
        items = self.metric_items
        if items is None:
            items = recalls if metric == 'proposal' else [name for name in numbers if name.startswith('mAP')]
        for item in items:
            if item not in numbers:
                hint = f' proposal_nums={tuple(self.proposal_nums)} decide what recall is counted at.' * ('AR' in item)
                raise UserKeyError(f'metric_items: {item!r} is not supported. Choose from {", ".join(numbers)}.{hint}')
        if metric == 'proposal':
            return {item: numbers[item] for item in items}
        found = {f'{metric}_{item}': numbers[item] for item in items}
        found.update(self._by_groups(evaluator, metric, logger))
        if self.classwise:
            found.update(self._per_class(evaluator, logger))
        if self.class_thresholds:
            self._score_thresholds(evaluator, metric, logger)
        values = ' '.join(f'{value:.3f}' for name, value in numbers.items() if name.startswith('mAP'))
        logger.info(f'{metric}_mAP_copypaste: {values}')
        return found

    def _by_groups(self, evaluator: Any, metric: str, logger: MMLogger) -> dict[str, float]:
        """Numbers of groups of classes, for subclasses."""
        return {}

    def _per_class(self, evaluator: Any, logger: MMLogger) -> dict[str, float]:
        from terminaltables import AsciiTable

        rows, found = [['category', 'mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l']], {}
        for k, cat_id in enumerate(evaluator.params.catIds):
            name = self._coco_api.cats[cat_id]['name']
            values = [average_precision(evaluator, thr, category=k) for thr in (None, 0.5, 0.75)]
            values += [average_precision(evaluator, area=area, category=k) for area in AREAS[1:]]
            rows.append([name] + ['-' if value < 0 else f'{value:.3f}' for value in values])
            found[f'{name}_precision'] = values[0]
        logger.info('\n' + AsciiTable(rows).table)
        return found

    def _score_thresholds(self, evaluator: Any, metric: str, logger: MMLogger) -> None:
        from terminaltables import AsciiTable

        names = [self._coco_api.cats[cat_id]['name'] for cat_id in evaluator.params.catIds]
        table = class_score_thresholds(evaluator, names)
        rows = [['category', 'threshold', 'F-measure', 'precision', 'recall']]
        for name in names:
            rows.append([name] + ([f'{value:.3f}' for value in table[name].values()] if name in table else ['-'] * 4))
        path = self._thresholds_path(logger)
        if metric == 'segm' and 'bbox' in self.metrics:
            path = path.with_name(f'{path.stem}_segm{path.suffix}')
        path.parent.mkdir(parents=True, exist_ok=True)
        dump(table, str(path), indent=2)
        logger.info(
            f'Scores that maximise the F-measure at IoU 0.5 ({metric}), saved as {path}:\n{AsciiTable(rows).table}'
        )

    def _thresholds_path(self, logger: MMLogger) -> Path:
        if isinstance(self.class_thresholds, str):
            return Path(self.class_thresholds)
        if self.outfile_prefix is not None:
            folder = Path(self.outfile_prefix).parent
        else:
            log_file = getattr(logger, 'log_file', None)  # WORK_DIR/TIME/TIME.log
            folder = Path(log_file).parents[1] if log_file else Path()
        return folder / 'class_thresholds.json'


def _plain_mask(mask: Any) -> Any:
    """A polygon list or RLE with text counts, which JSON can hold."""
    if isinstance(mask, dict) and isinstance(mask['counts'], bytes):
        return {**mask, 'counts': mask['counts'].decode()}
    return mask
