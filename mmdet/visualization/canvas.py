"""Boxes, masks, points and labels on pictures (h, w, 3), RGB, by OpenCV and Pillow, in milliseconds."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from .palette import Color
from .text import font_runs

GROUND, GROUND_ALPHA = 0.0, 0.75  # of labels
BAR = 2  # pixels of the colour of its object at the left of a label
_SHIFT = 4  # binary digits of the fractions of pixels that OpenCV takes


def draw_boxes(image: np.ndarray, boxes: np.ndarray, colors: Sequence[Color], width: int, alpha: float) -> None:
    """The edges of boxes (n, 4), half of their ``width`` inside; the last lies on top."""
    opaque = image.copy()
    for (x1, y1, x2, y2), color in zip(np.round(boxes).astype(int).tolist(), colors, strict=True):
        cv2.rectangle(opaque, (x1, y1), (x2, y2), tuple(map(int, color)), width)
    cv2.addWeighted(opaque, alpha, image, 1 - alpha, 0, dst=image)


def tint_masks(image: np.ndarray, masks: np.ndarray, colors: Sequence[Color], alpha: float) -> None:
    """Each mask (n, h, w) tinted and outlined; the last lies on top."""
    for mask, color in zip(masks, colors, strict=True):
        area = area_of(mask)
        if area is None:
            continue
        part, inside = image[area], np.ascontiguousarray(mask[area]).view(np.uint8)
        red, green, blue = map(int, color)
        color = (red, green, blue)
        tint = np.full_like(part, color)
        cv2.copyTo(cv2.addWeighted(part, 1 - alpha, tint, alpha, 0), inside, part)
        outlines, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outlines, -1, color, 1, cv2.LINE_AA, offset=(area[1].start, area[0].start))


def area_of(mask: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns between the first and the last pixels of a mask (h, w); None for an empty one."""
    rows = np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    height = slice(int(rows[0]), int(rows[-1]) + 1)
    columns = np.flatnonzero(mask[height].any(0))
    return height, slice(int(columns[0]), int(columns[-1]) + 1)


