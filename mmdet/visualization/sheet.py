from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmdet.errors import UserValueError

from .text import write_line


def draw_sheet(
    images: Sequence[np.ndarray],
    out_file: str | Path | None = None,
    columns: int = 4,
    cell_size: tuple[int, int] = (400, 300),
    captions: Sequence[str] | None = None,
    gap: int = 6,
) -> np.ndarray:
    """Pictures side by side on a white sheet.

    Args:
        images: RGB, uint8, of any sizes.
        out_file: Where to write the sheet, if anywhere.
        cell_size: (width, height) that each picture is fitted into, with its aspect ratio kept.
        captions: One line for each picture, written below it.

    Returns:
        (height, width, 3) RGB.
    """
    import cv2

    if not images:
        raise UserValueError('a sheet needs at least one picture')
    if captions is not None and len(captions) != len(images):
        raise UserValueError(f'{len(captions)} captions for {len(images)} pictures')
    width, height = cell_size
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    line = 20 if captions is not None else 0
    step_x, step_y = width + gap, height + line + gap
    sheet = np.full((rows * step_y + gap, columns * step_x + gap, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        factor = min(width / image.shape[1], height / image.shape[0])
        size = (max(round(image.shape[1] * factor), 1), max(round(image.shape[0] * factor), 1))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        top, left = gap + i // columns * step_y, gap + i % columns * step_x
        y, x = top + (height - size[1]) // 2, left + (width - size[0]) // 2
        sheet[y : y + size[1], x : x + size[0]] = image
        if captions is not None:
            _write_caption(sheet[top + height : top + height + line, left : left + width], captions[i])
    if out_file is not None:
        write_image(sheet, out_file)
    return sheet


def _write_caption(strip: np.ndarray, caption: str) -> None:
    """Write one line on a strip of a sheet."""
    import cv2

    if caption.isascii():
        cv2.putText(strip, caption, (2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
        return
    write_line(strip, caption)


def write_image(image: np.ndarray, path: str | Path) -> None:
    """Write an RGB picture, with the folders that it needs.

    Raises:
        OSError: the file cannot be written, for want of a known suffix for example.
    """
    import cv2

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:  # encoded first: OpenCV opens no file whose name has letters that Windows' code page lacks
        encoded, content = cv2.imencode(path.suffix, np.ascontiguousarray(image[..., ::-1]))
    except cv2.error as error:
        raise OSError(f'picture {str(path)!r} cannot be written: {error}') from None
    if not encoded:
        raise OSError(f'picture {str(path)!r} cannot be written')
    path.write_bytes(content.tobytes())
