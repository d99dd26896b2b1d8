"""A hub on this machine, as much of it as `huggingface_hub` asks for to make, fill, list and fetch a repository."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = '0123456789abcdef0123456789abcdef01234567'


class Hub(BaseHTTPRequestHandler):
    """``files`` of the server are the contents by repository and path."""

    def log_message(self, *_):
        pass

    def answer(self, content=b'', status=200, **headers):
        content = json.dumps(content).encode() if not isinstance(content, bytes) else content
        self.send_response(status)
        for name, value in {'Content-Length': str(len(content)), **headers}.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content)

    def do_POST(self):
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers['Content-Length'] or 0))
        files = self.server.files
        if path == '/api/repos/create':
            asked = json.loads(body)
            repo = '/'.join(filter(None, (asked.get('organization'), asked['name'])))
            files.setdefault(repo, {})
            return self.answer(dict(url=f'http://{self.headers["Host"]}/{repo}', id=repo))
        if path == '/api/validate-yaml':
            return self.answer(dict(errors=[], warnings=[]))
        repo = '/'.join(path.split('/')[3:5])
        if '/preupload/' in path:
            told = [
                dict(path=each['path'], uploadMode='regular', shouldIgnore=False) for each in json.loads(body)['files']
            ]
            return self.answer(dict(files=told))
        if '/commit/' in path:
            for line in map(json.loads, body.splitlines()):
                if line['key'] == 'file':
                    files[repo][line['value']['path']] = base64.b64decode(line['value']['content'])
            url = f'http://{self.headers["Host"]}/{repo}/commit/{COMMIT}'
            return self.answer(dict(success=True, commitUrl=url, commitOid=COMMIT, hookOutput=''))
        return self.answer(dict(error=f'no {path}'), 404)

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        files = self.server.files
        if path.startswith('/api/models/'):
            repo = '/'.join(path.split('/')[3:5])
            if repo not in files:
                return self.answer(dict(error='no such repository'), 404, X_Error_Code='RepoNotFound')
            listed = [
                dict(type='file', path=name, rfilename=name, size=len(content), oid=hashlib.sha1(content).hexdigest())
                for name, content in files[repo].items()
            ]
            if '/tree/' in path:
                return self.answer(listed)
            return self.answer(dict(id=repo, modelId=repo, sha=COMMIT, siblings=listed, private=False, tags=[]))
        repo, _, rest = path.lstrip('/').partition('/resolve/')
        content = files.get(repo, {}).get(rest.partition('/')[2])
        if content is None:
            return self.answer(b'', 404, X_Error_Code='EntryNotFound' if repo in files else 'RepoNotFound')
        digest = hashlib.sha1(content).hexdigest()
        return self.answer(content, ETag=f'"{digest}"', X_Repo_Commit=COMMIT, Content_Type='application/octet-stream')

    do_HEAD = do_GET


@contextmanager
def hub():
    """Address of the server, and its files."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    server.files = {}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}', server.files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
