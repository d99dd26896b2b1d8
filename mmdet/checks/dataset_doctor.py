"""Mistakes in detection data, found in the raw annotation files and images of a config.

Files are read as they are: dataset classes leave much of what is looked for here out before anyone sees it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from mmdet.errors import UserFileError, UserValueError

LEVELS = {
    'missing image': 'error',
    'corrupt image': 'error',
    'wrong size': 'error',
    'unreadable annotation': 'error',
    'degenerate box': 'error',
    'box outside': 'error',
    'xyxy as xywh': 'error',
    'orphan image id': 'error',
    'orphan category id': 'error',
    'repeated annotation id': 'error',
    'unreadable polygon': 'error',
    'same picture in two splits': 'error',
    'no images': 'error',
    'box across the border': 'warning',
    'duplicate box': 'warning',
    'annotation id 0': 'warning',
    'class without boxes': 'warning',
    'unknown class': 'warning',
    'no anchor matches': 'warning',
    'lost by resizing': 'warning',
}


@dataclass
class Picture:
    """An image as its annotation file describes it, and its boxes."""

    name: str
    path: Path
    size: tuple[float, float] | None  # width, height
    boxes: list[Box] = field(default_factory=list)
    digest: str | None = None


@dataclass
class Box:
    """One object: corners in pixels as they stand in the file, class name, its id or number."""

    xyxy: tuple[float, float, float, float]
    category: str
    label: str
    polygons: Any = None
    crowd: bool = False
    as_corners: tuple[float, float, float, float] | None = None  # what x, y, w, h would be if they were corners


@dataclass
class Problem:
    """One thing that is wrong."""

    kind: str
    split: str
    where: str
    detail: str
    picture: Picture | None = None
    box: Box | None = None

    @property
    def level(self) -> str:
        return LEVELS[self.kind]

    def __str__(self) -> str:
        return f'{self.level}: {self.kind}: {self.split}: {self.where}: {self.detail}'


@dataclass
class Split:
    """The data of one loader of a config."""

    name: str
    source: str
    pictures: list[Picture]
    categories: list[str]
    classes: tuple[str, ...] | None
    problems: list[Problem] = field(default_factory=list)

    def counts(self) -> Counter:
        return Counter(box.category for picture in self.pictures for box in picture.boxes)


@dataclass
class Diagnosis:
    """All splits with all problems."""

    splits: list[Split]

    @property
    def problems(self) -> list[Problem]:
        found = [problem for split in self.splits for problem in split.problems]
        return sorted(found, key=lambda p: (p.level != 'error', list(LEVELS).index(p.kind)))

    @property
    def has_errors(self) -> bool:
        return any(problem.level == 'error' for problem in self.problems)


def examine(cfg: Any, read_images: bool = True, workers: int = 4) -> Diagnosis:
    """Examine the training, validation and test data of a config.

    Args:
        read_images: Decode every picture; otherwise only their presence is looked at.
        workers: Threads that decode.
    """
    from mmdet.config import dataset_classes, innermost_datasets

    splits, seen = [], set()
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for where, dataset in innermost_datasets(cfg, loader):
            key = (dataset.get('type'), dataset.get('data_root'), dataset.get('ann_file'), loader == 'train_dataloader')
            if key in seen:
                continue
            seen.add(key)
            split = read_split(dataset, loader.removesuffix('_dataloader'), where, dataset_classes(dataset))
            splits.append(split)
            _check_pictures(split, read_images, workers)
            _check_boxes(split)
            _check_classes(split)
    _check_overlap(splits)
    _check_sizes(cfg, splits)
    return Diagnosis(splits)


# --------------------------------------------------------------------------------------------------------------------
# Reading
def read_split(dataset: dict, name: str, where: str, classes: tuple[str, ...] | None) -> Split:
    """The raw annotations of a dataset config: COCO JSON, or PASCAL VOC XML."""
    root = Path(dataset.get('data_root') or '')
    ann_file = root / (dataset.get('ann_file') or '')
    split = Split(name, str(ann_file), [], [], classes)
    prefix = dataset.get('data_prefix') or {}
    if ann_file.suffix == '.txt':
        _read_voc(split, ann_file, root / prefix.get('sub_data_root', ''), dataset)
    else:
        _read_coco(split, ann_file, root / (prefix.get('img') or prefix.get('img_path') or ''))
    if not split.pictures:
        split.problems.append(Problem('no images', name, str(ann_file), f'{where} has no images'))
    return split


def _read_coco(split: Split, ann_file: Path, folder: Path) -> None:
    try:
        data = json.loads(ann_file.read_text())
        images, annotations, categories = data['images'], data['annotations'], data['categories']
    except FileNotFoundError:
        raise UserFileError(f'There is no annotation file {str(ann_file)!r}.') from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserValueError(f'{ann_file} is not JSON: {error}') from error
    except (KeyError, TypeError) as error:
        raise UserValueError(f'{ann_file} is not a COCO file: it lacks {error}') from error
    names = {category['id']: str(category['name']) for category in categories}
    split.categories = list(names.values())
    pictures = {}
    for image in images:
        size = (image['width'], image['height']) if 'width' in image and 'height' in image else None
        picture = Picture(str(image['file_name']), folder / image['file_name'], size)
        pictures[image['id']] = picture
        split.pictures.append(picture)
    seen = set()
    for annotation in annotations:
        label = f'annotation {annotation.get("id", "?")}'
        picture = pictures.get(annotation.get('image_id'))
        where = ann_file.name if picture is None else picture.name
        number = annotation.get('id')
        if number in seen:
            detail = f'{label} comes twice; COCO tools keep the last one only'
            split.problems.append(Problem('repeated annotation id', split.name, where, detail, picture))
        elif number == 0:
            detail = "COCO's evaluation takes 0 for 'not matched' and counts a detection of that object as wrong"
            split.problems.append(Problem('annotation id 0', split.name, where, detail, picture))
        if number is not None:
            seen.add(number)
        if picture is None:
            detail = f'{label} belongs to image {annotation.get("image_id")!r}, which the file does not have'
            split.problems.append(Problem('orphan image id', split.name, where, detail))
            continue
        category = names.get(annotation.get('category_id'))
        if category is None:
            detail = f'{label} has category {annotation.get("category_id")!r}, which the file does not have'
            split.problems.append(Problem('orphan category id', split.name, where, detail, picture))
            category = str(annotation.get('category_id'))
        try:
            x, y, w, h = map(float, annotation['bbox'])
        except (KeyError, TypeError, ValueError):
            detail = f'{label} has the box {annotation.get("bbox")!r}'
            split.problems.append(Problem('unreadable annotation', split.name, picture.name, detail, picture))
            continue
        picture.boxes.append(
            Box(
                (x, y, x + w, y + h),
                category,
                label,
                annotation.get('segmentation'),
                bool(annotation.get('iscrowd')),
                (x, y, w, h),
            )
        )


def _read_voc(split: Split, ann_file: Path, folder: Path, dataset: dict) -> None:
    if not ann_file.is_file():
        raise UserFileError(f'There is no annotation file {str(ann_file)!r}.')
    images, annotations = dataset.get('img_subdir', 'JPEGImages'), dataset.get('ann_subdir', 'Annotations')
    names: dict[str, None] = {}
    for line in ann_file.read_text().split('\n'):
        if not line.strip():
            continue
        name = line.split()[0]
        picture = Picture(name, folder / images / f'{name}.jpg', None)
        split.pictures.append(picture)
        try:
            tree = ElementTree.parse(folder / annotations / f'{name}.xml').getroot()
            size = tree.find('size')
            if size is not None:
                picture.size = (float(size.findtext('width')), float(size.findtext('height')))
            for number, item in enumerate(tree.findall('object'), start=1):
                category = item.findtext('name')
                names[category] = None
                corners = [float(item.find('bndbox').findtext(key)) for key in ('xmin', 'ymin', 'xmax', 'ymax')]
                picture.boxes.append(Box(tuple(corners), category, f'object {number}'))
        except (OSError, ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
            split.problems.append(Problem('unreadable annotation', split.name, f'{name}.xml', str(error), picture))
    split.categories = list(names)


# --------------------------------------------------------------------------------------------------------------------
# Checks
def _check_pictures(split: Split, read_images: bool, workers: int) -> None:
    import cv2

    def look(picture: Picture) -> Problem | None:
        if not picture.path.is_file():
            return Problem('missing image', split.name, picture.name, f'there is no {picture.path}')
        if not read_images:
            return None
        data = picture.path.read_bytes()
        picture.digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            return Problem('corrupt image', split.name, picture.name, f'{len(data)} bytes that are no image', picture)
        if data[:2] == b'\xff\xd8' and b'\xff\xd9' not in data[-64:]:
            return Problem('corrupt image', split.name, picture.name, 'the JPEG file is cut short', picture)
        real = (image.shape[1], image.shape[0])
        if picture.size is not None and tuple(picture.size) != real:
            given = 'x'.join(f'{side:g}' for side in picture.size)
            detail = f'the annotation says {given}, the image is {real[0]}x{real[1]}'
            return Problem('wrong size', split.name, picture.name, detail, picture)
        picture.size = real
        return None

    with ThreadPoolExecutor(workers) as pool:
        split.problems += [problem for problem in pool.map(look, split.pictures) if problem is not None]


def _check_boxes(split: Split) -> None:
    add = lambda kind, picture, box, detail: split.problems.append(
        Problem(kind, split.name, f'{picture.name}, {box.label}', detail, picture, box)
    )
    suspicious = _written_as_corners(split)
    for picture in split.pictures:
        seen: dict[tuple, Box] = {}
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
            reason = polygon_problem(box.polygons)
            if reason:
                add('unreadable polygon', picture, box, f'{box.category}: {reason}')
    if suspicious:
        wrong, total = suspicious
        detail = f'{wrong} of {total} boxes leave their image as x, y, width, height, but fit it as two corners'
        split.problems.append(Problem('xyxy as xywh', split.name, Path(split.source).name, detail))


def _written_as_corners(split: Split) -> tuple[int, int] | None:
    """Whether most boxes only make sense if (x, y, w, h) in the file are really (x1, y1, x2, y2)."""
    leaving = fitting = total = 0
    for picture in split.pictures:
        for box in picture.boxes:
            if box.as_corners is None or picture.size is None:
                continue
            total += 1
            width, height = picture.size
            x1, y1, x2, y2 = box.as_corners
            leaving += box.xyxy[2] > width + 1 or box.xyxy[3] > height + 1
            fitting += x1 < x2 <= width + 1 and y1 < y2 <= height + 1
    return (leaving, total) if total and leaving > 0.2 * total and fitting > 0.95 * total else None


def polygon_problem(segmentation: Any) -> str | None:
    """Why a COCO segmentation cannot be read, or None."""
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        from pycocotools import mask

        try:
            counts = segmentation['counts']
            rle = mask.frPyObjects(segmentation, *segmentation['size']) if isinstance(counts, list) else segmentation
            mask.area(rle)
        except Exception as error:
            return f'its run lengths cannot be decoded: {error}'
        if isinstance(counts, list) and sum(counts) != segmentation['size'][0] * segmentation['size'][1]:
            return 'its run lengths do not add up to the image'
        return None
    for polygon in segmentation:
        if not isinstance(polygon, list) or not all(isinstance(v, (int, float)) for v in polygon):
            return f'a polygon is {str(polygon)[:40]!r}, not a list of numbers'
        if len(polygon) % 2:
            return f'a polygon has {len(polygon)} numbers, which are no pairs'
        if len(polygon) < 6:
            return f'a polygon has only {len(polygon) // 2} corners'
    return None


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
    train: dict[str, Picture] = {}
    for split in splits:
        if split.name == 'train':
            for picture in split.pictures:
                train[picture.digest or str(picture.path.resolve())] = picture
                train[str(picture.path.resolve())] = picture
    for split in splits:
        if split.name == 'train':
            continue
        for picture in split.pictures:
            other = train.get(str(picture.path.resolve())) or train.get(picture.digest or '')
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
            if picture.size is None:
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

        from mmdet.registry import TASK_UTILS

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
    loader = cfg.get(f'{split}_dataloader') or {}
    node = loader.get('dataset') or {}
    pipeline: Any = node.get('pipeline')
    while not pipeline and isinstance(node, dict):
        node = node.get('dataset') or next(iter(node.get('datasets') or [{}]))
        pipeline = node.get('pipeline') if node else None
        if not node:
            break
    for transform in pipeline or ():
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


# --------------------------------------------------------------------------------------------------------------------
# Reports
def as_text(diagnosis: Diagnosis, limit: int = 10) -> str:
    """A report for the terminal: counts, then up to ``limit`` problems of each kind."""
    lines = []
    for split in diagnosis.splits:
        counts = split.counts()
        lines.append(f'{split.name}: {split.source}: {len(split.pictures)} images, {sum(counts.values())} boxes')
        lines += [f'    {name}: {count}' for name, count in counts.most_common()]
    for (level, kind), problems in _by_kind(diagnosis).items():
        lines.append(f'{level}: {kind}: {len(problems)}')
        lines += [f'    {p.split}: {p.where}: {p.detail}' for p in problems[:limit]]
        if len(problems) > limit:
            lines.append(f'    and {len(problems) - limit} more')
    if not diagnosis.problems:
        lines.append('nothing found')
    return '\n'.join(lines)


def as_json(diagnosis: Diagnosis) -> str:
    """Everything that was found, for programs."""
    splits = [
        dict(name=s.name, source=s.source, images=len(s.pictures), boxes=dict(s.counts())) for s in diagnosis.splits
    ]
    problems = [
        dict(level=p.level, kind=p.kind, split=p.split, where=p.where, detail=p.detail) for p in diagnosis.problems
    ]
    return json.dumps(dict(splits=splits, problems=problems), indent=1)


def as_html(diagnosis: Diagnosis, pictures: int = 24) -> str:
    """One self-contained page, with the pictures that have most problems drawn."""
    rows = ''.join(
        f'<tr class={p.level}><td>{p.level}<td>{html.escape(p.kind)}<td>{html.escape(p.split)}'
        f'<td>{html.escape(p.where)}<td>{html.escape(p.detail)}'
        for p in diagnosis.problems[:2000]
    )
    counts = ''.join(
        f'<h3>{html.escape(s.name)}: {len(s.pictures)} images</h3><table>'
        + ''.join(f'<tr><td>{html.escape(name)}<td>{count}' for name, count in s.counts().most_common())
        + '</table>'
        for s in diagnosis.splits
    )
    drawn = ''.join(
        f'<figure><img src="data:image/jpeg;base64,{data}"><figcaption>{html.escape(text)}</figcaption></figure>'
        for data, text in _worst_pictures(diagnosis, pictures)
    )
    return (
        '<!doctype html><meta charset=utf-8><title>dataset</title><style>body{font:14px sans-serif;margin:2em}'
        'td{padding:2px 8px;border-top:1px solid #ddd;vertical-align:top}.error td:first-child{color:#b00}'
        'figure{display:inline-block;margin:6px;max-width:420px}img{max-width:100%}</style>'
        f'<h1>Dataset report</h1>{counts}<h2>Problems</h2><table>{rows or "<tr><td>none"}</table>'
        f'<h2>Pictures with most problems</h2>{drawn or "<p>none</p>"}'
    )


def _by_kind(diagnosis: Diagnosis) -> dict[tuple[str, str], list[Problem]]:
    groups: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in diagnosis.problems:
        groups[problem.level, problem.kind].append(problem)
    return groups


def _worst_pictures(diagnosis: Diagnosis, limit: int) -> Iterator[tuple[str, str]]:
    import cv2

    worst: dict[int, list[Problem]] = defaultdict(list)
    for problem in diagnosis.problems:
        if problem.picture is not None:
            worst[id(problem.picture)].append(problem)
    weight = lambda problems: -sum(10 if p.level == 'error' else 1 for p in problems)
    for problems in sorted(worst.values(), key=weight)[:limit]:
        picture = problems[0].picture
        image = cv2.imread(str(picture.path))
        if image is None:
            continue
        bad = {id(problem.box) for problem in problems}
        for box in picture.boxes:
            if np.isfinite(box.xyxy).all():
                x1, y1, x2, y2 = (int(np.clip(v, -9999, 9999)) for v in box.xyxy)
                wrong = id(box) in bad
                cv2.rectangle(image, (x1, y1), (x2, y2), (0, 0, 255) if wrong else (0, 160, 0), 3 if wrong else 1)
                if wrong:  # a box without area is hard to see
                    cv2.circle(image, ((x1 + x2) // 2, (y1 + y2) // 2), 12, (0, 0, 255), 2)
        factor = min(1.0, 640 / max(image.shape[:2]))
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        data = cv2.imencode('.jpg', image)[1].tobytes()
        text = f'{picture.name}: ' + '; '.join(f'{p.kind}: {p.detail}' for p in problems[:4])
        yield base64.b64encode(data).decode(), text
