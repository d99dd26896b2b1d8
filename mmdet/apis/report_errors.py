"""The worst errors of a detector as small pictures with captions."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from mmdet.datasets.formats.masks import bitmap_of
from mmdet.evaluation.collected import Collected, match
from mmdet.evaluation.functional import bbox_overlaps

FALSE, TRUE = (230, 40, 40), (30, 170, 60)  # RGB, of detections and of objects
SIDE = 240


def drawn_errors(kept: Collected, dataset: Any = None, most: int = 8) -> dict[str, list[tuple[bytes, str]]]:
    """By kind JPEG files with captions: the surest false alarms, and the largest objects that nothing found at IoU 0.5.

    Pictures that cannot be read any more are left out.
    """
    from mmdet.visualization import LoadedPictures

    pictures = LoadedPictures(dataset)
    right, taken = match(kept, np.array([0.5]))
    false = np.flatnonzero(right[0] == 0)
    false = false[np.argsort(-kept.det_score[false], kind='stable')]
    missed = np.flatnonzero((taken[0] < 0) & ~kept.gt_ignore)
    areas = (kept.gt_box[missed, 2:] - kept.gt_box[missed, :2]).prod(-1)
    missed = missed[np.argsort(-areas, kind='stable')]
    tiles: dict[str, list[tuple[bytes, str]]] = {}
    for title, rows, kind in (('Surest false alarms', false, 'det'), ('Largest objects not found', missed, 'gt')):
        tiles[title] = []
        for row in rows.tolist():
            if len(tiles[title]) == most:
                break
            tile = _tile(kept, pictures, kind, row)
            if tile is not None:
                tiles[title].append((tile, _caption(kept, kind, row)))
    return tiles


def _caption(kept: Collected, kind: str, row: int) -> str:
    image = kept.columns[f'{kind}_image'][row]
    name = kept.classes[kept.columns[f'{kind}_label'][row]]
    file = kept.paths[image].replace('\\', '/').rsplit('/', 1)[-1]
    other = 'gt' if kind == 'det' else 'det'
    near = np.flatnonzero(kept.columns[f'{other}_image'] == image)
    ious = bbox_overlaps(kept.columns[f'{kind}_box'][row][None], kept.columns[f'{other}_box'][near])[0]
    if kind == 'det':
        text = f'{name} {100 * kept.det_score[row]:.0f}: '
        if not len(near) or ious.max() < 0.1:
            return f'{text}there is nothing ({file})'
        best = near[ious.argmax()]
        what = kept.classes[kept.gt_label[best]]
        if what != name:
            return f'{text}is a {what}, IoU {ious.max():.2f} ({file})'
        return (
            f'{text}{"has a better detection" if ious.max() >= 0.5 else "badly placed"}, IoU {ious.max():.2f} ({file})'
        )
    if not len(near) or ious.max() < 0.1:
        return f'{name}: no detection near ({file})'
    best = near[ious.argmax()]
    found = f'{kept.classes[kept.det_label[best]]} {100 * kept.det_score[best]:.0f}'
    return f'{name}: the nearest detection is {found}, IoU {ious.max():.2f} ({file})'


def _tile(kept: Collected, pictures: Any, kind: str, row: int) -> bytes | None:
    """What is around a box, with the boxes there: objects green, detections red, the one in question thick."""
    image = kept.columns[f'{kind}_image'][row]
    try:
        picture = np.ascontiguousarray(pictures(kept.paths[image]))
    except (OSError, ValueError):
        return None
    height, width = picture.shape[:2]
    box = kept.columns[f'{kind}_box'][row]
    center, side = (box[:2] + box[2:]) / 2, max(float((box[2:] - box[:2]).max()) * 2, 48)
    low = np.clip(center - side / 2, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(center + side / 2), 1, (width, height)).astype(int)
    if (high - low < 1).any():
        return None
    scale = SIDE / max(high - low)
    part = picture[low[1] : high[1], low[0] : high[0]]
    shown = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    shown = _with_masks(kept, shown, kind, row, low, high, (height, width))
    for name, color in (('gt', TRUE), ('det', FALSE)):
        for other in _drawn(kept, name, kind, row):
            x1, y1, x2, y2 = (
                ((kept.columns[f'{name}_box'][other] - np.tile(low, 2)) * scale).round().astype(int).tolist()
            )
            cv2.rectangle(shown, (x1, y1), (x2, y2), color, 3 if name == kind and other == row else 2)
    return cv2.imencode('.jpg', shown[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def _drawn(kept: Collected, name: str, kind: str, row: int) -> np.ndarray:
    """What is drawn with the object or detection in question: all objects, and detections where one is missed."""
    rows = np.flatnonzero(kept.columns[f'{name}_image'] == kept.columns[f'{kind}_image'][row])
    if name == 'gt':
        return rows
    return rows[kept.det_score[rows] >= 0.3] if kind == 'gt' else np.array([row])


def _with_masks(
    kept: Collected,
    shown: np.ndarray,
    kind: str,
    row: int,
    low: np.ndarray,
    high: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    """The part of a picture of ``shape`` from ``low`` to ``high`` (x, y) with its masks laid over, in the colours of
    boxes.
    """
    tinted = shown.astype(np.float32)
    for name, color in (('gt', TRUE), ('det', FALSE)):
        masks = kept.masks.get(name) or ()
        for other in _drawn(kept, name, kind, row).tolist():
            if other < len(masks) and masks[other] is not None:
                bitmap = bitmap_of(masks[other], shape)[low[1] : high[1], low[0] : high[0]]
                if bitmap.any():
                    size = shown.shape[1::-1]
                    inside = cv2.resize(bitmap, size, interpolation=cv2.INTER_NEAREST).astype(bool)
                    tinted[inside] = 0.6 * tinted[inside] + 0.4 * np.array(color, np.float32)
    return np.ascontiguousarray(tinted.round().astype(np.uint8))
