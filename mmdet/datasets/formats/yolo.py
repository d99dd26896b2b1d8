"""YOLO: ``data.yaml`` and a text file beside each picture, with boxes or polygons in parts of the sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmdet.datasets.reading.values import as_number, short
from mmdet.errors import UserFileError, UserValueError

from ..raw import RawBox, RawPicture
from .collection import Collection, Reading, around, pictures_below, split_of

TOLERANCE = 0.01
"""How far a coordinate may lie outside of 0..1, which rounding and labels at the border bring about."""


def yolo_file(root: Path) -> Path | None:
    """The YAML file of a data set, in a folder or given itself; None where there is none."""
    if root.is_file():
        return root if root.suffix.lower() in ('.yaml', '.yml') and _names_classes(root) else None
    named = [root / name for name in ('data.yaml', 'data.yml', 'dataset.yaml', 'dataset.yml')]
    others = sorted([*root.glob('*.yaml'), *root.glob('*.yml')])
    return next((path for path in (*named, *others) if path.is_file() and _names_classes(path)), None)


def _names_classes(path: Path) -> bool:
    text = path.read_text(encoding='utf-8', errors='replace')
    return any(line.split(':')[0].strip() == 'names' for line in text.splitlines())


def is_yolo(root: Path) -> bool:
    """Whether there is such a YAML file, or a list of class names beside folders ``images`` and ``labels``."""
    return yolo_file(root) is not None or _class_list(root) is not None


def _class_list(root: Path) -> Path | None:
    names = [root / 'classes.txt', root / 'labels' / 'classes.txt', root / 'obj.names']
    there = root.is_dir() and ((root / 'labels').is_dir() or any(root.rglob('labels')))
    return next((path for path in names if path.is_file() and there), None)


def read_yolo(root: Path) -> Collection:
    """Pictures and objects of a YOLO data set. A picture without a text file has no objects."""
    file = yolo_file(root)
    if file is None:
        listed = _class_list(root)
        assert listed is not None
        names = [line.strip() for line in listed.read_text(encoding='utf-8').splitlines() if line.strip()]
        reading = Reading(root, 'yolo')
        groups = [(split_of(path, root), path) for path in pictures_below(root)]
        keypoints = False
    else:
        content = _read_yaml(file)
        names = _names(content, file)
        reading = Reading(file.parent, 'yolo')
        groups = list(_listed(content, file, reading))
        keypoints = 'kpt_shape' in content
    if keypoints:
        reading.notes.append('the keypoints of its lines are left out')
    for split, path in groups:
        picture = reading.picture(split, str(path))
        picture.boxes += _boxes(picture, label_file(path), names, keypoints, reading)
    return reading.collected(names)


def _read_yaml(file: Path) -> dict:
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding='utf-8'))
    except (yaml.YAMLError, ValueError) as error:
        raise UserValueError(f'{str(file)!r} is not valid YAML: {" ".join(str(error).split())}') from None
    if not isinstance(content, dict) or 'names' not in content:
        raise UserValueError(f'{str(file)!r} has no "names", the classes of a YOLO data set')
    return content


def _names(content: dict, file: Path) -> list[str]:
    names = content['names']
    if isinstance(names, dict):
        numbers = sorted(names)
        if numbers != list(range(len(names))):
            raise UserValueError(f'{str(file)!r}: "names" must be numbered 0, 1, 2, ..., not {short(numbers)}')
        names = [names[number] for number in numbers]
    if not isinstance(names, list) or not names:
        raise UserValueError(f'{str(file)!r}: "names" must be a list of class names, not {short(names)}')
    count = content.get('nc')
    if count is not None and count != len(names):
        raise UserValueError(f'{str(file)!r}: "nc" is {count!r}, but "names" has {len(names)} classes')
    return [str(name) for name in names]


def _listed(content: dict, file: Path, reading: Reading) -> Iterator[tuple[str, Path]]:
    """(split, picture) of the entries ``train``, ``val`` and ``test``: folders, text files with paths, or lists."""
    for split in ('train', 'val', 'test'):
        entry = content.get(split) or (content.get('valid') if split == 'val' else None)
        for item in entry if isinstance(entry, list) else [entry] if entry else []:
            place = _place(str(item), str(content.get('path') or ''), file)
            if place is None:
                if split == 'test':
                    reading.notes.append(f'there is no {item!r}, which the YAML file names as {split}')
                    continue
                raise UserFileError(f'{str(file)!r}: there is no {item!r}, which it names as {split}')
            if place.is_dir():
                yield from ((split, path) for path in pictures_below(place))
                continue
            for line in place.read_text(encoding='utf-8').splitlines():
                if line.strip():
                    found = _place(line.strip(), '', place) or _place(line.strip(), '', file)
                    yield split, found if found is not None else place.parent / line.strip()


def _place(item: str, inside: str, file: Path) -> Path | None:
    """A path relative to ``path`` of the YAML file, to the file, or (Roboflow's ``../train``) without its dots."""
    plain = item.replace('\\', '/')
    bare = plain
    while bare.startswith(('../', './')):
        bare = bare.partition('/')[2]
    for folder in (Path(inside), file.parent / inside, file.parent):
        for text in (plain, bare):
            path = folder / text
            if (inside or folder != Path()) and path.exists():
                return path
    return Path(plain) if Path(plain).is_absolute() and Path(plain).exists() else None


def label_file(picture: Path) -> Path:
    """The text file of a picture: in ``labels`` in the place of the last ``images`` of its path, else beside it."""
    parts = list(picture.parts)
    if 'images' in parts[:-1]:
        place = len(parts) - 2 - parts[-2::-1].index('images')
        other = Path(*parts[:place], 'labels', *parts[place + 1 :]).with_suffix('.txt')
        if other.is_file() or not picture.with_suffix('.txt').is_file():
            return other
    return picture.with_suffix('.txt')


def _boxes(picture: RawPicture, file: Path, names: list[str], keypoints: bool, reading: Reading) -> list[RawBox]:
    if picture.size is None or not file.is_file():
        return []
    width, height = picture.size
    found = []
    for number, line in enumerate(file.read_text(encoding='utf-8').splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where, entry = str(file), f'line {number}'
        values = [as_number(word) for word in words]
        label = values[0]
        if any(value is None for value in values) or label is None or label != int(label):
            reading.add('unreadable annotation', where, entry, f'is {short(line)}, not a class and numbers', line)
            continue
        if not 0 <= label < len(names):
            detail = f'has the class {words[0]}, but the classes are numbered from 0 to {len(names) - 1}'
            reading.add('unreadable annotation', where, entry, detail, words[0])
            continue
        numbers: list[Any] = values[1:5] if keypoints else values[1:]
        if not all(-TOLERANCE <= value <= 1 + TOLERANCE for value in numbers):
            detail = f'has {short(line)}, where all numbers are parts of the sides, from 0 to 1'
            reading.add('unreadable annotation', where, entry, detail, line)
            continue
        if len(numbers) == 4:
            x, y, w, h = numbers
            corners = (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height
            found.append(RawBox(corners, names[int(label)], entry))
        elif len(numbers) >= 6 and len(numbers) % 2 == 0:
            polygon = [value * side for value, side in zip(numbers, (width, height) * (len(numbers) // 2), strict=True)]
            found.append(RawBox(around(polygon), names[int(label)], entry, [polygon]))
        else:
            detail = f'has {len(numbers)} numbers after the class; a box has 4, a polygon 6 or more in pairs'
            reading.add('unreadable annotation', where, entry, detail, line)
    return found
