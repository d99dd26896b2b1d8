"""Downloads are whole, bounded and kept by their address; each failure is one sentence."""

import contextlib
import hashlib
import http.server
import io
import os
import socket
import threading
import time
from pathlib import Path

import pytest
import torch

from mmdet.errors import UserError
from mmdet.utils import downloads, get_file_list
from mmdet.utils.checkpoint import UnreadableCheckpointError, read_checkpoint
from mmdet.utils.downloads import DownloadError, cached_path, digest_in_name, download, fetch, file_name


def weights(value=1.0):
    file = io.BytesIO()
    torch.save(dict(state_dict=dict(a=torch.full((100,), value))), file)
    return file.getvalue()


GOOD = weights()
DIGEST = hashlib.sha256(GOOD).hexdigest()


class Answers(http.server.BaseHTTPRequestHandler):
    """Each path is a way to misbehave."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        kind = self.path.split('?')[0].strip('/').split('/')[0]
        with contextlib.suppress(OSError):
            getattr(self, f'say_{kind}', self.say_missing)()

    def reply(self, data, code=200, length=None, **headers):
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key.replace('_', '-'), value)
        if length != 'none':
            self.send_header('Content-Length', str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def say_missing(self):
        self.reply(b'<html>not here</html>', 404)

    def say_good(self):
        self.reply(self.server.content)

    def say_cut(self):
        self.reply(GOOD[:-200], length=len(GOOD))

    def say_short(self):  # a header that promises less than there is
        self.reply(GOOD, length=len(GOOD) - 200)

    def say_silent_cut(self):  # no header at all
        self.reply(GOOD[:-200], length='none')

    def say_chunked_cut(self):
        self.send_response(200)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        self.wfile.write(b'ff\r\n' + GOOD[:100])

    def say_huge(self):
        self.reply(b'x' * 1000, length=2**50)

    def say_endless(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b'x' * 100_000)

    def say_page(self):
        self.reply(b'\n<!DOCTYPE html><html>Please log in</html>', Content_Type='application/octet-stream')

    def say_typed_page(self):
        self.reply(GOOD, Content_Type='text/html; charset=utf-8')

    def say_packed(self):
        self.reply(GOOD, Content_Encoding='gzip')

    def say_loop(self):
        self.reply(b'', 302, Location=self.path)

    def say_chain(self):
        self.reply(b'', 302, Location=f'/chain/{len(self.server.asked)}')

    def say_away(self):
        self.reply(b'', 302, Location='/good/weights.pth')

    def say_file(self):
        self.reply(b'', 302, Location='file:///etc/passwd')

    def say_ftp(self):
        self.reply(b'', 302, Location='ftp://127.0.0.1/weights.pth')

    def say_drip(self):
        self.send_response(200)
        self.send_header('Content-Length', '100000')
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b'x')
            time.sleep(0.05)

    def say_head_drip(self):
        self.wfile.write(b'HTTP/1.0 200 OK\r\n')
        for i in range(100):
            self.wfile.write(f'X-{i}: a\r\n'.encode())
            time.sleep(0.05)

    def say_nothing(self):
        time.sleep(2)

    def say_noise(self):
        self.wfile.write(b'\0\1\2 no HTTP\r\n\r\n')

    def say_error(self):
        self.reply(b'', 503)


@pytest.fixture
def web(tmp_path, monkeypatch):
    monkeypatch.setenv('MMDET_DOWNLOAD_TIMEOUT', '10')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answers)
    server.daemon_threads, server.asked, server.content = True, [], GOOD
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f'http://127.0.0.1:{server.server_port}'
    yield server
    server.shutdown()
    server.server_close()


def kept(tmp_path):
    return sorted(path for path in (tmp_path / 'home').rglob('*') if path.is_file())


FAULTS = {
    'missing': 'the server answers 404',
    'error': 'the server answers 503',
    'cut': 'was cut short',
    'short': 'was refused',
    'silent_cut': 'was refused',
    'chunked_cut': 'cannot be downloaded',
    'huge': 'larger than 20 GiB',
    'page': 'is a web page',
    'typed_page': 'is a web page',
    'packed': 'compressed',
    'loop': 'infinite loop',
    'chain': 'infinite loop',
    'file': 'not allowed',
    'ftp': 'which is not followed',
    'drip': 'less than 4096 bytes a second',
    'head_drip': 'silent for 0.4 s',
    'nothing': 'silent for 0.4 s',
    'noise': 'cannot be downloaded',
}

SLOW = ('drip', 'head_drip', 'nothing')


@pytest.mark.parametrize('kind', FAULTS)
def test_faults_of_a_server(kind, web, tmp_path, monkeypatch):
    if kind in SLOW:
        monkeypatch.setenv('MMDET_DOWNLOAD_TIMEOUT', '0.4')
    started = time.monotonic()
    with pytest.raises(UserError, match=FAULTS[kind]) as caught:
        read_checkpoint(f'{web.url}/{kind}/weights.pth')
    assert time.monotonic() - started < 4
    message = str(caught.value)
    assert '\n' not in message and len(message) < 400 and f'{web.url}/' in message
    assert kept(tmp_path) == []


def test_limit_on_the_stream(web, tmp_path, monkeypatch):
    monkeypatch.setenv('MMDET_DOWNLOAD_LIMIT', '0.001')
    with pytest.raises(DownloadError, match=r'larger than 0\.001 GiB; MMDET_DOWNLOAD_LIMIT'):
        read_checkpoint(f'{web.url}/endless/weights.pth')
    assert kept(tmp_path) == []
    monkeypatch.setenv('MMDET_DOWNLOAD_LIMIT', 'much')
    with pytest.raises(UserError, match="MMDET_DOWNLOAD_LIMIT must be a positive number, not 'much'"):
        read_checkpoint(f'{web.url}/good/weights.pth')


@pytest.mark.parametrize(
    'url, message',
    [
        ('http://127.0.0.1:1/a.pth', 'Connection refused'),
        ('http://no.such.host.invalid/a.pth', 'cannot be downloaded'),
        ('http://', 'no http or https address'),
        ('http://[1/a.pth', 'no http or https address'),
        ('http://a:99999/a.pth', 'no http or https address'),
        ('https://127.0.0.1:1/a.pth', 'Connection refused'),
    ],
)
def test_without_a_connection(url, message, web, monkeypatch):
    def offline(*args, **kwargs):
        raise socket.gaierror(-3, 'Temporary failure in name resolution')

    if 'invalid' in url:
        monkeypatch.setattr(socket, 'getaddrinfo', offline)
    with pytest.raises(DownloadError, match=message) as caught:
        read_checkpoint(url)
    assert '\n' not in str(caught.value)


def test_cache(web, tmp_path):
    url = f'{web.url}/good/weights.pth'
    for _ in range(2):
        assert read_checkpoint(url)['state_dict']['a'].sum() == 100
    assert web.asked == ['/good/weights.pth']
    path = cached_path(url, tmp_path / 'home' / 'hub' / 'checkpoints')
    assert kept(tmp_path) == [path, path.with_name('weights.pth.sha256')]
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    for content in (damaged, GOOD[:100], b''):
        path.write_bytes(content)
        assert read_checkpoint(url)['state_dict']['a'].sum() == 100
    path.with_name('weights.pth.sha256').unlink()
    assert read_checkpoint(url)['state_dict']['a'].sum() == 100
    assert len(web.asked) == 5
    assert read_checkpoint(f'{web.url}/away/weights.pth')['state_dict']['a'].sum() == 100


def test_two_addresses_share_no_place(web, tmp_path):
    port = web.server_port
    places = [f'http://127.0.0.1:{port}/good/a.pth', f'http://localhost:{port}/good/a.pth']
    places += [f'http://127.0.0.1:{port}/good/other/a.pth', f'http://127.0.0.1:{port}/good/a.pth?version=2']
    for value, url in enumerate(places):
        web.content = weights(value)
        assert read_checkpoint(url)['state_dict']['a'][0] == value
    for value, url in enumerate(places):
        assert read_checkpoint(url)['state_dict']['a'][0] == value
    assert len(web.asked) == 4


def test_hash_in_the_name(web, tmp_path):
    right, wrong = (f'{web.url}/good/weights-{digest}.pth' for digest in (DIGEST[:8], '0123abcd'))
    assert read_checkpoint(right)['state_dict']['a'].sum() == 100
    with pytest.raises(DownloadError, match='does not have the hash 0123abcd'):
        read_checkpoint(wrong)
    assert len(kept(tmp_path)) == 2
    # a file that torch has put directly into its cache is taken if its name tells that it is whole
    former = tmp_path / 'other' / f'weights-{DIGEST[:8]}.pth'
    former.parent.mkdir()
    former.write_bytes(GOOD)
    assert download(right, former.parent) == former
    former.write_bytes(GOOD[:-1])
    assert download(right, former.parent) == cached_path(right, former.parent)


def test_what_cannot_be_read_is_not_kept(web, tmp_path):
    web.content = b'no weights at all'
    with pytest.raises(UnreadableCheckpointError, match=f'{web.url}/good/weights.pth'):
        read_checkpoint(f'{web.url}/good/weights.pth')
    assert kept(tmp_path) == []
    web.content = GOOD
    assert read_checkpoint(f'{web.url}/good/weights.pth')['state_dict']['a'].sum() == 100


def test_a_cache_that_cannot_be_written(web, tmp_path, monkeypatch):
    (tmp_path / 'home').write_text('a file in the way')
    with pytest.raises(DownloadError, match='cannot be kept in'):
        read_checkpoint(f'{web.url}/good/weights.pth')


def test_names():
    assert file_name('http://a/b/%2e%2e%2fc.pth?x=1#y') == 'c.pth'
    assert file_name('http://a/..') == 'file' and file_name('http://a/') == 'file'
    assert file_name(f'http://a/{"b" * 500}.pth').endswith('.pth') and len(file_name('http://a/' + 'b' * 500)) == 150
    assert digest_in_name('resnet50-0676ba61.pth') == '0676ba61'
    assert digest_in_name('mask_rcnn_20200130-d4e2b5c1.pth') == 'd4e2b5c1'
    assert digest_in_name('mask_rcnn_20200130.pth') is None and digest_in_name('epoch_12.pth') is None
    place = cached_path('http://User:pw@Host.org/a/../../b.pth', '/cache')
    assert place.parent.parent == Path('/cache') and place.parent.name.startswith('host.org-') and place.name == 'b.pth'


def test_pictures_and_other_files(web, tmp_path, monkeypatch):
    """mmengine's file functions, and the two helpers of ours, go the same way."""
    from mmengine import fileio
    from mmengine.fileio import FileClient

    monkeypatch.chdir(tmp_path)
    assert fileio.get(f'{web.url}/good/a.jpg') == GOOD
    assert FileClient(backend='http').get(f'{web.url}/good/a.jpg') == GOOD
    with fileio.get_local_path(f'{web.url}/good/a.jpg') as path:
        assert Path(path).read_bytes() == GOOD
    assert not os.path.exists(path)
    for kind in ('cut', 'page', 'loop', 'file', 'nothing'):
        monkeypatch.setenv('MMDET_DOWNLOAD_TIMEOUT', '0.4' if kind in SLOW else '10')
        for get in (fileio.get, fileio.get_text, FileClient(backend='http').get, get_file_list):
            with pytest.raises(DownloadError, match=FAULTS[kind]):
                get(f'{web.url}/{kind}/a.jpg')
    assert get_file_list(f'{web.url}/good/a%2F..%2Fb.jpg')[0] == [str(tmp_path / 'b.jpg')]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['b.jpg']
    assert downloads.sha256(tmp_path / 'b.jpg') == DIGEST == fetch(f'{web.url}/good/b.jpg', io.BytesIO())


@pytest.mark.parametrize(
    'rules, found',
    [
        ('', []),
        ('https://m.example/', ['https://m.example/a/b-0123abcd.pth']),
        ('https://x.example/a=https://m.example/z', ['https://m.example/z/b-0123abcd.pth']),
        ('https://other.example=https://m.example https://n.example', ['https://n.example/a/b-0123abcd.pth']),
    ],
)
def test_mirrors(monkeypatch, rules, found):
    monkeypatch.setenv('MMDET_MIRRORS', rules)
    assert downloads.mirrors_of('https://x.example/a/b-0123abcd.pth') == found


def test_offline_names_file_and_folder(monkeypatch, tmp_path):
    monkeypatch.setenv('MMDET_OFFLINE', '1')
    with pytest.raises(downloads.DownloadError, match=r'put the file b-0123abcd\.pth into') as raised:
        downloads.download('https://x.example/a/b-0123abcd.pth', tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]
