"""Colours (RGB, 0 to 255) and sizes of what is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmdet.errors import UserValueError

Color = tuple[int, int, int]
DATASET_OF_PALETTE = {'coco': 'CocoDataset', 'voc': 'VOCDataset', 'citys': 'CityscapesDataset'}


def palette_val(palette: Sequence[Color]) -> list[tuple[float, float, float]]:
    """Colours as matplotlib takes them, 0 to 1."""
    return [(red / 255, green / 255, blue / 255) for red, green, blue in palette]


def get_palette(palette: Sequence[Color] | str | Color | None, num_classes: int) -> list[Color]:
    """At least ``num_classes`` colours.

    Args:
        palette: A list of colours, which is continued at random where it is short; one colour for all; the name of a
            data set (coco, voc, citys) or of a colour (``'green'``, ``'#00ff00'``); ``'random'`` or ``None``.
    """
    if isinstance(palette, str) and palette in DATASET_OF_PALETTE:
        from mmdet.registry import DATASETS

        palette = list(DATASETS.get(DATASET_OF_PALETTE[palette]).METAINFO['palette'])
    elif isinstance(palette, str) and palette != 'random':
        from matplotlib.colors import to_rgb

        try:
            red, green, blue = (round(channel * 255) for channel in to_rgb(palette))
            palette = (red, green, blue)
        except ValueError:
            names = ', '.join(DATASET_OF_PALETTE)
            raise UserValueError(f'{palette!r} is neither a colour nor a palette ({names}, random)') from None
    if isinstance(palette, tuple) and len(palette) == 3 and not isinstance(palette[0], (tuple, list)):
        return [palette] * num_classes
    colors = [] if palette is None or isinstance(palette, str) else [tuple(color) for color in palette]
    if len(colors) < num_classes:
        drawn = np.random.RandomState(42).randint(0, 256, size=(num_classes, 3)).tolist()
        colors += [tuple(color) for color in drawn[len(colors) :]]
    return colors


def jitter_color(color: Color, rng: np.random.Generator | None = None) -> Color:
    """A colour near ``color``, so that neighbours of one class can be told apart; without ``rng`` always the same."""
    jitter = (rng or np.random.default_rng(0)).random(3)
    jitter = (jitter / np.linalg.norm(jitter) - 0.5) * 0.5 * 255
    return tuple(np.clip(jitter + color, 0, 255).astype(np.uint8).tolist())


def get_adaptive_scales(areas: np.ndarray, min_area: int = 800, max_area: int = 30000) -> np.ndarray:
    """0.5 for areas up to ``min_area`` pixels, rising to 1 at ``max_area``."""
    return np.clip(0.5 + (areas - min_area) / (max_area - min_area), 0.5, 1.0)


_get_adaptive_scales = get_adaptive_scales  # its name in MMDetection 3.x
