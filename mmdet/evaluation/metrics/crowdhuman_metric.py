from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.fileio import get_text, put_text
from mmengine.logging import MMLogger

from mmdet.errors import UserKeyError, UserRuntimeError, UserValueError
from mmdet.registry import METRICS

from ..functional import crowd_eval
from .pictures import PictureMetric, marks_of
from .samples import require_finite, to_numpy

PERSON_CLASSES = ['background', 'person']
BODY, HEAD = 0, 1


class Image:
    """Objects and detections of one picture.

    Args:
        mode: 0 for full bodies, 1 for heads.

    Attributes:
        gt_boxes: ``(n, 5)`` xyxy and tag: 1 for a person, -1 for what is ignored.
        dt_boxes: ``(m, 5)`` xyxy and score.
    """

    def __init__(self, mode: int) -> None:
        self.eval_mode = mode
        self.ID: str | None = None
        self.width = self.height = 0
        self.gt_boxes, self.dt_boxes = np.zeros((0, 5)), np.zeros((0, 5))

    @property
    def gt_num(self) -> int:
        """Objects and ignored regions."""
        return len(self.gt_boxes)

    @property
    def dt_num(self) -> int:
        """Detections."""
        return len(self.dt_boxes)

    @property
    def ign_num(self) -> int:
        """Ignored regions."""
        return len(self.ignored)

    @property
    def objects(self) -> np.ndarray:
        """``(n, 4)`` boxes of those that are to be found."""
        return self.gt_boxes[self.gt_boxes[:, 4] > 0, :4]

    @property
    def ignored(self) -> np.ndarray:
        """``(n, 4)`` boxes in which nothing counts."""
        return self.gt_boxes[self.gt_boxes[:, 4] <= 0, :4]

    def load(
        self,
        record: Mapping[str, Any],
        body_key: str | None,
        head_key: str | None,
        class_names: list[str],
        gt_flag: bool,
    ) -> None:
        """Take the ``gtboxes`` of a line of the annotation file, or the ``dtboxes`` of a line of results.

        Args:
            body_key, head_key: Names of the boxes of a detection; the one of the mode is used, or the other one.
        """
        self.ID = record['ID']
        if 'width' in record and 'height' in record:
            self.width, self.height = record['width'], record['height']
        if gt_flag:
            self.gt_boxes = self.load_gt_boxes(record, 'gtboxes', class_names)[self.eval_mode]
        else:
            keys = [key for key in ((body_key, head_key) if self.eval_mode == BODY else (head_key, body_key)) if key]
            self.dt_boxes = self.load_det_boxes(record, 'dtboxes', keys[0], 'score')

    def load_gt_boxes(
        self, dict_input: Mapping[str, Any], key_name: str, class_names: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Full bodies and heads with their tags, each ``(n, 5)``."""
        rows: tuple[list, list] = ([], [])
        for entry in dict_input[key_name]:
            tag = class_names.index(entry['tag']) if entry['tag'] in class_names else -1
            if (entry.get('extra') or {}).get('ignore', 0) != 0:
                tag = -1
            hidden = (entry.get('head_attr') or {}).get('ignore', 0) != 0
            rows[BODY].append([*entry['fbox'], tag])
            rows[HEAD].append([*entry.get('hbox', entry['fbox']), -1 if hidden else tag])
        return _with_corners(rows[BODY]), _with_corners(rows[HEAD])

    def load_det_boxes(
        self, dict_input: Mapping[str, Any], key_name: str, key_box: str, key_score: str, key_tag: str | None = None
    ) -> np.ndarray:
        """``(m, 5)`` xyxy and score, or ``(m, 6)`` with the tag behind the box."""
        tags = [key_tag] if key_tag else []
        return _with_corners(
            [
                [*entry[key_box], *(entry[tag] for tag in tags), entry[key_score]]
                if key_score
                else list(entry[key_box])
                for entry in dict_input[key_name]
            ],
            5 + len(tags),
        )

    def clip_all_boader(self) -> None:
        """Clip all boxes to the picture."""
        for boxes in (self.gt_boxes, self.dt_boxes):
            for column, end in ((0, self.width), (1, self.height)):
                boxes[:, column] = boxes[:, column].clip(0, end - 1)
                boxes[:, column + 2] = boxes[:, column + 2].clip(0, end)

    def compare_voc(self, thres: float) -> np.ndarray:
        """``(m, 2)`` scores and whether they are right, of the detections that count (``match_voc``)."""
        return self._compare(crowd_eval.match_voc, thres)

    def compare_caltech(self, thres: float) -> np.ndarray:
        """The same by ``match_caltech``."""
        return self._compare(crowd_eval.match_caltech, thres)

    def _compare(self, match: Any, thres: float) -> np.ndarray:
        scores = self.dt_boxes[:, -1]
        flags = match(self.dt_boxes[:, :4], scores, self.objects, self.ignored, thres)
        return np.stack([scores, flags], 1)[flags >= 0]


def _with_corners(rows: list, width: int = 5) -> np.ndarray:
    """Rows that begin with x, y, w, h as an array whose rows begin with two corners."""
    boxes = np.array(rows, dtype=np.float64).reshape(-1, width)
    boxes[:, 2:4] += boxes[:, :2]
    return boxes


@METRICS.register_module()
class CrowdHumanMetric(PictureMetric):
    """``mAP``, ``mMR`` and ``JI`` of CrowdHuman (arXiv:1805.00123, Sec. 4), of the pictures that were tested.

    Args:
        ann_file: The ``.odgt`` file, one JSON object for each picture and line.
        metric: One or several of ``AP``, ``MR`` (the lower the better) and ``JI``, which is the best over the score
            thresholds 0, 0.1, ..., 0.9.
        format_only: Write the results and evaluate nothing; needs ``outfile_prefix``.
        outfile_prefix: Path without suffix of a file of detections, one JSON object for each picture and line.
        eval_mode: 0 for full bodies, 1 for heads.
        iou_thres: Overlap from which a detection may be right.
        compare_matching_method: ``CALTECH``, the same as None, or ``VOC``.
        mr_ref: False alarms at which the miss rate is read: ``CALTECH_-2`` or ``CALTECH_-4``.
        num_ji_process: Accepted for the configs that set it; one process counts all pictures.
    """

    default_prefix: str | None = 'crowd_human'
    ann_file: str

    def __init__(
        self,
        ann_file: str,
        metric: str | Sequence[str] = ['AP', 'MR', 'JI'],
        format_only: bool = False,
        outfile_prefix: str | None = None,
        file_client_args: dict | None = None,
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        eval_mode: int = 0,
        iou_thres: float = 0.5,
        compare_matching_method: str | None = None,
        mr_ref: str = 'CALTECH_-2',
        num_ji_process: int = 10,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.metrics = [metric] if isinstance(metric, str) else list(metric)
        for name in self.metrics:
            if name not in ('AP', 'MR', 'JI'):
                raise UserKeyError(f"metric should be one of 'AP', 'MR', 'JI', got {name!r}.")
        if file_client_args is not None:
            raise UserRuntimeError('file_client_args is no longer taken; use backend_args (see mmengine.fileio).')
        if format_only and outfile_prefix is None:
            raise UserValueError('format_only=True writes a result file, so outfile_prefix must say where.')
        if eval_mode not in (BODY, HEAD):
            raise UserValueError(f'eval_mode must be 0 for bodies or 1 for heads, got {eval_mode!r}.')
        if compare_matching_method not in (None, 'CALTECH', 'VOC'):
            raise UserValueError(
                f"compare_matching_method must be 'CALTECH' or 'VOC', got {compare_matching_method!r}."
            )
        if mr_ref not in crowd_eval.MISS_RATE_POINTS:
            raise UserValueError(f'mr_ref must be one of {list(crowd_eval.MISS_RATE_POINTS)}, got {mr_ref!r}.')
        self.ann_file, self.backend_args = ann_file, backend_args
        self.format_only, self.outfile_prefix = format_only, outfile_prefix
        self.eval_mode, self.iou_thres, self.mr_ref = eval_mode, iou_thres, mr_ref
        self.compare_matching_method, self.num_ji_process = compare_matching_method, num_ji_process

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for data_sample in data_samples:
            pred = data_sample['pred_instances']
            boxes, scores = to_numpy(pred['bboxes']).reshape(-1, 4), to_numpy(pred['scores']).reshape(-1)
            require_finite(dict(bboxes=boxes, scores=scores), data_sample['img_id'])
            height, width = data_sample['ori_shape'][:2]
            rows = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).astype(float).tolist()
            found = [dict(box=box, score=score) for box, score in zip(rows, scores.astype(float).tolist(), strict=True)]
            result = dict(ID=data_sample['img_id'], width=int(width), height=int(height), dtboxes=found)
            self.results.append((marks_of(data_sample), result))

    @staticmethod
    def results2json(results: Sequence[dict], outfile_prefix: str) -> str:
        """Write ``{prefix}.json``, one picture in each line; its path is returned."""
        path = f'{outfile_prefix}.json'
        put_text(''.join(json.dumps(result) + '\n' for result in results), path)
        return path

    def compute_metrics(self, results: list) -> dict[str, float]:
        logger: MMLogger = MMLogger.get_current_instance()
        records = [record for _, record in self.tested(results, [marks for marks, _ in results])]
        if self.outfile_prefix is not None:
            logger.info(f'Detections are saved as {self.results2json(records, self.outfile_prefix)}.')
        if self.format_only:
            return OrderedDict()
        samples = self._images(records)
        objects = sum(image.gt_num - image.ign_num for image in samples.values())
        scores = self.compare(samples)
        numbers = OrderedDict()
        for name in self.metrics:
            if not objects:
                numbers[dict(AP='mAP', MR='mMR', JI='JI')[name]] = -1.0
            elif name == 'AP':
                numbers['mAP'] = self.eval_ap(scores, objects, len(samples))
            elif name == 'MR':
                numbers['mMR'] = self.eval_mr(scores, objects, len(samples))
            else:
                numbers['JI'] = self.eval_ji(samples)
        logger.info(', '.join(f'{name} {value:.4f}' for name, value in numbers.items()))
        return numbers

    def _images(self, records: Sequence[dict]) -> dict[str, Image]:
        """The pictures of the results by their ID, with what the annotation file says of them."""
        lines = get_text(self.ann_file, backend_args=self.backend_args).splitlines()
        truths = {truth['ID']: truth for truth in map(json.loads, filter(str.strip, lines))}
        samples = {}
        for record in records:
            if record['ID'] not in truths:
                raise UserValueError(f'{self.ann_file} has no picture {record["ID"]!r}, of which there are results.')
            image = samples[record['ID']] = Image(self.eval_mode)
            image.load(truths[record['ID']], 'box', None, PERSON_CLASSES, True)
            image.load(record, 'box', None, PERSON_CLASSES, False)
            image.clip_all_boader()
        return samples

    def compare(self, samples: Mapping[str, Image]) -> np.ndarray:
        """``(K, 2)`` scores and whether they are right, of all detections that count, best first."""
        rows = [np.zeros((0, 2))]
        for image in samples.values():
            compare = image.compare_voc if self.compare_matching_method == 'VOC' else image.compare_caltech
            rows.append(compare(self.iou_thres))
        joined = np.concatenate(rows)
        return joined[np.argsort(-joined[:, 0], kind='stable')]

    @staticmethod
    def eval_ap(score_list: np.ndarray, gt_num: int, img_num: int) -> float:
        """AP of what :meth:`compare` returns."""
        return crowd_eval.average_precision(score_list[:, 1], gt_num)

    def eval_mr(self, score_list: np.ndarray, gt_num: int, img_num: int) -> float:
        """Log-average miss rate of what :meth:`compare` returns."""
        points = crowd_eval.MISS_RATE_POINTS[self.mr_ref]
        return crowd_eval.log_average_miss_rate(score_list[:, 1], gt_num, img_num, points)

    def eval_ji(self, samples: Mapping[str, Image]) -> float:
        """The best mean Jaccard index over the score thresholds."""
        logger: MMLogger = MMLogger.get_current_instance()
        indices = []
        for step in range(10):
            line, mean = self.gather(self.compute_ji_with_ignore(list(samples.values()), step * 0.1))
            logger.info(f'score_thr:{step * 0.1:.1f}, {line}')
            indices.append(mean)
        return max(indices)

    def compute_ji_with_ignore(self, dt_result: Sequence[Image], score_thr: float) -> list[dict[str, float]]:
        """Counts of each picture (``crowd_eval.jaccard_index``) for detections that score more than ``score_thr``."""
        return [
            crowd_eval.jaccard_index(
                image.dt_boxes[image.dt_boxes[:, -1] > score_thr, :4], image.objects, image.ignored, self.iou_thres
            )
            for image in dt_result
        ]

    def compute_ji_matching(self, dt_boxes: np.ndarray, gt_boxes: np.ndarray) -> list[tuple[int, int]]:
        """Pairs of detections and objects, as many as there can be."""
        pairs = crowd_eval.most_pairs(dt_boxes[:, :4], gt_boxes[:, :4], self.iou_thres)
        return [(int(i), int(j)) for i, j in pairs]

    def get_ignores(self, dt_boxes: np.ndarray, gt_boxes: np.ndarray) -> int:
        """How many of ``dt_boxes`` lie in one of ``gt_boxes``, which are ignored."""
        return crowd_eval.num_covered(dt_boxes[:, :4], gt_boxes[:, :4], self.iou_thres)

    @staticmethod
    def gather(results: Sequence[dict[str, float]]) -> tuple[str, float]:
        """A line for the log, and the mean ratio of the pictures that have objects or detections."""
        pictures = sum(result['n'] != 0 or result['m'] != 0 for result in results)
        mean = sum(result['ratio'] for result in results) / max(pictures, 1)
        valids, total, objects = (int(sum(result[key] for result in results)) for key in 'knm')
        return f'mean_ratio:{mean:.4f}, valids:{valids}, total:{total}, gtn:{objects}', mean
