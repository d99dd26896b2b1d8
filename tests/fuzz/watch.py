"""What an input may not do, seen by Python's audit hook: run code, write outside of its folder, talk to anybody."""

import collections
import dataclasses
import os
import sys
import sysconfig
import threading
from contextlib import contextmanager
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NEVER = str.split(
    'os.system os.exec os.fork os.forkpty os.posix_spawn os.spawn os.startfile subprocess.Popen pty.spawn code.__new__ '
    'ctypes.dlopen ctypes.dlsym ctypes.call_function marshal.load pickle.find_class os.kill os.putenv os.unsetenv '
    'function.__new__ builtins.input setopencodehook webbrowser.open ftplib.connect smtplib.connect '
    'urllib.Request sqlite3.connect syslog.syslog mmap.__new__ resource.setrlimit signal.pthread_kill'
)
CHANGES = str.split(
    'os.remove os.rename os.rmdir os.mkdir os.chmod os.chown os.link os.symlink os.truncate os.utime os.chdir '
    'os.setxattr os.removexattr shutil.rmtree shutil.move shutil.copyfile shutil.copytree shutil.chown '
    'tempfile.mkstemp tempfile.mkdtemp'
)
MAKERS = (collections.__file__, dataclasses.__file__)  # they write the methods of the classes that modules define
OPTIONAL = ('olefile', 'defusedxml')  # what Pillow looks for when it meets an unknown picture
HOMES = tuple(
    {
        *(os.path.realpath(sysconfig.get_path(name)) for name in ('stdlib', 'platstdlib', 'purelib', 'platlib')),
        str(Path(__file__).resolve().parents[2]),
    }
)


class Watch:
    """Notes what is forbidden while it is armed; the hook itself stays until the process ends.

    Args:
        folder: The one place where files may be changed.
        port: The one port of this machine, besides 1, that may be connected to.
    """

    def __init__(self, folder, port=None):
        self.folder, self.port = os.path.realpath(folder), port
        self.armed, self.seen = False, []
        self.busy = threading.local()
        sys.addaudithook(self._hook)

    @contextmanager
    def __call__(self):
        """Around one input; afterwards ``seen`` has what it did that is forbidden."""
        self.seen, self.armed = [], True
        try:
            yield self
        finally:
            self.armed = False

    def _hook(self, event, args):
        if not self.armed or getattr(self.busy, 'now', False):  # what this function does itself is not looked at
            return
        self.busy.now = True
        try:
            wrong = self._wrong(event, args)
            if wrong:
                self.seen.append(f'{event}: {wrong}')
        finally:
            self.busy.now = False

    def _wrong(self, event, args):
        if event in NEVER:
            return '' if event == 'urllib.Request' and self.port else repr(args)[:200]
        if event == 'open':
            path, mode, flags = args
            writes = any(letter in (mode or '') for letter in 'wax+') or (isinstance(flags, int) and flags & WRITES)
            return f'{path!r} for writing' if writes and not self._inside(path) else ''
        if event in CHANGES:
            paths = [path for path in args if isinstance(path, (str, bytes, os.PathLike)) and path not in ('', b'')]
            # several calls take a path within an open folder, which is the last argument then
            within = f'/proc/self/fd/{args[-1]}' if type(args[-1]) is int and args[-1] > 2 else ''
            return next((f'{path!r}' for path in paths if not self._inside(path, within)), '')
        if event == 'exec':
            home, caller = args[0].co_filename, sys._getframe(2).f_code.co_filename
            return '' if self._known(home) or caller in MAKERS else f'code of {home!r}'
        if event == 'import':
            name = args[0].partition('.')[0]
            known = name in sys.stdlib_module_names or name in sys.modules or name in OPTIONAL
            return '' if known else f'module {args[0]!r}'
        if event == 'socket.connect':
            return '' if self.port and args[1][:2] in (('127.0.0.1', self.port), ('127.0.0.1', 1)) else repr(args[1])
        if event == 'socket.getaddrinfo':
            return '' if args[0] in ('127.0.0.1', b'127.0.0.1') else repr(args[:2])
        return repr(args) if event in ('socket.bind', 'socket.sendto') else ''

    def _inside(self, path, within=''):
        if isinstance(path, int):
            return True  # a file that is open already was noticed when it was opened
        full = os.path.realpath(os.path.join(within, os.fsdecode(path)))
        return full == self.folder or full.startswith(self.folder + os.sep) or full == os.devnull

    @staticmethod
    def _known(filename):
        if filename.startswith('<frozen '):
            return True
        return os.path.isabs(filename) and os.path.realpath(filename).startswith(HOMES)


def tree(folder):
    """Names and contents of all files below a folder."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(Path(folder).rglob('*'))}
