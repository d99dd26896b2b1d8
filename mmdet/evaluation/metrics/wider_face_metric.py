from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import MMLogger

from mmdet.errors import UserFileError, UserValueError
from mmdet.registry import METRICS

from ..functional.mean_ap import average_precision
from ..functional.overlaps import bbox_overlaps
from .pictures import PictureMetric, marks_of
from .samples import annotations_of, to_numpy

SETTINGS = ('easy', 'medium', 'hard')
HEIGHTS = dict(easy=50.0, medium=30.0, hard=10.0)


@METRICS.register_module()
class WIDERFaceMetric(PictureMetric):
    """AP of the easy, medium and hard faces of WIDER FACE (arXiv:1511.06523) by the rules of its evaluation kit.

    Scores are stretched to 0..1 over the data set, precision and recall are counted at 1000 thresholds, and AP is the
    area under the curve. A detection belongs to the face it overlaps most; one on a face that the setting leaves out
    counts neither way, and every further one on a face already found is wrong. The pictures tested are
    evaluated; the evaluation kit knows them by their file name.

    Args:
        gt_dir: Folder with ``wider_face_val.mat`` and ``wider_{easy,medium,hard}_val.mat`` of the evaluation kit.
            Without it the faces of the data samples are used, and a setting counts those of at least
            ``min_heights`` pixels in the original image: close to the official lists, which were drawn up by how many
            faces a proposal method finds, but not the numbers to publish.
        iou_thr: Overlap that makes a detection right.
        num_thresholds: Points of the precision-recall curve.
        min_heights: Lowest face height of each setting, in pixels: 50, 30 and 10.
        outfile_prefix: A folder to write the detections to in the format of the evaluation kit.
    """

    default_prefix: str | None = 'wider_face'

    def __init__(
        self,
        gt_dir: str | None = None,
        iou_thr: float = 0.5,
        num_thresholds: int = 1000,
        min_heights: Mapping[str, float] | None = None,
        outfile_prefix: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.gt_dir = gt_dir
        self.iou_thr = iou_thr
        self.num_thresholds = num_thresholds
        self.min_heights = HEIGHTS if min_heights is None else dict(min_heights)
        self.outfile_prefix = outfile_prefix
        self.official = None if gt_dir is None else load_official(Path(gt_dir))

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for data_sample in data_samples:
            path = Path(data_sample['img_path'])
            pred = data_sample['pred_instances']
            result: dict[str, Any] = dict(name=path.stem, event=path.parent.name, picture=marks_of(data_sample))
            dets = np.concatenate([to_numpy(pred['bboxes']).reshape(-1, 4), to_numpy(pred['scores'])[:, None]], 1)
            result['dets'] = dets[np.argsort(-dets[:, 4], kind='stable')]
            if self.official is None:
                result.update(self._by_height(data_sample))
            self.results.append(result)

    def _by_height(self, data_sample: dict) -> dict:
        anns = annotations_of(data_sample)
        boxes = np.array([ann['bbox'] for ann in anns], dtype=np.float32).reshape(-1, 4)
        valid = np.array([not ann.get('ignore_flag', 0) for ann in anns], dtype=bool)
        height = boxes[:, 3] - boxes[:, 1]
        counted = {setting: valid & (height >= low) for setting, low in self.min_heights.items()}
        return dict(boxes=boxes, counted=counted)

    def compute_metrics(self, results: list) -> dict[str, float]:
        logger = MMLogger.get_current_instance()
        results = self.tested(results, [result.get('picture', {}) for result in results])
        if self.outfile_prefix is not None:
            write_detections(results, Path(self.outfile_prefix))
            logger.info(f'Detections are saved under {self.outfile_prefix}.')
        if self.official is None:
            logger.warning(
                'No gt_dir: the settings are told by face height ('
                + ', '.join(f'{setting} from {low:g} px' for setting, low in self.min_heights.items())
                + '); for the official lists give the folder of wider_easy_val.mat and its kin.'
            )
            truths = results
        else:
            unknown = sorted({result['name'] for result in results} - set(self.official))
            if unknown:
                raise UserValueError(
                    f'{len(unknown)} images are not in the lists of {self.gt_dir}, the first is {unknown[0]}.'
                )
            truths = [self.official[result['name']] for result in results]
        dets = stretch_scores(dict(enumerate(result['dets'] for result in results)))
        settings = SETTINGS if self.official is not None else tuple(self.min_heights)
        numbers = OrderedDict()
        for setting in settings:
            counts = np.zeros((self.num_thresholds, 2))
            faces = 0
            for i, truth in enumerate(truths):
                faces += int(truth['counted'][setting].sum())
                counts += count_image(
                    dets[i], truth['boxes'], truth['counted'][setting], self.iou_thr, self.num_thresholds
                )
            proposals, found = counts.T
            precision = found / np.maximum(proposals, 1)
            numbers[f'{setting}_AP'] = float(average_precision(found / max(faces, 1), precision)) if faces else -1.0
            logger.info(f'{setting:<6} AP {numbers[f"{setting}_AP"]:.4f} ({faces} faces)')
        return numbers


def stretch_scores(dets: dict[Any, np.ndarray]) -> dict[Any, np.ndarray]:
    """Scores of all images mapped to 0..1, the lowest of the data set to 0 and the highest to 1."""
    scores = np.concatenate([det[:, 4] for det in dets.values()]) if dets else np.zeros(0)
    if not scores.size:
        return dets
    low, span = scores.min(), scores.max() - scores.min()
    if span == 0:
        low, span = low - 1, 1
    return {name: np.concatenate([det[:, :4], (det[:, 4:] - low) / span], 1) for name, det in dets.items()}


def count_image(
    dets: np.ndarray, boxes: np.ndarray, counted: np.ndarray, iou_thr: float = 0.5, num_thresholds: int = 1000
) -> np.ndarray:
    """Detections that count and faces that are found at each threshold, (num_thresholds, 2).

    Args:
        dets: (m, 5) xyxy and stretched score, best first.
        boxes: (n, 4) all faces of the image.
        counted: (n,) which of them the setting evaluates.
    """
    counts = np.zeros((num_thresholds, 2))
    if not len(dets) or not len(boxes):
        return counts
    ious = bbox_overlaps(dets[:, :4], boxes, use_legacy_coordinate=True)
    owner, hit = ious.argmax(1), ious.max(1) >= iou_thr
    proposal = ~hit | counted[owner]
    found = np.zeros(len(dets), dtype=bool)
    right = np.flatnonzero(hit & counted[owner])
    found[right[np.unique(owner[right], return_index=True)[1]]] = True
    thresholds = 1 - np.arange(1, num_thresholds + 1) / num_thresholds
    kept = np.searchsorted(-dets[:, 4], -thresholds, side='right')  # detections at or above each threshold
    some = kept > 0
    counts[some, 0] = proposal.cumsum()[kept[some] - 1]
    counts[some, 1] = found.cumsum()[kept[some] - 1]
    return counts


def load_official(folder: Path) -> dict[str, dict]:
    """Faces (n, 4) of each image of the validation set, and which of them each setting counts.

    Raises:
        FileNotFoundError: if one of the four files is missing.
    """
    from scipy.io import loadmat

    files = {setting: folder / f'wider_{setting}_val.mat' for setting in ('face', *SETTINGS)}
    for path in files.values():
        if not path.is_file():
            raise UserFileError(f'{path} is missing; the evaluation kit of WIDER FACE holds it in ground_truth/.')
    content = {setting: loadmat(str(path)) for setting, path in files.items()}
    truths = {}
    for e, names in enumerate(content['face']['file_list'][:, 0]):
        for i, name in enumerate(names[:, 0]):
            boxes = np.asarray(content['face']['face_bbx_list'][e, 0][i, 0], dtype=np.float32).reshape(-1, 4).copy()
            boxes[:, 2:] += boxes[:, :2]
            counted = {}
            for setting in SETTINGS:
                counted[setting] = np.zeros(len(boxes), dtype=bool)
                kept = np.asarray(content[setting]['gt_list'][e, 0][i, 0], dtype=int).ravel()
                counted[setting][kept - 1] = True  # MATLAB counts from one
            truths[str(name[0])] = dict(boxes=boxes, counted=counted)
    return truths


def write_detections(results: Sequence[dict], folder: Path) -> None:
    """``EVENT/IMAGE.txt``: the name, the number of faces, and ``x y w h score`` of each.

    Raises:
        UserValueError: two pictures would have one file.
    """
    names = Counter((result['event'], result['name']) for result in results)
    if names and max(names.values()) > 1:
        event, name = names.most_common(1)[0][0]
        raise UserValueError(f'{event}/{name} is a picture of several data sets, whose results would be one file.')
    for result in results:
        path = folder / result['event'] / f'{result["name"]}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [result['name'], str(len(result['dets']))]
        for x1, y1, x2, y2, score in result['dets']:
            lines.append(f'{x1:.2f} {y1:.2f} {x2 - x1:.2f} {y2 - y1:.2f} {score:.5f}')
        path.write_text('\n'.join(lines) + '\n')
