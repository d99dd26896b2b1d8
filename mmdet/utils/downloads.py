"""Files from the web: bounded in time and size, whole or not at all, and kept by the address that they came from.

``MMDET_DOWNLOAD_TIMEOUT`` sets the seconds for which a server may be silent (30), ``MMDET_DOWNLOAD_LIMIT`` the size of
one file in GiB (20). A server that sends less than 4 KiB a second for twice the time is given up as well.
``MMDET_MIRRORS`` names addresses to try before the original one, separated by spaces: ``https://mirror.example/`` in
the place of the host, or ``https://a.example/models=https://b.example/m`` in the place of that beginning. With
``MMDET_OFFLINE=1`` nothing is fetched.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import SplitResult, unquote, urlsplit

from mmdet.errors import UserError, UserValueError

SLOWEST = 4096  # bytes a second
_CHUNK = 1 << 18
_DATE = re.compile(r'(?:19|20)\d{6}')


class DownloadError(OSError, UserError):
    """A file that could not be fetched, or is not what its address promises."""


def fetch(url: str, target: BinaryIO) -> str:
    """Write what an address delivers into an open file.

    Returns:
        The SHA-256 of the content.

    Raises:
        DownloadError: in one sentence, whatever went wrong on the way.
    """
    silent = _setting('MMDET_DOWNLOAD_TIMEOUT', 30.0)
    limit = int(_setting('MMDET_DOWNLOAD_LIMIT', 20.0) * 2**30)
    if is_offline():
        raise DownloadError(f'{url} is not fetched, as MMDET_OFFLINE is set; without a connection, give a local file')
    try:
        with _opener(silent).open(_request(url), timeout=silent) as response:
            return _copy(url, response, target, silent, limit)
    except DownloadError:
        raise
    except urllib.error.HTTPError as error:
        reason = str(error.reason).split('\n')[0]
        raise DownloadError(f'{url} cannot be downloaded: the server answers {error.code}, {reason}') from error
    except TimeoutError as error:
        raise DownloadError(f'{url} cannot be downloaded: the server was silent for {silent:g} s') from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause: Any = getattr(error, 'reason', None) or error
        if isinstance(cause, TimeoutError):
            cause = f'the server was silent for {silent:g} s'
        text = (str(cause) or type(cause).__name__).split('\n')[0][:200]
        raise DownloadError(f'{url} cannot be downloaded: {text}; without a connection, give a local file') from error


def _copy(url: str, response: Any, target: BinaryIO, silent: float, limit: int) -> str:
    promised = response.headers.get('Content-Length')
    size = int(promised) if promised is not None and promised.strip().isdigit() else None
    if size is not None and size > limit:
        raise _too_large(url, limit)
    if response.headers.get('Content-Encoding', 'identity').lower() != 'identity':
        raise DownloadError(f'{url} was not downloaded: the server sends it compressed, though nobody asked for that')
    page = response.headers.get_content_type() in ('text/html', 'application/xhtml+xml')
    digest, count, head = hashlib.sha256(), 0, b''
    since, before = time.monotonic(), 0
    while True:
        # not read(), which would wait until the whole chunk has come
        chunk = response.read1(_CHUNK)
        if not chunk:
            break
        count += len(chunk)
        if count > limit:
            raise _too_large(url, limit)
        head = head if len(head) > 200 else head + chunk[:512]
        digest.update(chunk)
        target.write(chunk)
        seconds = time.monotonic() - since
        if seconds > 2 * silent:
            if count - before < SLOWEST * seconds:
                raise DownloadError(f'{url} cannot be downloaded: it comes at less than {SLOWEST} bytes a second')
            since, before = time.monotonic(), count
    if size is not None and count != size:
        raise DownloadError(f'{url} was cut short: {count} of {size} bytes came')
    looks = re.match(rb'\s*(?:<!doctype html|<html)', head, re.IGNORECASE)
    if (page or looks) and not file_name(url).lower().endswith(('.html', '.htm')):
        raise DownloadError(f'{url} is a web page, not a file')
    return digest.hexdigest()


def _too_large(url: str, limit: int) -> DownloadError:
    return DownloadError(
        f'{url} was not downloaded: it is larger than {limit / 2**30:.3g} GiB; MMDET_DOWNLOAD_LIMIT sets another limit'
    )


def _setting(name: str, default: float) -> float:
    text = os.environ.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise UserValueError(f'{name} must be a positive number, not {text!r}')
    return value


def _request(url: str) -> urllib.request.Request:
    _parts(url)
    return urllib.request.Request(url, headers={'User-Agent': 'mmdet', 'Accept-Encoding': 'identity'})


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if is_url(url) and parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise DownloadError(f'{url!r} is no http or https address')


def is_url(address: str) -> bool:
    """Whether it begins with ``http://`` or ``https://``."""
    return address.lower().startswith(('http://', 'https://'))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Leads on to web addresses only, and never from an encrypted one to an open one."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not is_url(newurl) or (req.full_url.lower().startswith('https:') and newurl.lower().startswith('http:')):
            raise DownloadError(f'{req.full_url} leads to {newurl}, which is not followed')
        fp.read = lambda *args: b''  # what came with the answer, of whatever length, would be read to its end
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Patience:
    """A connection that waits for the whole head of an answer no longer than for its first byte."""

    def getresponse(self) -> http.client.HTTPResponse:
        connection: Any = self
        late = threading.Event()

        def give_up() -> None:
            late.set()
            with contextlib.suppress(OSError, AttributeError):
                connection.sock.shutdown(2)

        timer = threading.Timer(2 * connection.timeout, give_up)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()  # type: ignore[misc]
        finally:
            timer.cancel()
            if late.is_set():  # what was read until then looks like an answer without content
                raise TimeoutError


