from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import get
from mmengine.logging import MMLogger

from mmdet.errors import UserFileError, UserValueError
from mmdet.registry import METRICS
from mmdet.utils.downloads import download, is_url
from mmdet.utils.unpickling import read_pickle

from .coco_metric import CocoMetric

HOME = 'https://www.robots.ox.ac.uk/~vgg/research/tpod/datasets'


@METRICS.register_module()
class CocoOccludedSeparatedMetric(CocoMetric):
    """COCO's numbers, and how many masks are found of objects that are partly hidden or in several parts.

    `A Tri-Layer Plugin to Improve Occluded Detection <https://arxiv.org/abs/2210.10046>`_, Sec. 3, has lists of such
    objects of COCO's validation set; one is found by a detection of its class whose mask overlaps it enough. The
    recalls, in percent, are of the listed objects of the pictures tested.

    Args:
        occluded_ann, separated_ann: Files of the lists or their addresses, from where they are fetched once.
        score_thr: Detections of lower scores are left out.
        iou_thr: Overlap of masks that is enough.
    """

    def __init__(
        self,
        *args: Any,
        occluded_ann: str = f'{HOME}/occluded_coco.pkl',
        separated_ann: str = f'{HOME}/separated_coco.pkl',
        score_thr: float = 0.3,
        iou_thr: float = 0.75,
        metric: str | Sequence[str] = ['bbox', 'segm'],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, metric=metric, **kwargs)  # type: ignore[misc]  # the arguments of 3.x
        self.occluded_ann = read_objects(occluded_ann, self.backend_args)
        self.separated_ann = read_objects(separated_ann, self.backend_args)
        self.score_thr = score_thr
        self.iou_thr = iou_thr

    def _numbers(self, results: list) -> dict[str, float]:
        numbers = super()._numbers(results)
        return numbers if self.format_only else {**numbers, **self.evaluate_occluded_separated(results)}

    def evaluate_occluded_separated(self, results: list[tuple]) -> dict[str, float]:
        """``occluded_recall`` and ``separated_recall`` of pairs of ground truth and detections."""
        from terminaltables import AsciiTable

        found: dict[str, list] = {}
        for gt, pred in results:
            path = gt.get('img_path') or self._coco_api.imgs[pred['img_id']]['file_name']
            if len(pred['scores']) and 'masks' not in pred:
                raise UserValueError(f'{path}: the detections have no masks, whose overlap is to be measured')
            names = [self.dataset_meta['classes'][label] for label in pred['labels']]
            rows = zip(pred['scores'], names, pred.get('masks', ()), pred['bboxes'], strict=True)
            found[Path(path).name] = sorted(map(list, rows), key=lambda row: -row[0])
        numbers, table = {}, [['mask type', 'recall', 'found']]
        for name, objects in (('occluded', self.occluded_ann), ('separated', self.separated_ann)):
            tested = [entry for entry in objects if entry[2] in found]
            if not tested:
                raise UserValueError(
                    f'none of the {len(found)} pictures tested has an object of the list {name}_ann, whose pictures '
                    f'are {objects[0][2]!r} and others: it is of the validation set of COCO 2017'
                )
            correct, recall = self.compute_recall(found, tested, is_occ=name == 'occluded')
            numbers[f'{name}_recall'] = recall
            table.append([name, f'{recall:.2f}%', f'{correct} of {len(tested)}'])
        MMLogger.get_current_instance().info('\n' + AsciiTable(table).table)
        return numbers

    def compute_recall(self, result_dict: dict[str, list], gt_ann: list, is_occ: bool = True) -> tuple[int, float]:
        """How many of the objects are found, and their share in percent.

        Args:
            result_dict: File name of each picture -> score, class name, mask and box of each detection.
            gt_ann: Class name, an id, file name of the picture, box and mask of each object.
            is_occ: Of the occluded or the separated ones.
        """
        correct = 0
        for name, _, picture, _, mask, *_ in gt_ann:
            correct += any(
                score >= self.score_thr and kind == name and self.mask_iou(found, mask) >= self.iou_thr
                for score, kind, found, _ in result_dict[picture]
            )
        return correct, 100 * correct / len(gt_ann)

    def mask_iou(self, mask1: np.ndarray | dict, mask2: np.ndarray | dict) -> float:
        """Overlap of two masks, (h, w) or run-length codes."""
        import pycocotools.mask as coco_mask

        codes = [_code(mask) for mask in (mask1, mask2)]
        return float(coco_mask.iou(codes[:1], codes[1:], [0])[0, 0])


def _code(mask: np.ndarray | dict) -> dict:
    import pycocotools.mask as coco_mask

    if isinstance(mask, dict):
        counts = mask['counts']
        return coco_mask.frPyObjects(mask, *mask['size']) if isinstance(counts, list) else mask
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def read_objects(path: str, backend_args: dict | None = None) -> list:
    """The list of objects of a file or an address: class name, an id, picture, box, mask.

    Raises:
        UserFileError, UserValueError: there is none.
    """
    if is_url(path):
        file = download(path, Path(torch.hub.get_dir()) / 'annotations')
        content = file.read_bytes()
    else:
        try:
            content = get(path, backend_args=backend_args)
        except OSError as error:
            raise UserFileError(f'{path}: {error.strerror or error}') from None
    try:
        objects = read_pickle(io.BytesIO(content))
    except (pickle.UnpicklingError, ValueError, LookupError, TypeError, EOFError, AttributeError) as error:
        raise UserValueError(f'{path} is no list of objects: {error}') from None
    if not isinstance(objects, list) or not objects or not all(len(entry) >= 5 for entry in objects):
        raise UserValueError(f'{path} is no list of objects with class, id, picture, box and mask')
    return objects
