"""What a detector found in a picture, for people and programs."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.datasets.formats import Collection, write_data
from mmdet.datasets.raw import RawBox, RawPicture
from mmdet.errors import UserImportError
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmdet.structures.mask import bitmaps_of
from mmdet.utils.output_names import on_one_line

from .sources import Picture


class Result:
    """The objects of one picture, the best first.

    Attributes:
        boxes: (N, 4) x1, y1, x2, y2 in pixels of the picture, float32.
        scores: (N,) float32.
        labels: (N,) number of the class.
        names: Name of the class of each object.
        masks: (N, h, w) of bool; None from a detector of boxes.
        path: Of the file; None for pictures that have none. ``frame`` is the number in a video.
        size: Width and height.
        sample: The same as the detector gave it, all scores included.
    """

    def __init__(
        self,
        picture: Picture,
        sample: DetDataSample,
        classes: Sequence[str],
        threshold: float,
        draw: Callable[[Result], np.ndarray],
    ) -> None:
        height, width = sample.ori_shape[:2]
        self.path, self.name, self.frame, self.size = (
            picture.path,
            picture.name,
            picture.frame,
            (int(width), int(height)),
        )
        self.sample, self.threshold = sample, threshold
        self.content = picture.content
        self._draw = draw
        instances = sample.pred_instances.detach().cpu() if 'pred_instances' in sample else None
        if instances is None or 'bboxes' not in instances:
            self.boxes, self.scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
            self.labels, self.masks = np.zeros(0, np.int64), None
        else:
            instances = instances[instances.scores >= threshold]
            self.boxes = get_box_tensor(instances.bboxes).float().numpy()
            self.scores, self.labels = instances.scores.float().numpy(), instances.labels.numpy()
            self.masks = bitmaps_of(instances.masks).astype(bool) if 'masks' in instances else None
        if instances is not None and 'label_names' in instances:  # of what a text told to look for
            self.names = list(map(str, instances.label_names))
        else:
            self.names = [str(classes[label]) if label < len(classes) else str(label) for label in self.labels]

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for name in self.names:
            counts[name] = counts.get(name, 0) + 1
        found = ', '.join(f'{count} {name}' for name, count in counts.items()) or 'nothing'
        return f'{on_one_line(self.name)} ({self.size[0]}x{self.size[1]}): {found}'

    # -- drawings ------------------------------------------------------------------------------------------------------

    def plot(self) -> np.ndarray:
        """The picture with what was found, (h, w, 3) RGB."""
        return self._draw(self)

    def save(self, path: str | os.PathLike) -> str:
        """Write the drawing to a file, or below its name into a folder; returns the path."""
        from mmdet.visualization.sheet import write_image

        target = Path(path)
        if target.is_dir() or not target.suffix:
            target = target / Path(self.name).with_suffix('.jpg')
        target.parent.mkdir(parents=True, exist_ok=True)
        write_image(self.plot(), str(target))
        return str(target)

    def _repr_html_(self) -> str:
        import cv2

        drawn = cv2.imencode('.jpg', np.ascontiguousarray(self.plot()[..., ::-1]))[1].tobytes()
        rows = ''.join(
            f'<tr><td>{html.escape(name)}</td><td>{score:.2f}</td><td>{", ".join(f"{x:.0f}" for x in box)}</td></tr>'
            for name, score, box in zip(self.names, self.scores, self.boxes, strict=True)
        )
        picture = f'<img style="max-width:100%" src="data:image/jpeg;base64,{base64.b64encode(drawn).decode()}">'
        head = '<tr><th>class</th><th>score</th><th>box</th></tr>'
        return f'<p>{html.escape(repr(self))}</p>{picture}<table>{head}{rows}</table>'

    # -- values --------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain values; masks are COCO's run lengths."""
        found: dict[str, Any] = dict(
            path=self.path,
            frame=self.frame,
            width=self.size[0],
            height=self.size[1],
            boxes=self.boxes.tolist(),
            scores=self.scores.tolist(),
            labels=self.labels.tolist(),
            names=list(self.names),
        )
        if self.masks is not None:
            found['masks'] = self._codes()
        return found

    def to_json(self, **options: Any) -> str:
        """:meth:`to_dict` as JSON."""
        return json.dumps(self.to_dict(), **options)

    def _codes(self) -> list[dict]:
        from mmdet.structures.mask import encode_mask_results

        codes = encode_mask_results(self.masks) if self.masks is not None else []
        return [dict(size=list(map(int, code['size'])), counts=code['counts'].decode()) for code in codes]

    def to_df(self) -> Any:
        """A pandas table with a row for each object."""
        pandas = _need('pandas')
        x1, y1, x2, y2 = self.boxes.T
        columns = dict(name=self.names, label=self.labels, score=self.scores, x1=x1, y1=y1, x2=x2, y2=y2)
        return pandas.DataFrame(columns)

    def to_coco(self, image_id: Any = None, first_category: int = 1) -> list[dict]:
        """Results in COCO's form: ``bbox`` as x, y, width, height; ``category_id`` counts from ``first_category``.

        Args:
            image_id: By default the name of the picture.
        """
        codes = self._codes() if self.masks is not None else None
        found = []
        for number, ((x1, y1, x2, y2), score, label) in enumerate(
            zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True)
        ):
            entry: dict[str, Any] = dict(
                image_id=self.name if image_id is None else image_id,
                category_id=label + first_category,
                bbox=[x1, y1, x2 - x1, y2 - y1],
                score=score,
            )
            if codes is not None:
                entry['segmentation'] = codes[number]
            found.append(entry)
        return found

    def to_supervision(self) -> Any:
        """``supervision.Detections``"""
        supervision = _need('supervision')
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.labels.astype(int),
            data={'class_name': np.array(self.names)},
        )

    def to_fiftyone(self) -> Any:
        """``fiftyone.Detections``: boxes in parts of the sides, masks within them."""
        fiftyone = _need('fiftyone')
        width, height = self.size
        found = []
        for number, (x1, y1, x2, y2) in enumerate(self.boxes.tolist()):
            mask = None
            if self.masks is not None:
                left, top = max(int(x1), 0), max(int(y1), 0)
                mask = self.masks[number, top : max(round(y2), top + 1), left : max(round(x2), left + 1)]
            found.append(
                fiftyone.Detection(
                    label=self.names[number],
                    bounding_box=[x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height],
                    confidence=float(self.scores[number]),
                    mask=mask,
                )
            )
        return fiftyone.Detections(detections=found)

    def to_raw(self) -> RawPicture:
        """As annotation files are written from it."""
        codes = self._codes() if self.masks is not None else [None] * len(self)
        boxes = [
            RawBox(tuple(box), name, '', code, score=score)
            for box, name, code, score in zip(self.boxes.tolist(), self.names, codes, self.scores.tolist(), strict=True)
        ]
        return RawPicture(self.name, self.path or self.name, self.size, boxes)


def write_predictions(
    pictures: Sequence[RawPicture], classes: Sequence[str], out: str | Path, format: str, how: str = 'none'
) -> list[str]:
    """Write predictions as annotations, for a tool to correct; see :func:`mmdet.datasets.formats.write_data`."""
    collection = Collection(Path(out), 'predictions', list(classes), {'': list(pictures)})
    return write_data(collection, out, format, 'link' if format == 'yolo' else how)


def _need(package: str) -> Any:
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError:
        raise UserImportError(f'this needs {package}: pip install {package}') from None
