"""Captions whose phrases have the colours of their boxes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.structures import InstanceData

from mmdet.errors import UserValueError
from mmdet.structures import DetDataSample

from .canvas import line_of_text
from .palette import Color, get_palette
from .text import DRAWING

Run = tuple[str, Any]
PLAIN: Color = (40, 40, 40)
PIXELS, LINE, MARGIN = 13, 20, 4
"""Size of the font, from line to line, and around the text."""


def draw_caption(runs: Sequence[Run], width: int) -> np.ndarray:
    """Text in lines on a white picture.

    Args:
        runs: Pieces of the text with their colours: RGB up to 255, or what matplotlib takes.

    Returns:
        (h, width, 3) RGB.
    """
    placed, lines = _placed(runs, width)
    drawn = np.full((lines * LINE + 2 * MARGIN, width, 3), 255, dtype=np.float32)
    for ink, color, x, line in placed:
        part = drawn[MARGIN + line * LINE :, x:][: ink.shape[0], : ink.shape[1]]
        part += ink[: part.shape[0], : part.shape[1], None] * (np.asarray(_color(color), dtype=np.float32) - part)
    return drawn.round().astype(np.uint8)


def _placed(runs: Sequence[Run], width: int) -> tuple[list[tuple[np.ndarray, Any, int, int]], int]:
    """Ink of words with colour, x and line; and the number of lines."""
    placed: list[tuple[np.ndarray, Any, int, int]] = []
    x, line, space = MARGIN, 0, line_of_text(' ', PIXELS).shape[1]
    for text, color in runs:
        for word in re.findall(r'\S+|\s+', text):
            if word.isspace():
                x += space * len(word)
                continue
            ink = line_of_text(word, PIXELS)
            if x > MARGIN and x + ink.shape[1] > width - MARGIN:
                x, line = MARGIN, line + 1
            placed.append((ink, color, x, line))
            x += ink.shape[1]
    return placed, line + 1


def _color(color: Any) -> Any:
    """RGB up to 255."""
    if isinstance(color, (tuple, list)) and max(color) > 1:
        return color
    from matplotlib.colors import to_rgb

    return tuple(255 * channel for channel in to_rgb(color))


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
