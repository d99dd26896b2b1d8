"""Whether there is a display to open windows on."""

from __future__ import annotations

import os
import sys

from mmdet.errors import UserRuntimeError

FILES_ONLY = ('agg', 'cairo', 'pdf', 'pgf', 'ps', 'svg', 'template')
NO_SCREEN = ('inline', 'ipympl', 'widget', 'nbagg', 'webagg')  # in a browser


def require_display(instead: str = 'write the pictures to a folder', by: str = 'matplotlib') -> None:
    """Refuse to open windows where there are none, in which a program would wait for ever.

    Args:
        instead: What else can be done.
        by: 'matplotlib' or 'cv2', which opens the windows.

    Raises:
        UserRuntimeError: there is no display.
    """
    reason = _reason_of_matplotlib() if by == 'matplotlib' else _reason_of_opencv()
    if reason:
        raise UserRuntimeError(f'there is no display to show pictures on: {reason}; {instead}')


def require_place(not_show: bool, output_dir: object) -> None:
    """Refuse to browse where pictures would go nowhere: neither to windows nor to a folder."""
    if not_show and output_dir is None:
        sys.exit('error: with --not-show and without --output-dir there is nothing to do')
    if not not_show:
        require_display('--not-show --output-dir DIR writes the pictures to a folder')


def _reason_of_matplotlib() -> str:
    import matplotlib

    backend = matplotlib.get_backend().lower()
    if backend in FILES_ONLY:
        return f'{_no_screen() or "no windows are set up"} (matplotlib draws by its backend {backend!r})'
    return '' if any(name in backend for name in NO_SCREEN) else _no_screen()


def _reason_of_opencv() -> str:
    import cv2

    missing = _no_screen()
    if missing:
        return missing
    try:
        cv2.namedWindow('result')
    except cv2.error:
        return 'this build of OpenCV has no windows (opencv-python-headless), opencv-python has'
    return ''


def _no_screen() -> str:
    if sys.platform.startswith('linux') and not any(os.environ.get(name) for name in ('DISPLAY', 'WAYLAND_DISPLAY')):
        return 'neither DISPLAY nor WAYLAND_DISPLAY is set'
    return ''
