"""Mistakes in detection data, found in the annotation files and images of a config.

Dataset classes leave much of what is looked for here out before anyone sees it, so they are asked for all that their
files hold (``raw_annotations``); pictures are read by the loader of the pipeline.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmengine.dataset import BaseDataset

from mmdet.checks.rehearsal import rehearse, sentence_of
from mmdet.config.sections import dataset_classes, innermost_datasets, pipelines_around
from mmdet.datasets.raw import RawBox, RawPicture, parsed_annotations
from mmdet.datasets.reading.faults import named_faults
from mmdet.datasets.reading.report import KINDS
from mmdet.errors import UserValueError
from mmdet.registry import DATASETS, TASK_UTILS, TRANSFORMS
from mmdet.structures.mask.validation import check_mask
from mmdet.utils.pictures import Header, decode_picture, is_local, picture_size, read_bytes, read_header

LEVELS = {
    'missing image': 'error',
    'corrupt image': 'error',
    'wrong size': 'error',
    'degenerate box': 'error',
    'box outside': 'error',
    'xyxy as xywh': 'error',
    'same picture in two splits': 'error',
    'no images': 'error',
    'unreadable file': 'error',
    'unusable data set': 'error',
    'unusable sample': 'error',
    'check stopped': 'error',
    'box across the border': 'warning',
    'duplicate box': 'warning',
    'annotation id 0': 'warning',
    'class without boxes': 'warning',
    'unknown class': 'warning',
    'no anchor matches': 'warning',
    'lost by resizing': 'warning',
    'pictures of several depths': 'warning',
}
for _kind, (_action, _) in KINDS.items():
    LEVELS.setdefault(_kind, 'warning' if _action == 'repaired' else 'error')


@dataclass
class Problem:
    """One thing that is wrong."""

    kind: str
    split: str
    where: str
    detail: str
    picture: RawPicture | None = None
    box: RawBox | None = None

    @property
    def level(self) -> str:
        """'error' or 'warning', by its kind."""
        return LEVELS[self.kind]

    def __str__(self) -> str:
        return f'{self.level}: {self.kind}: {self.split}: {self.where}: {self.detail}'


@dataclass
class Split:
    """The data of one loader of a config."""

    name: str
    source: str
    pictures: list[RawPicture]
    categories: list[str]
    classes: tuple[str, ...] | str | None
    problems: list[Problem] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)  # of the content of the pictures, by path
    depths: Counter[int] = field(default_factory=Counter)  # bits of the pixels of pictures that have more than eight

    def counts(self) -> Counter[str]:
        """Boxes of each class."""
        boxes = (box for picture in self.pictures for box in picture.boxes)
        return Counter(box.category for box in boxes if box.category is not None)


@dataclass
class Diagnosis:
    """All splits with all problems."""

    splits: list[Split]

    @property
    def problems(self) -> list[Problem]:
        """Of all splits, errors first."""
        found = [problem for split in self.splits for problem in split.problems]
        return sorted(found, key=lambda p: (p.level != 'error', list(LEVELS).index(p.kind)))

    @property
    def has_errors(self) -> bool:
        """Whether a problem is an error."""
        return any(problem.level == 'error' for problem in self.problems)


def examine(cfg: Any, read_images: bool = True, workers: int = 4) -> Diagnosis:
    """Examine the training, validation and test data of a config.

    Whatever stops a reader or a check is a problem of its own, and the rest goes on.

    Args:
        read_images: Decode every picture and make some samples; otherwise only their presence is looked at.
        workers: Threads that decode.
    """
    splits: list[Split] = []
    seen = set()
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        new = []
        for where, dataset in innermost_datasets(cfg, loader):
            key = (dataset.get('type'), dataset.get('data_root'), dataset.get('ann_file'), loader == 'train_dataloader')
            if str(key) in seen:
                continue
            seen.add(str(key))
            split = read_split(dataset, loader.removesuffix('_dataloader'), where)
            new.append(split)
            if any(problem.kind == 'unreadable file' for problem in split.problems):
                continue
            with _going_on(split):
                _check_pictures(split, picture_loader(pipelines_around(cfg, where)), read_images, workers)
            with _going_on(split):
                _check_boxes(split)
            with _going_on(split):
                _check_classes(split)
        splits += new
        if new:
            _check_samples(cfg, loader, new, read_images)
    for split in splits[:1]:
        with _going_on(split):
            _check_overlap(splits)
        with _going_on(split):
            _check_sizes(cfg, splits)
    return Diagnosis(splits)


@contextmanager
def _going_on(split: Split) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        split.problems.append(Problem('check stopped', split.name, split.source, sentence_of(error)))


# --------------------------------------------------------------------------------------------------------------------
# Reading
def read_split(dataset_cfg: dict, name: str, where: str) -> Split:
    """All that the annotation files of a dataset config hold, as its class reads them."""
    kind = dataset_cfg.get('type')
    split = Split(name, str(dataset_cfg.get('ann_file') or where), [], [], None)
    try:
        cls = DATASETS.get(kind) if isinstance(kind, str) else kind
        if not (isinstance(cls, type) and issubclass(cls, BaseDataset)):
            raise UserValueError(f'{where}.type: {kind!r} is no subclass of BaseDataset, which reads annotation files')
        split.classes = dataset_classes(dataset_cfg)
        steps = [step for step in dataset_cfg.get('pipeline') or () if isinstance(step, dict) and step.get('with_mask')]
        dataset = DATASETS.build({**dataset_cfg, 'type': cls, 'pipeline': steps[:1], 'lazy_init': True})
        split.source = str(getattr(dataset, 'ann_file', split.source))
        with named_faults(dataset):
            raw = dataset.raw_annotations() if hasattr(dataset, 'raw_annotations') else parsed_annotations(dataset)
    except Exception as error:
        split.problems.append(Problem('unreadable file', name, split.source, sentence_of(error)))
        return split
    split.source, split.pictures, split.categories = raw.source, raw.pictures, raw.categories
    if not raw.with_boxes:
        split.classes = ()
    split.problems += [Problem(f.kind, name, f.where, f.detail, f.picture) for f in raw.faults]
    if not split.pictures:
        split.problems.append(Problem('no images', name, raw.source, f'{where} has no images'))
    return split


def picture_loader(pipelines: Iterable[Sequence]) -> LoadImageFromFile:
    """The transform that reads the pictures of a dataset in training: the first of its kind, from the inside out."""
    for transform in (transform for pipeline in pipelines for transform in pipeline):
        kind = transform.get('type')
        cls = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
        if isinstance(cls, type) and issubclass(cls, LoadImageFromFile) and getattr(cls, 'reads_files', True):
            return TRANSFORMS.build(dict(transform))
    return TRANSFORMS.build(dict(type='LoadImageFromFile'))


# --------------------------------------------------------------------------------------------------------------------
# Checks
def _check_pictures(split: Split, loader: LoadImageFromFile, read_images: bool, workers: int) -> None:
    args = loader.backend_args if loader.file_client_args is None else loader.file_client_args

    def look(picture: RawPicture) -> Problem | None:
        there = os.path.lexists(picture.path) if is_local(picture.path, args) else None
        missing = Problem('missing image', split.name, picture.name, f'there is no {picture.path}')
        if not read_images:
            return None if (_exists_afar(picture.path, args) if there is None else there) else missing
        broken = lambda text: Problem('corrupt image', split.name, picture.name, text, picture)
        try:
            data = read_bytes(picture.path, args)
            sample = loader.transform(dict(img_path=picture.path))
        except FileNotFoundError as error:
            return broken(str(error)) if there else missing
        except Exception as error:
            return broken(sentence_of(error))
        split.digests[picture.path] = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        if sample is None:  # a loader that lets training go on without it
            return broken(f'{len(data)} bytes that are no image')
        header = read_header(data)
        if header is not None and header.deep and loader.color_type != 'unchanged':
            deepest = decode_picture(data, picture.path, 'unchanged').max()
            split.depths[next((bits for bits in (8, 12) if deepest < 1 << bits), 16)] += 1
        height, width = sample['img_shape']
        if picture.size is not None and tuple(picture.size) != (width, height):
            given = 'x'.join(f'{side:g}' for side in picture.size)
            detail = f'the annotation says {given}, the image is {width}x{height}'
            if tuple(picture.size) == (height, width):
                turned = _is_turned(picture.path, header, args)
                detail += ', turned as its EXIF data say' if turned else ': sides exchanged'
            return Problem('wrong size', split.name, picture.name, detail, picture)
        picture.size = (width, height)
        return None

    with ThreadPoolExecutor(workers) as pool:
        split.problems += [problem for problem in pool.map(look, split.pictures) if problem is not None]
    if len(split.depths) > 1 and getattr(loader, 'bit_depth', None) is None:
        shown = ', '.join(f'{count} of {bits} bits' for bits, count in sorted(split.depths.items()))
        detail = f'by their largest numbers, pictures are {shown}: set bit_depth of the loader to that of the camera'
        split.problems.append(Problem('pictures of several depths', split.name, Path(split.source).name, detail))


def _exists_afar(path: str, backend_args: dict | None) -> bool:
    """Whether a file of another machine is there; true where nobody can say without fetching it."""
    try:
        return fileio.exists(path, backend_args=backend_args)
    except (AttributeError, NotImplementedError):
        return True


def _is_turned(path: str, header: Header | None, backend_args: dict | None) -> bool:
    return header is not None and picture_size(path, backend_args) != (header.width, header.height)


def _check_samples(cfg: Any, loader: str, splits: list[Split], read_images: bool) -> None:
    """Whether training would get samples at all; what is known already is not said again."""
    split = splits[0]
    known = {problem.picture.path for each in splits for problem in each.problems if problem.picture is not None}
    stops = any(problem.level == 'error' for each in splits for problem in each.problems)
    for path, text in rehearse(cfg, loader, read_images):
        if path is None and not stops:
            split.problems.append(Problem('unusable data set', split.name, split.source, text))
        elif path is not None and path not in known and not any(p.where in text for p in split.problems):
            split.problems.append(Problem('unusable sample', split.name, path, text))


def _check_boxes(split: Split) -> None:
    add = lambda kind, picture, box, detail: split.problems.append(
        Problem(kind, split.name, f'{picture.name}, {box.label}', detail, picture, box)
    )
    suspicious = _written_as_corners(split)
    for picture in split.pictures:
        seen: dict[tuple, RawBox] = {}
        for box in picture.boxes:
            x1, y1, x2, y2 = box.xyxy
            text = f'{box.category} at x {x1:g} to {x2:g}, y {y1:g} to {y2:g}'
            if not np.isfinite(box.xyxy).all() or x2 <= x1 or y2 <= y1:
                add('degenerate box', picture, box, f'{text} has no area')
                continue
            if picture.size is not None and not suspicious:
                width, height = picture.size
                if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
                    add('box outside', picture, box, f'{text} lies outside of the {width:g}x{height:g} image')
                elif x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1:
                    add('box across the border', picture, box, f'{text} in an image of {width:g}x{height:g}')
            key = (box.category, *box.xyxy)
            if key in seen:
                add('duplicate box', picture, box, f'{text} is {seen[key].label} again')
            seen.setdefault(key, box)
    if suspicious:
        wrong, total = suspicious
        detail = f'{wrong} of {total} boxes leave their image as x, y, width, height, but fit it as two corners'
        split.problems.append(Problem('xyxy as xywh', split.name, Path(split.source).name, detail))


def _written_as_corners(split: Split) -> tuple[int, int] | None:
    """Whether most boxes only make sense if (x, y, w, h) in the file are really (x1, y1, x2, y2)."""
    leaving = fitting = total = 0
    for picture in split.pictures:
        for box in picture.boxes:
            if box.xywh is None or picture.size is None:
                continue
            total += 1
            width, height = picture.size
            x1, y1, x2, y2 = box.xywh
            leaving += box.xyxy[2] > width + 1 or box.xyxy[3] > height + 1
            fitting += x1 < x2 <= width + 1 and y1 < y2 <= height + 1
    return (leaving, total) if total and leaving > 0.2 * total and fitting > 0.95 * total else None


def polygon_problem(segmentation: Any) -> str | None:
    """Why a COCO segmentation cannot be read, or None."""
    found = check_mask(segmentation)
    if found.problem is not None:
        return found.problem[1]
    return f'has a {found.dropped[0]}' if found.dropped else None


def _check_classes(split: Split) -> None:
    counts = split.counts()
    for name in split.classes if split.classes is not None else split.categories:
        if not counts.get(name):
            split.problems.append(
                Problem('class without boxes', split.name, Path(split.source).name, f'{name!r} has no box')
            )
    if split.classes is not None:
        for name in sorted(set(counts) - set(split.classes)):
            detail = f'{counts[name]} boxes of {name!r}, which the config does not have among its classes'
            split.problems.append(Problem('unknown class', split.name, Path(split.source).name, detail))


def _check_overlap(splits: list[Split]) -> None:
    """Pictures of the training data that occur in other splits: the same file, or the same content."""
    train: dict[str, RawPicture] = {}
    for split in splits:
        if split.name == 'train':
            for picture in split.pictures:
                train[os.path.realpath(picture.path)] = picture
                if picture.path in split.digests:
                    train[split.digests[picture.path]] = picture
    for split in splits:
        if split.name == 'train':
            continue
        for picture in split.pictures:
            other = train.get(os.path.realpath(picture.path)) or train.get(split.digests.get(picture.path, ''))
            if other is not None:
                detail = f'{other.name} of the training data is the same picture'
                split.problems.append(Problem('same picture in two splits', split.name, picture.name, detail, picture))


def _check_sizes(cfg: Any, splits: list[Split]) -> None:
    """Boxes that are too small after resizing, or that no anchor of the config resembles."""
    shapes, threshold = _anchor_shapes(cfg.get('model') or {})
    for split in splits:
        scale = _test_scale(cfg, split.name)
        if scale is None:
            continue
        for picture in split.pictures:
            if picture.size is None or min(picture.size) <= 0:
                continue
            factors = _factors(picture.size, *scale)
            for box in picture.boxes:
                width, height = (box.xyxy[2] - box.xyxy[0]) * factors[0], (box.xyxy[3] - box.xyxy[1]) * factors[1]
                if width <= 0 or height <= 0:
                    continue
                where = f'{picture.name}, {box.label}'
                text = f'{box.category} is {width:.1f}x{height:.1f} after resizing'
                if min(width, height) < 1:
                    split.problems.append(Problem('lost by resizing', split.name, where, text, picture, box))
                elif shapes is not None:
                    inner = np.minimum(shapes[:, 0], width) * np.minimum(shapes[:, 1], height)
                    best = (inner / (shapes.prod(1) + width * height - inner)).max()
                    if best < threshold:
                        detail = (
                            f'{text}: at best IoU {best:.2f} with an anchor at the same place, {threshold:g} is needed'
                        )
                        split.problems.append(Problem('no anchor matches', split.name, where, detail, picture, box))


def _anchor_shapes(model: dict) -> tuple[np.ndarray | None, float]:
    """Widths and heights of all anchors of the first anchor generator, and the IoU below which none is assigned."""
    for head, train_cfg in (
        (model.get('rpn_head'), (model.get('train_cfg') or {}).get('rpn')),
        (model.get('bbox_head'), model.get('train_cfg')),
    ):
        if not isinstance(head, dict) or 'anchor_generator' not in head:
            continue
        from mmengine.registry import init_default_scope

        init_default_scope('mmdet')
        assigner = (train_cfg or {}).get('assigner') or {}
        if assigner.get('type') != 'MaxIoUAssigner':
            continue
        generator = TASK_UTILS.build(dict(head['anchor_generator']))
        anchors = np.concatenate([level.numpy() for level in generator.base_anchors])
        low = assigner.get('min_pos_iou', 0.0) if assigner.get('match_low_quality', True) else assigner['pos_iou_thr']
        return anchors[:, 2:] - anchors[:, :2], float(low if low > 0 else 0.1)
    return None, 0.0


def _test_scale(cfg: Any, split: str) -> tuple[tuple[float, float], bool] | None:
    """The (middle) size that pictures are resized to and whether their shape is kept."""
    where = next((where for where, _ in innermost_datasets(cfg, f'{split}_dataloader')), None)
    pipelines = pipelines_around(cfg, where) if where is not None else []
    for transform in (transform for pipeline in pipelines for transform in pipeline):
        if transform.get('type') in ('Resize', 'RandomResize', 'RandomChoiceResize', 'FixScaleResize'):
            scale = transform.get('scale') or transform.get('scales')
            if isinstance(scale, (list, tuple)) and scale and isinstance(scale[0], (list, tuple)):
                scale = sorted(scale)[len(scale) // 2]
            if isinstance(scale, int):
                scale = (scale, scale)
            if scale is None or len(scale) != 2:
                return None
            return (float(scale[0]), float(scale[1])), bool(transform.get('keep_ratio', False))
    return None


def _factors(size: tuple[float, float], scale: tuple[float, float], keep_ratio: bool) -> tuple[float, float]:
    if not keep_ratio:
        return scale[0] / size[0], scale[1] / size[1]
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return factor, factor