class _Plain(_Patience, http.client.HTTPConnection):
    pass


class _Encrypted(_Patience, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: Any) -> Any:
        return self.do_open(_Plain, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: Any) -> Any:
        return self.do_open(_Encrypted, req)


def _opener(silent: float) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects, _Http, _Https)


# --------------------------------------------------------------------------------------------------------------------
# The cache
def file_name(url: str) -> str:
    """The last part of an address, in characters that any file system takes."""
    name = re.sub(r'[^\w.+-]', '_', os.path.basename(unquote(_parts(url).path)))[-150:]
    return name if name.strip('.') else 'file'


def digest_in_name(name: str) -> str | None:
    """The beginning of the SHA-256 that names such as ``resnet50-0676ba61.pth`` carry; a date is none."""
    found = re.search(r'[-_]([0-9a-f]{8,64})\.', name)
    return None if found is None or _DATE.fullmatch(found.group(1)) else found.group(1)


def cached_path(url: str, folder: str | os.PathLike) -> Path:
    """Where the cache keeps what an address delivers; two addresses share no place."""
    parts = _parts(url)
    place = f'{parts.scheme.lower()}://{(parts.netloc.rpartition("@")[2]).lower()}{parts.path}?{parts.query}'
    host = re.sub(r'[^a-z0-9.-]', '_', (parts.hostname or '').lower())[:60]
    return Path(folder) / f'{host}-{hashlib.sha256(place.encode()).hexdigest()[:16]}' / file_name(url)


def download(url: str, folder: str | os.PathLike, check: Callable[[Path], Any] | None = None) -> Path:
    """Fetch a file once; afterwards it comes from the cache, as long as it has the hash that it had.

    Args:
        folder: Of the cache. A file of the same name directly in it, as torch keeps files, is taken if its name carries
            its hash.
        check: Called with the path of a new file before it is kept; what it raises, it raises.

    Raises:
        DownloadError: the file cannot be had, is cut, is a web page, or does not have the hash in its name.
    """
    path = cached_path(url, folder)
    note = path.with_name(f'{path.name}.sha256')
    named = digest_in_name(path.name)
    former = Path(folder) / path.name
    if named is not None and former.is_file() and sha256(former).startswith(named):
        return former
    if path.is_file() and note.is_file():
        found = sha256(path)
        if found == note.read_text(encoding='utf-8', errors='replace').strip() and found.startswith(named or ''):
            return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix='.', suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise DownloadError(f'{url} cannot be kept in {path.parent}: {error.strerror}') from error
    try:
        found = _fetch_any(url, handle, temporary, named, former if named is not None else None)
        if check is not None:
            check(Path(temporary))
        with contextlib.suppress(FileNotFoundError):
            note.unlink()
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        note.write_text(found, encoding='utf-8')
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return path


def _fetch_any(url: str, handle: int, temporary: str, named: str | None, place: Path | None) -> str:
    """Fetch from the first of the mirrors and the address itself that has the file; returns its hash."""
    failures = []
    with os.fdopen(handle, 'wb') as file:
        for source in (*mirrors_of(url), url):
            file.seek(0)
            file.truncate()
            try:
                found = fetch(source, file)
            except DownloadError as error:
                failures.append(error)
                continue
            if named is None or found.startswith(named):
                return found
            text = f'What {source} delivered does not have the hash {named} of its name; it was thrown away.'
            failures.append(DownloadError(text))
    last = failures[-1]
    if place is not None and 'without a connection' in str(last):
        text = str(last).replace('give a local file', f'put the file {place.name} into {place.parent}')
        raise DownloadError(text) from last
    raise last


def mirrors_of(url: str) -> list[str]:
    """The addresses that ``MMDET_MIRRORS`` gives for one."""
    found = []
    for rule in os.environ.get('MMDET_MIRRORS', '').split():
        old, sign, new = rule.partition('=')
        if sign and url.startswith(old):
            found.append(new + url[len(old) :])
        elif not sign:
            parts = _parts(url)
            query = f'?{parts.query}' if parts.query else ''
            found.append(old.rstrip('/') + parts.path + query)
    return found


def is_offline() -> bool:
    """Whether the environment says that nothing shall be fetched."""
    return os.environ.get('MMDET_OFFLINE', '').strip().lower() in ('1', 'true', 'yes', 'on')


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def fetch_to(url: str, target: str | os.PathLike) -> Path:
    """Fetch a file to a place of its own, whole or not at all."""
    target = Path(target)
    handle, temporary = tempfile.mkstemp(prefix='.', dir=target.parent)
    try:
        with os.fdopen(handle, 'wb') as file:
            fetch(url, file)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return target


def register_http() -> None:
    """Let mmengine's file functions fetch pictures and annotations by :func:`fetch`."""
    from mmengine.fileio import FileClient, register_backend
    from mmengine.fileio.backends import HTTPBackend

    class BoundedHTTPBackend(HTTPBackend):
        """As mmengine's, with a time-out, a limit and errors in a sentence."""

        def get(self, filepath: str) -> bytes:
            with self.get_local_path(filepath) as path:
                return Path(path).read_bytes()

        def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
            return self.get(filepath).decode(encoding)

        @contextlib.contextmanager
        def get_local_path(self, filepath: str) -> Iterator[str]:
            with tempfile.TemporaryDirectory(prefix='mmdet_') as folder:
                yield str(fetch_to(str(filepath), Path(folder) / file_name(str(filepath))))

    register_backend('http', BoundedHTTPBackend, force=True, prefixes=['http', 'https'])
    FileClient.register_backend('http', BoundedHTTPBackend, force=True, prefixes=['http', 'https'])
