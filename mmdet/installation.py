"""A look at what is installed beside us, cheap enough for ``import mmdet``: file names only while all is well."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
import warnings

# Shared libraries outside the wheel that the desktop build of OpenCV links to.
DESKTOP_LIBRARIES = ('libGL.so.1', 'libgthread-2.0.so.0', 'libxcb.so.1')


def check() -> None:
    """Say in one sentence what would otherwise end in a loader error or in a broken ``mmcv``.

    Raises:
        ImportError: the desktop build of OpenCV is installed and cannot be loaded on this machine.
    """
    mmcv = _distributions('mmcv')
    if {'mmcv', 'mmcv_lite'} <= mmcv:
        warnings.warn(
            'mmcv and mmcv-lite are both installed and share one folder, so one has overwritten files of the other. '
            'Uninstall both, then install one of them: pip uninstall mmcv mmcv-lite',
            stacklevel=3,
        )
    desktop = _distributions('cv2') & {'opencv_python', 'opencv_contrib_python'}
    if desktop and sys.platform == 'linux':
        missing = [name for name in DESKTOP_LIBRARIES if not _loads(name)]
        if missing:
            _explain_opencv(missing)


def _distributions(module: str) -> set[str]:
    """Names of the distributions in the folder that ``module`` would be imported from."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return set()
    site = os.path.dirname(os.path.dirname(spec.origin))
    return {name.split('-')[0].lower() for name in os.listdir(site) if name.endswith('.dist-info')}


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _explain_opencv(missing: list[str]) -> None:
    try:
        importlib.import_module('cv2')  # the headless build may have been installed over the desktop build
    except ImportError:
        raise ImportError(
            f'The installed OpenCV (opencv-python) is the desktop build and cannot be loaded here, because '
            f'{", ".join(missing)} is missing: run "pip uninstall -y opencv-python opencv-contrib-python && '
            f'pip install --force-reinstall --no-deps opencv-python-headless".'
        ) from None