def mask_centers(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) centre (x, y) and (n,) area of the largest connected part of each mask.

    Where the centre is not in the part itself, it is the pixel farthest from its border.
    """
    centers, areas = np.zeros((len(masks), 2)), np.zeros(len(masks))
    for i, mask in enumerate(masks):
        area = area_of(mask)
        if area is None:
            continue
        inside = np.ascontiguousarray(mask[area]).view(np.uint8)
        _, parts, stats, middles = cv2.connectedComponentsWithStats(inside, connectivity=8)
        largest = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
        center, areas[i] = middles[largest], stats[largest, cv2.CC_STAT_AREA]
        x, y = center.round().astype(int)
        if parts[y, x] != largest:
            part = np.pad((parts == largest).astype(np.uint8), 1)  # a border of the picture is one of the part
            depth = cv2.distanceTransform(part, cv2.DIST_L2, 3)[1:-1, 1:-1]
            center = np.array(np.unravel_index(depth.argmax(), depth.shape)[::-1])
        centers[i] = center + (area[1].start, area[0].start)
    return centers, areas


def draw_points(image: np.ndarray, points: np.ndarray, radius: float, colors: Sequence[Color]) -> None:
    """Discs around points (n, 2)."""
    scale = 1 << _SHIFT
    for (x, y), color in zip(points.tolist(), colors, strict=True):
        center = (round(x * scale), round(y * scale))
        cv2.circle(image, center, round(radius * scale), tuple(map(int, color)), cv2.FILLED, cv2.LINE_AA, _SHIFT)


# --------------------------------------------------------------------------------------------------------------------
# Labels
def draw_labels(
    image: np.ndarray,
    texts: Sequence[str],
    places: np.ndarray,
    pixels: Sequence[float],
    colors: Sequence[Color],
    bars: Sequence[Color] | None = None,
    font_file: str | None = None,
) -> None:
    """Lines of text on dark ground with their top left corners at ``places`` (n, 2), or near, where others lie there.

    The last is drawn first and has the first choice: it is the surest of what is found.

    Args:
        pixels: Sizes of the font.
        bars: Colours at the left of the labels.
        font_file: Taken for the letters that it has.
    """
    written = [line_of_text(text, max(round(size), 4), font_file) for text, size in zip(texts, pixels, strict=True)]
    margins = (BAR + 4 if bars is not None else 4, 2)
    sizes = np.array([(line.shape[1] + margins[0], line.shape[0] + margins[1]) for line in written]).reshape(-1, 2)
    corners = place_labels(np.round(places).astype(int), sizes, (image.shape[1], image.shape[0]))
    for index in reversed(range(len(written))):
        (x, y), (w, h) = corners[index].tolist(), sizes[index].tolist()
        ground = image[y : y + h, x : x + w]
        if not ground.size:
            continue
        ground[:] = ground * np.float32(1 - GROUND_ALPHA) + np.float32(GROUND * GROUND_ALPHA)
        if bars is not None:
            ground[:, :BAR] = bars[index]
        ink = written[index][: ground.shape[0] - 1, : ground.shape[1] - margins[0] + 2, None]
        part = ground[1 : 1 + ink.shape[0], margins[0] - 2 :][:, : ink.shape[1]]
        part[:] = part + ink * (np.array(colors[index], dtype=np.float32) - part)


def place_labels(places: np.ndarray, sizes: np.ndarray, picture: tuple[int, int]) -> np.ndarray:
    """Corners (n, 2) of labels near their ``places`` in a ``picture`` (width, height), that cover each other least.

    The last has the first choice. Each is tried at its place, above it, then ever farther below, above and beside it.
    """
    corners = np.zeros((len(places), 2), dtype=int)
    taken = np.zeros((0, 4), dtype=int)
    for index in reversed(range(len(places))):
        size = sizes[index]
        tries = places[index] + _OFFSETS * size
        tries = np.maximum(np.minimum(tries, np.array(picture) - size), 0)
        low = np.maximum(tries[:, None], taken[None, :, :2])
        high = np.minimum((tries + size)[:, None], taken[None, :, 2:])
        covered = np.maximum(high - low, 0).prod(-1).sum(-1)
        corners[index] = tries[covered.argmin()]  # the first of equals
        taken = np.concatenate([taken, [[*corners[index], *(corners[index] + size)]]])
    return corners


_OFFSETS = np.array(
    [(0, 0), (0, -1), (0, 1), (0, -2), (0, 2), (-1, 0), (1, 0), (0, 3), (0, -3), (1, 1), (-1, 1), (1, -1), (-1, -1)]
    + [(0, 4), (0, -4), (1, 2), (-1, 2), (1, -2), (-1, -2), (0, 5), (0, -5), (0, 6), (0, -6), (2, 0), (-2, 0)]
)


@functools.lru_cache(4096)
def line_of_text(text: str, pixels: int, font_file: str | None = None) -> np.ndarray:
    """(h, w) ink, 0 to 1, of a line of text; each letter in a font that has it."""
    runs = font_runs(text, font_file)
    fonts = [_font(path, pixels) for path, _ in runs]
    ascent = max((font.getmetrics()[0] for font in fonts), default=pixels)
    descent = max((font.getmetrics()[1] for font in fonts), default=0)
    width = sum(font.getlength(part) for font, (_, part) in zip(fonts, runs, strict=True))
    from PIL import Image, ImageDraw

    canvas = Image.new('L', (int(np.ceil(width)) + 1, ascent + descent))
    draw, x = ImageDraw.Draw(canvas), 0.0
    for font, (_, part) in zip(fonts, runs, strict=True):
        draw.text((x, ascent), part, fill=255, font=font, anchor='ls')
        x += font.getlength(part)
    ink = np.asarray(canvas, dtype=np.float32) / 255
    ink.setflags(write=False)
    return ink


@functools.lru_cache(64)
def _font(path: str, pixels: int):
    from PIL import ImageFont

    return ImageFont.truetype(path, pixels)
