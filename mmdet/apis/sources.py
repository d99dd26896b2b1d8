"""Whatever can be predicted on, as pictures one after another."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch

from mmdet.errors import UserFileError, UserTypeError, UserValueError
from mmdet.utils.pictures import PICTURE_SUFFIXES, array_of

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv', '.ts', '.mjpeg')
STREAMS = ('rtsp', 'rtsps', 'rtmp', 'rtp', 'udp', 'tcp')


@dataclass
class Picture:
    """One picture that is to be looked at.

    Attributes:
        content: Path, URL or array (BGR).
        path: Of its file or video; None for what has none.
        name: For people and for files that are written.
        frame: Its number in a video, from 0.
        fault: Why there is nothing to look at, where that is known already.
    """

    content: Any
    path: str | None
    name: str
    frame: int | None = None
    fault: str | None = None


def pictures_of(source: Any) -> Iterator[Picture]:
    """The pictures of a file, folder, pattern, list, address, video, stream, camera number, array, tensor or Pillow
    picture, none of which is read before it is asked for.

    Folders are entered to their ends; in them, files that are neither pictures nor videos are passed over. A ``.txt``
    file is a list of paths.

    Raises:
        UserError: there is no such file or folder, or it holds no pictures; of a list only while nothing came of it.
    """
    for number, picture in enumerate(_walk(source)):
        if picture.name == '':
            picture.name = f'{number:08}'
        yield picture


def _walk(source: Any) -> Iterator[Picture]:
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, bool):
        raise UserTypeError('a source must be a path, an address, a number of a camera or a picture, not a bool')
    if isinstance(source, int):
        yield from frames_of(source)
    elif isinstance(source, str):
        yield from _of_text(source)
    elif isinstance(source, (np.ndarray, torch.Tensor)):
        yield from _of_array(source)
    elif type(source).__module__.partition('.')[0] == 'PIL':
        yield Picture(array_of(source), None, '')
    elif isinstance(source, Iterable):
        for item in source:
            yield from _walk(item)
    else:
        raise UserTypeError(f'{type(source).__name__} is no source of pictures: give a path, an address or a picture')


def _of_array(source: np.ndarray | torch.Tensor) -> Iterator[Picture]:
    if source.ndim == 4:
        for item in source:
            yield from _of_array(item)
        return
    array = array_of(source)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise UserValueError(f'an array of shape {tuple(source.shape)} is no picture (h, w, channels) nor a batch')
    yield Picture(array, None, '')


def _of_text(source: str) -> Iterator[Picture]:
    if source.isdigit() and not os.path.exists(source):
        yield from frames_of(int(source))
    elif '://' in source:
        scheme, path = source.partition('://')[0].lower(), urlsplit(source).path
        if scheme in STREAMS or path.lower().endswith((*VIDEO_SUFFIXES, '.m3u8')):
            yield from frames_of(source)
        else:
            yield Picture(source, source, os.path.basename(path) or 'picture')
    else:
        yield from _of_path(os.path.expanduser(source))


def _of_path(path: str) -> Iterator[Picture]:
    if os.path.isdir(path):
        found = False
        for picture in _of_folder(path):
            found = True
            yield picture
        if not found:
            raise UserFileError(f'folder {path!r} holds neither pictures nor videos')
    elif os.path.lexists(path):
        if path.lower().endswith(VIDEO_SUFFIXES):
            yield from frames_of(path)
        elif path.lower().endswith('.txt'):
            lines = Path(path).read_text(encoding='utf-8').splitlines()
            for line in lines:
                if line.strip():
                    inside = os.path.join(os.path.dirname(path), line.strip())
                    yield from _of_text(inside if os.path.lexists(inside) else line.strip())
        else:
            yield Picture(path, path, os.path.basename(path))
    elif any(letter in path for letter in '*?['):
        names = sorted(glob.iglob(path, recursive=True))
        if not names:
            raise UserFileError(f'nothing fits the pattern {path!r}')
        for name in names:
            if os.path.isfile(name) and name.lower().endswith((*PICTURE_SUFFIXES, *VIDEO_SUFFIXES)):
                yield from _of_path(name)
    else:
        raise UserFileError(f'there is no file, folder or pattern {path!r}')


def _of_folder(path: str) -> Iterator[Picture]:
    for folder, inner, names in os.walk(path):
        inner[:] = sorted(name for name in inner if not name.startswith('.'))
        for name in sorted(names):
            file = os.path.join(folder, name)
            if name.lower().endswith(PICTURE_SUFFIXES):
                yield Picture(file, file, os.path.relpath(file, path).replace(os.sep, '/'))
            elif name.lower().endswith(VIDEO_SUFFIXES):
                yield from frames_of(file, raises=False)


def frames_of(source: str | int, raises: bool = True) -> Iterator[Picture]:
    """The frames of a video file, a stream or a camera.

    Args:
        raises: Raise where nothing can be read; otherwise there is one picture with a fault.
    """
    import cv2

    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # what it would print is in the fault
    # On Windows the default reader of cameras takes half a minute to begin
    api = cv2.CAP_DSHOW if isinstance(source, int) and sys.platform == 'win32' else cv2.CAP_ANY
    capture = cv2.VideoCapture(source, api)
    path = None if isinstance(source, int) else source
    name = f'camera{source}' if isinstance(source, int) else Path(urlsplit(source).path or source).stem
    number = 0
    try:
        while capture.isOpened():
            there, frame = capture.read()
            if not there:
                break
            yield Picture(frame, path, f'{name}_{number:06}', number)
            number += 1
    finally:
        capture.release()
    if number == 0:
        text = (
            f'camera {source} cannot be opened' if isinstance(source, int) else f'{source!r} cannot be read as a video'
        )
        if raises:
            raise UserFileError(text)
        yield Picture(None, path, name, fault=text)
