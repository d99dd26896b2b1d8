"""What the dataset doctor found, as text, JSON and a page."""

from __future__ import annotations

import base64
import html
import json
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from mmdet.checks.dataset_doctor import Diagnosis, Problem
from mmdet.datasets.raw import RawPicture
from mmdet.errors import UserError
from mmdet.utils.pictures import read_picture


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

    worst: dict[int, tuple[RawPicture, list[Problem]]] = {}
    for problem in diagnosis.problems:
        if problem.picture is not None:
            worst.setdefault(id(problem.picture), (problem.picture, []))[1].append(problem)
    weight = lambda entry: -sum(10 if p.level == 'error' else 1 for p in entry[1])
    for picture, problems in sorted(worst.values(), key=weight)[:limit]:
        try:
            image = read_picture(picture.path)
        except UserError:
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
