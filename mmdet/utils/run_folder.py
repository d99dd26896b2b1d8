"""Whose a run's folder is: one run at a time writes there, and deletes only what is its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import stat
import tempfile
import threading
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmdet.errors import UserRuntimeError
from mmdet.utils.checkpoint import atomic_file, label_of

try:
    import fcntl
except ImportError:  # Windows: signs of life alone tell whether a run is alive
    fcntl = None  # type: ignore[assignment]

RECORD_FILE, LOCK_FILE = 'run.json', '.run.lock'
BEAT = 5.0  # seconds between two signs of life
SILENCE = 60.0  # seconds without one after which a run of another machine counts as dead
PATIENCE = 3.0  # seconds that a run of this machine is given to end
_HELD: dict[str, int] = {}  # folders that a process holds, by its id: a fork holds none
_GUARD = threading.Lock()


class FolderInUseError(UserRuntimeError):
    """Another run that is alive writes to this folder."""


# --------------------------------------------------------------------------------------------------------------------
# Names
def new_run_id() -> str:
    """An id that no other run has; the run's seed has no part in it."""
    return uuid.uuid4().hex[:16]


@dataclass(frozen=True)
class RunRecord:
    """What a folder says of the run that last trained in it.

    Attributes:
        run_id: Its id.
        source: The checkpoint that it went on from when it had none of its own: a name in the folder, or a path.
        adopts: Whether checkpoints of the folder that carry no id, of MMDetection 3.x for example, are its own past.
        written: When the record was written, in nanoseconds; as read.
    """

    run_id: str
    source: str | None = None
    adopts: bool = False
    written: int = field(default=0, compare=False)


def read_record(folder: str | os.PathLike) -> RunRecord | None:
    """The record of a folder; None where there is none that makes sense."""
    path = Path(folder) / RECORD_FILE
    if not is_regular(path):
        return None
    try:
        with path.open('rb') as file:
            found = json.loads(file.read(16384))
            written = os.fstat(file.fileno()).st_mtime_ns
        source = found.get('source') if isinstance(found.get('source'), str) else None
        if is_run_id(found['run_id']):
            return RunRecord(found['run_id'], source, found.get('adopts') is True, written)
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        pass
    return None


def write_record(folder: str | os.PathLike, record: RunRecord) -> None:
    """Say that a folder is that of a run."""
    if read_record(folder) != record:
        with atomic_file(Path(folder) / RECORD_FILE, record.run_id) as file:
            values = {name: value for name, value in asdict(record).items() if name != 'written'}
            file.write(json.dumps(values).encode())


def point_to(work_dir: str | os.PathLike, name: str, run_id: str | None) -> None:
    """Let ``last_checkpoint`` name a file: relative where it lies beside it."""
    with atomic_file(Path(work_dir) / 'last_checkpoint', run_id) as file:
        file.write(name.encode())


def is_run_id(value: Any) -> bool:
    """Whether a value, of a file that anybody may have written, is one of our ids."""
    return isinstance(value, str) and re.fullmatch(r'[0-9a-f]{16}', value) is not None


def is_regular(path: str | os.PathLike, follow: bool = True) -> bool:
    """Whether a path is that of a plain file; odd names and loops of links are none."""
    try:
        return stat.S_ISREG(os.stat(path, follow_symlinks=follow).st_mode)
    except (OSError, ValueError):
        return False


def is_own(folder: str | os.PathLike, name: str, run_id: str | None) -> bool:
    """Whether ``name`` is that of a checkpoint directly in ``folder`` which carries the run's id."""
    path = Path(folder) / name
    plain = bool(run_id) and name == os.path.basename(name) and name not in ('', '.', '..')
    return plain and is_regular(path, follow=False) and label_of(path).get('run_id') == run_id


def remove_partial_files(folder: str | os.PathLike, run_id: str) -> None:
    """Delete what killed processes of this run left of unfinished saves; whoever calls it holds the folder.

    An unfinished record of whichever run goes too: its run ended before it had a place in the folder, and only the
    holder of the folder writes one.
    """
    stale = re.compile(rf'\.(.+\.{re.escape(run_id)}|{re.escape(RECORD_FILE)}\.[0-9a-f]{{16}})\.[^.]*\.part')
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if stale.fullmatch(name) and is_regular(Path(folder) / name, False):
                with contextlib.suppress(OSError):
                    os.unlink(Path(folder) / name)


