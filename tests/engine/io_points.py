"""Every call by which a run changes its folder, counted; one of them kills the process or fails.

The calls are patched at Python's level, in a process made for it: ``os``, ``open`` and the writes of each open file.
"""

import builtins
import errno
import io
import os
import re
import signal
from pathlib import Path
from typing import NamedTuple

FAULTS = {
    'write': ('kill', 'ENOSPC', 'EIO', 'full', 'power'),
    'fsync': ('kill', 'ENOSPC', 'EIO', 'power'),
    'open': ('kill', 'ENOSPC', 'EIO', 'EACCES', 'full'),
    'mkdir': ('kill', 'ENOSPC', 'EACCES'),
    'chmod': ('kill', 'EIO', 'EACCES'),
    'replace': ('kill', 'ENOSPC', 'EIO', 'EACCES', 'power'),
    'unlink': ('kill', 'EIO', 'EACCES'),
    'truncate': ('kill', 'EIO'),
}
"""What can befall each call. 'kill' is SIGKILL, after half of the bytes if it is a write; 'power' is that and the loss
of what was not flushed to the disk; 'full' is ENOSPC now and at every later call that needs room."""
ROOM = ('write', 'fsync', 'open', 'mkdir')
_NAMES = dict(rename='replace', remove='unlink', rmdir='unlink', ftruncate='truncate')


class Point(NamedTuple):
    """One call: what it does to which file, without what differs between two runs."""

    call: str
    file: str


class Shim:
    """Counts the calls of this process below a folder, and lets something befall one of them.

    Args:
        number: Which call, from 0 on; None lets all of them pass.
        fault: One of :data:`FAULTS`.
    """

    def __init__(self, folder, number=None, fault='kill'):
        self.folder, self.number, self.fault = os.path.realpath(folder), number, fault
        self.points: list[Point] = []
        self.process = os.getpid()
        self.unsynced: set[str] = set()
        self.real = {name: getattr(os, name) for name in ('open', 'write', 'fsync', 'fdopen', 'truncate')}
        self.real_open = io.open

    def install(self):
        for name in ('mkdir', 'chmod', 'replace', 'rename', 'unlink', 'remove', 'rmdir'):
            setattr(os, name, self._counted(name, getattr(os, name)))
        for name in ('fsync', 'ftruncate', 'write'):
            setattr(os, name, self._counted(name, getattr(os, name), of_handle=True))
        os.open, os.fdopen = self._os_open, self._fdopen
        io.open = builtins.open = self._open

    def path_of(self, place, dir_fd=None):
        """The path of a file, or of an open one, below the folder; None elsewhere."""
        if isinstance(place, int):
            place = os.readlink(f'/proc/self/fd/{place}')
        path = os.path.realpath(os.path.dirname(os.path.abspath(os.fsdecode(place))))
        path = os.path.join(path, os.path.basename(os.fsdecode(place)))
        return path if path == self.folder or path.startswith(self.folder + os.sep) else None

    def reach(self, call, path, half=None):
        """Count a call; does not return, or raises, where it is the one."""
        name = re.sub(r'\d{8}_\d{6}', 'TIME', os.path.relpath(path, self.folder))
        self.points.append(Point(call, re.sub(r'\.[^.]+\.part$', '.part', name)))
        now = len(self.points) - 1
        if self.number is None or (now != self.number and not (self.fault == 'full' and now > self.number)):
            return
        if self.fault == 'full':
            if call in ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            return
        if half is not None:
            half()
        if self.fault in ('kill', 'power'):
            for lost in self.unsynced if self.fault == 'power' else ():
                if os.path.exists(lost):
                    self.real['truncate'](lost, 0)
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.fault)
        raise OSError(number, os.strerror(number), path)

    def _counted(self, name, real, of_handle=False):
        call = _NAMES.get(name, name)

        def counted(place, *args, **kwargs):
            path = self.path_of(place) if os.getpid() == self.process else None
            if path is not None:
                self.reach(call, path)
            result = real(place, *args, **kwargs)
            if call == 'fsync' and path is not None:
                self.unsynced.discard(path)
            elif call == 'replace' and path in self.unsynced:
                self.unsynced.discard(path)
                self.unsynced.add(self.path_of(args[0]))
            return result

        return counted

    def _os_open(self, path, flags, mode=0o777, *, dir_fd=None):
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or os.path.isdir(path)  # a folder is opened to flush it
        place = self.path_of(path) if writes and os.getpid() == self.process else None
        if place is not None:
            self.reach('open', place)
        return self.real['open'](path, flags, mode, dir_fd=dir_fd)

    def _fdopen(self, handle, mode='r', *args, **kwargs):
        return self._open(handle, mode, *args, **kwargs)

    def _open(self, file, mode='r', buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        place = self.path_of(file) if set(mode) & set('wax+') and os.getpid() == self.process else None
        if place is None:
            return self.real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int):
            self.reach('open', place)
        raw = _File(file, mode.replace('b', '').replace('t', ''), closefd, opener)
        raw.shim = self
        buffered = io.BufferedRandom(raw) if '+' in mode else io.BufferedWriter(raw)
        return buffered if 'b' in mode else io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)


class _File(io.FileIO):
    """A file whose writes to the system are counted."""

    def write(self, data):
        path = self.shim.path_of(self.fileno())
        if path is not None:
            self.shim.unsynced.add(path)
            self.shim.reach('write', path, lambda: super(_File, self).write(bytes(data)[: len(data) // 2]))
        return super().write(data)


def logged(folder):
    """The scalars in the logs of all parts of a run, the last word on each step."""
    import json

    words = {}
    for file in sorted(Path(folder).glob('*/vis_data/*.json'), key=lambda path: path.parts[-3]):
        for line in file.read_text().splitlines():
            try:
                values = json.loads(line)
            except ValueError:  # the process ended in the middle of the line
                continue
            words[f'{values.get("step")} {"loss" in values}'] = {
                key: value for key, value in values.items() if not key.endswith('time') and key != 'memory'
            }
    return words
