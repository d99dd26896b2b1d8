"""Captions whose phrases have the colours of their boxes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.structures import InstanceData

from mmdet.errors import UserValueError
from mmdet.structures import DetDataSample

from .palette import Color, get_palette
from .text import DRAWING, font_families, plain_text, text_width

Run = tuple[str, Any]
PLAIN: Color = (40, 40, 40)
POINTS = 9
LINE = 20
"""Pixels from line to line."""


def draw_caption(runs: Sequence[Run], width: int) -> np.ndarray:
    """Text in lines on a white picture.

    Args:
        runs: Pieces of the text with their colours: RGB up to 255, or what matplotlib takes.

    Returns:
        (h, width, 3) RGB.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    placed, lines = _placed(runs, width)
    height = lines * LINE + 8
    with DRAWING:
        figure = Figure(figsize=((width + 0.01) / 100, (height + 0.01) / 100), dpi=100, facecolor='white')
        canvas = FigureCanvasAgg(figure)
        families = font_families(''.join(text for text, _ in runs))
        for text, color, x, line in placed:
            y = 1 - (4 + (line + 0.5) * LINE) / height
            figure.text(x / width, y, plain_text(text), size=POINTS, va='center', color=_color(color), family=families)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:height, :width, :3].copy()


def _placed(runs: Sequence[Run], width: int) -> tuple[list[tuple[str, Any, float, int]], int]:
    """Words with colour, x and line; and the number of lines."""
    placed: list[tuple[str, Any, float, int]] = []
    x, line, size = 4.0, 0, POINTS * 100 / 72
    for text, color in runs:
        for word in re.findall(r'\S+|\s+', text):
            advance = text_width(word) * size
            if not word.isspace():
                if x > 4 and x + advance > width - 4:
                    x, line = 4.0, line + 1
                placed.append((word, color, x, line))
            x += advance
    return placed, line + 1


def _color(color: Any) -> Any:
    is_bytes = isinstance(color, (tuple, list)) and max(color, default=0) > 1
    return tuple(channel / 255 for channel in color) if is_bytes else color


def phrases_of(caption: str, tokens_positive: Any) -> dict[int, list[list[int]]]:
    """Spans of letters of each phrase by label; -1 makes the caption one phrase."""
    if isinstance(tokens_positive, int):
        return {0: [[0, len(caption)]]}
    pairs = tokens_positive.items() if isinstance(tokens_positive, Mapping) else enumerate(tokens_positive)
    return {int(label): [list(map(int, span)) for span in spans] for label, spans in pairs}


def colored_runs(caption: str, phrases: Mapping[int, Sequence[Sequence[int]]], colors: Sequence[Color]) -> list[Run]:
    """The caption cut where its colour changes."""
    of_letter: list[Color] = [PLAIN] * len(caption)
    for label, spans in phrases.items():
        for start, end in spans:
            of_letter[start:end] = [colors[label]] * (min(end, len(caption)) - start)
    runs: list[Run] = []
    for letter, color in zip(caption, of_letter, strict=True):
        if runs and runs[-1][1] == color:
            runs[-1] = (runs[-1][0] + letter, color)
        else:
            runs.append((letter, color))
    return runs


def draw_grounded(visualizer: Any, image: np.ndarray, data_sample: DetDataSample, score_thr: Any = 0.3) -> np.ndarray:
    """A picture with the boxes of phrases, ground truth at the left if there is any, and the caption below.

    Args:
        data_sample: With ``text``, ``tokens_positive`` and ``pred_instances``, whose labels number the phrases.

    Returns:
        (h, w, 3) RGB.
    """
    caption = data_sample.text
    phrases = phrases_of(caption, data_sample.tokens_positive)
    count = max(phrases, default=0) + 1
    colors = get_palette('random', count)
    shown = DetDataSample()
    found = {'pred': data_sample.get('pred_instances'), 'gt': data_sample.get('gt_instances')}
    for kind, instances in found.items():
        if instances is None or not len(instances):
            continue
        labels = instances.labels
        if kind == 'gt' and 'phrase_ids' in data_sample:
            labels = labels.new_tensor(data_sample.phrase_ids)
        elif data_sample.tokens_positive == -1:
            labels = labels * 0
        named = [' '.join(caption[s:e] for s, e in phrases.get(int(label), ())) for label in labels]
        if kind == 'gt' and len(labels) and int(labels.max()) >= count:
            raise UserValueError(f'a box is of phrase {int(labels.max())}, but the caption has {count}: {caption!r}')
        fields = dict(bboxes=instances.bboxes, labels=labels, label_names=named)
        if 'scores' in instances:
            fields['scores'] = instances.scores
        setattr(shown, f'{kind}_instances', InstanceData(**fields))
    with DRAWING:
        before = visualizer.dataset_meta
        visualizer.dataset_meta = dict(classes=None, palette=colors)
        try:
            drawn = visualizer.draw_datasample(image, shown, pred_score_thr=score_thr)
        finally:
            visualizer.dataset_meta = before
    return np.concatenate([drawn, draw_caption(colored_runs(caption, phrases, colors), drawn.shape[1])])