# --------------------------------------------------------------------------------------------------------------------
# The lock
class FolderLock:
    """The right of one process to write to a folder.

    The file ``.run.lock`` names the owner. A record lock of the kernel on it ends with the process, however that ends,
    and is not handed to forks; it holds between machines too where the file system has such locks. Where it has none,
    the owner's signs of life (the file's time, by the clock of the file server) tell machines of each other, and the
    process table tells processes of one machine. A run that torchrun starts again, on another machine too, takes over
    from itself at once.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self.path = self.folder / LOCK_FILE
        self._key = os.path.realpath(folder)
        self._handle = -1
        self._token = uuid.uuid4().hex
        self._end = threading.Event()

    def acquire(self, run_id: str = '') -> None:
        """Take the folder.

        Raises:
            FolderInUseError: another run has it; says which.
        """
        with _GUARD:
            if _HELD.get(self._key) == os.getpid():
                raise FolderInUseError(f'{self.folder} is in use by another run of this process.')
            _HELD[self._key] = os.getpid()
        try:
            self._take(run_id)
        except BaseException:
            _HELD.pop(self._key, None)
            raise
        self._end.clear()
        threading.Thread(target=self._beat, args=(self._handle,), name='run folder', daemon=True).start()

    def _take(self, run_id: str) -> None:
        me = dict(_myself(), token=self._token, run_id=run_id, since=time.strftime('%Y-%m-%d %H:%M:%S'))
        began = time.monotonic()
        while True:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, 'O_CLOEXEC', 0), 0o666)
            locked = _lock(handle)
            owner = _read_owner(handle)
            again = bool(owner) and owner.get('job') == me['job'] is not None
            if locked is False:
                os.close(handle)
                if time.monotonic() - began > (SILENCE if again else PATIENCE):
                    raise self._in_use(owner)
                time.sleep(0.2)
                continue
            if not _same_file(handle, self.path):  # its owner has just ended and removed it
                os.close(handle)
                continue
            if owner and not again and self._is_alive(owner, me, handle, locked):
                os.close(handle)
                raise self._in_use(owner)
            _write(handle, me)
            if locked is None:  # without locks the last one to write has it
                time.sleep(0.5)
                if _read_owner(handle).get('token') != self._token:
                    os.close(handle)
                    raise self._in_use({})
            self._handle = handle
            return

    def _is_alive(self, owner: dict, me: dict, handle: int, locked: bool | None) -> bool:
        """Whether the owner that the file names lives, although the kernel knows of no lock."""
        sign = 'boot' if me['boot'] else 'host'  # containers of one machine have names of their own, but one kernel
        if owner.get(sign) == me[sign]:
            if locked:
                return False
            if owner.get('space') == me['space']:
                return _start_of(owner.get('pid')) == owner.get('start')
        seen = os.fstat(handle).st_mtime_ns
        left = SILENCE - (_server_time(self.folder) - seen) / 1e9
        while left > 0:
            time.sleep(min(1.0, left))
            left -= 1.0
            with contextlib.suppress(OSError):
                if os.stat(self.path).st_mtime_ns != seen:
                    return True
        return False

    def _in_use(self, owner: dict) -> FolderInUseError:
        who = f'process {owner.get("pid", "?")} on {owner.get("host", "another machine")}'
        since = f', since {owner["since"]}' if owner.get('since') else ''
        return FolderInUseError(
            f'{self.folder} is in use by another run ({who}{since}). Wait for its end or give this run another '
            f'--work-dir. {self.path} may be deleted only when that process is known to be dead.'
        )

    def require(self) -> None:
        """Raise if another run has taken the folder, since this one gave no sign of life for long.

        Raises:
            FolderInUseError: says which.
        """
        if self._handle < 0:
            return
        owner: dict = {}
        with contextlib.suppress(OSError):
            owner = json.loads(self.path.read_text() or '{}') if not _same_file(self._handle, self.path) else {}
        owner = owner or _read_owner(self._handle)
        if owner.get('token') not in (None, self._token):
            raise self._in_use(owner)

    def release(self) -> None:
        """Give the folder back; harmless where it is not held."""
        if self._handle < 0:
            return
        self._end.set()
        handle, self._handle = self._handle, -1
        with contextlib.suppress(OSError):
            if _read_owner(handle).get('token') == self._token and _same_file(handle, self.path):
                os.unlink(self.path)
        os.close(handle)
        _HELD.pop(self._key, None)

    def _beat(self, handle: int) -> None:
        while not self._end.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(handle if os.utime in os.supports_fd else self.path)


def _lock(handle: int) -> bool | None:
    """True: locked; False: another process has it; None: there are no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def _read_owner(handle: int) -> dict:
    with contextlib.suppress(OSError, ValueError):
        os.lseek(handle, 0, os.SEEK_SET)
        owner = json.loads(os.read(handle, 4096))
        return owner if isinstance(owner, dict) else {}
    return {}


def _write(handle: int, owner: dict) -> None:
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, json.dumps(owner).encode())
    os.fsync(handle)


def _server_time(folder: Path) -> int:
    """The present time in nanoseconds, by the clock that sets the times of files in a folder."""
    handle, name = tempfile.mkstemp(prefix=f'{LOCK_FILE}.', dir=folder)
    try:
        return os.fstat(handle).st_mtime_ns
    finally:
        os.close(handle)
        os.unlink(name)


def _myself() -> dict[str, Any]:
    """What tells this process from others, on this machine and elsewhere."""
    job = os.environ.get('TORCHELASTIC_RUN_ID')
    return dict(
        host=socket.gethostname(),
        boot=_text('/proc/sys/kernel/random/boot_id'),
        space=_link('/proc/self/ns/pid'),
        pid=os.getpid(),
        start=_start_of(os.getpid()),
        job=job if job not in (None, '', 'none') else None,
    )


def _start_of(pid: Any) -> str | None:
    """When a process of this machine began, in ticks; None if there is none."""
    if not isinstance(pid, int):
        return None
    text = _text(f'/proc/{pid}/stat')
    if text:
        return text.rpartition(')')[2].split()[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return 'alive'


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ''


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ''
