"""A Hugging Face Hub of one's own, on the loopback: enough of it for its official client."""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

ROUTES = {
    "info": re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?"),
    "tree": re.compile(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)"),
    "file": re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)"),
}
"""What a client may ask for: repository, revision, and path in it."""


class Hub:
    """Repositories that are served while the context lasts.

    Parameters
    ----------
    repositories : dict of str to dict of str to bytes
        The files of each repository, by path. When they change, so does its hash, and they are
        still had at each hash that was told before.
    refusals : dict of str to (int, str)
        Status and ``X-Error-Code`` that answer for a repository (``owner/name``), or for one of
        the `ROUTES` to it (``owner/name/file``).
    page : int
        Entries of a tree that one answer holds; on the Hub 1,000.
    """

    def __init__(
        self,
        repositories: dict[str, dict[str, bytes]],
        refusals: dict[str, tuple[int, str]] | None = None,
        page: int = 1000,
    ) -> None:
        self.repositories = repositories
        self.refusals = refusals or {}
        self.page = page
        self.sent = 0  # bytes of file bodies so far
        self.cut: int | None = None  # bytes of file bodies until one breaks off, once
        self.faults: list[tuple[int, dict[str, str]]] = []  # answers to the next file requests
        self.patience = 0.0  # seconds before a file body is sent
        self.at_once = self.most_at_once = 0  # file bodies under way, now and at most
        self.counting = Lock()
        self.past: dict[tuple[str, str], dict[str, bytes]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("", (_Handler,), {"hub": self}))

    @property
    def url(self) -> str:
        """What ``HF_ENDPOINT`` must say."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def commit(self, repo: str) -> str:
        """The full hash that the main branch of a repository stands at."""
        files = dict(self.repositories[repo])
        commit = oid(json.dumps({path: oid(data) for path, data in files.items()}).encode())
        self.past[repo, commit] = files
        return commit

    def __enter__(self) -> Hub:
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer would wait for the client's acknowledgement

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.startswith("/cut/"):
            self.hub.cut = int(url.path.removeprefix("/cut/"))
            self._json({})
            return
        for kind, pattern in ROUTES.items():
            if match := pattern.fullmatch(url.path):
                repo, revision, *path = (unquote(group or "main") for group in match.groups())
                if refusal := self.hub.refusals.get(repo, self.hub.refusals.get(f"{repo}/{kind}")):
                    self._refuse(*refusal)
                elif repo not in self.hub.repositories:
                    self._refuse(404, "RepoNotFound")
                else:
                    newest = self.hub.commit(repo)
                    self._about(kind, repo, newest if revision == "main" else revision, *path)
                return
        self._refuse(404)

    do_HEAD = do_GET  # noqa: N815

    def _about(self, kind: str, repo: str, commit: str, path: str = "") -> None:
        files = self.hub.past.get((repo, commit))
        if files is None:
            self._refuse(404, "RevisionNotFound")
        elif kind == "info":
            self._json({"id": repo, "sha": commit})
        elif kind == "tree":
            self._tree(files, int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0]))
        elif path in files and self.hub.faults and self.command == "GET":
            status, headers = self.hub.faults.pop(0)
            self._answer(status, headers, b"")
        elif path in files:
            with self.hub.counting:
                self.hub.at_once += 1
                self.hub.most_at_once = max(self.hub.most_at_once, self.hub.at_once)
            time.sleep(self.hub.patience)
            self._file(files[path], commit)
            with self.hub.counting:
                self.hub.at_once -= 1
        else:
            self._refuse(404, "EntryNotFound")

    def _tree(self, files: dict[str, bytes], start: int) -> None:
        folders = {path[: slash.start()] for path in files for slash in re.finditer("/", path)}
        tree: list[dict[str, object]] = [
            *({"type": "directory", "path": path, "oid": oid(b"")} for path in sorted(folders)),
            *({"type": "file", "path": p, "oid": oid(d), "size": len(d)} for p, d in files.items()),
        ]
        stop = start + self.hub.page
        more = f"{self.hub.url}{urlsplit(self.path).path}?recursive=True&cursor={stop}"
        links = {"Link": f'<{more}>; rel="next"'} if stop < len(tree) else {}
        self._json(tree[start:stop], links)

    def _file(self, data: bytes, commit: str) -> None:
        headers = {"X-Repo-Commit": commit, "ETag": f'"{oid(data)}"'}
        headers["Accept-Ranges"] = "bytes"
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part is None:
            return self._answer(200, headers, data, counted=True)
        first, stop = int(part[1]), min(int(part[2] or len(data)) + 1, len(data))
        headers["Content-Range"] = f"bytes {first}-{stop - 1}/{len(data)}"
        return self._answer(206, headers, data[first:stop], counted=True)

    def _refuse(self, status: int, code: str = "") -> None:
        self._answer(status, {"X-Error-Code": code} if code else {}, b"")

    def _json(self, content: object, headers: dict[str, str] | None = None) -> None:
        self._answer(200, headers or {}, json.dumps(content).encode())

    def _answer(self, status: int, headers: dict[str, str], body: bytes, counted: bool = False):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            if counted and self.hub.cut is not None:
                if self.hub.cut < len(body):
                    body, self.hub.cut, self.close_connection = body[: self.hub.cut], None, True
                else:
                    self.hub.cut -= len(body)
            self.hub.sent += counted * len(body)
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def oid(data: bytes) -> str:
    """The hash that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def npz(decoder: np.ndarray, *, packed: bool = False) -> bytes:
    """A file as Gemma Scope lays it out, stored or deflated."""
    n_features, d_model = decoder.shape
    file = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(
        file,
        W_enc=decoder.T.copy(),
        W_dec=decoder,
        b_enc=np.zeros(n_features, np.float32),
        b_dec=np.zeros(d_model, np.float32),
        threshold=np.ones(n_features, np.float32),
    )
    return file.getvalue()
