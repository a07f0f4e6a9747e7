"""Addresses of stores: those that are only read, and each refusal one sentence."""

import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

import pytest
from conftest import run_geomsae

import geomsae
from geomsae.store import elsewhere

pytestmark = pytest.mark.usefixtures("cache")


def refused(*words, cwd, status=1, **options):
    _, told = run_geomsae(*words, cwd=cwd, status=status, **options)
    (line,) = filter(None, told.splitlines())
    assert line.startswith("Error: ")
    return line


def test_a_password_in_an_address_is_refused_and_not_repeated(tmp_path):
    told = refused("ls", "--store", "s3://AKIA:se/cret@bucket/store", cwd=tmp_path)
    assert "password" in told
    assert "se/cret" not in told
    assert "AKIA" not in told


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8000/store", "hf://datasets/a/b@main/store", "s3://bucket/x:y@z"]
)
def test_other_signs_in_an_address_are_no_password(address):
    assert not elsewhere._SECRET.search(address)


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="gcsfs is here")
def test_a_missing_package_is_named(tmp_path):
    told = refused("ls", "--store", "gs://bucket/store", cwd=tmp_path)
    assert "pip install 'geomsae[gcs]'" in told


def test_an_unknown_kind_of_address_is_refused(tmp_path):
    assert "foo" in refused("ls", "--store", "foo://bucket/store", cwd=tmp_path)


def test_a_whole_bucket_is_no_place_for_a_store(tmp_path):
    told = refused("convert", "random:4x4", "--store", "memory://", cwd=tmp_path)
    assert "name a folder" in told


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("the cable was pulled"), "does not answer (the cable was pulled)"),
        (PermissionError("Access Denied"), "credentials"),
    ],
)
@pytest.mark.parametrize("verb", ["ls", "tails"])
def test_a_store_that_does_not_answer_or_refuses_is_a_sentence(
    remote, tmp_path, monkeypatch, verb, error, said
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(type(remote.hierarchy.fs), "cat_file", fail)
    assert said in refused(verb, "--store", remote.location, cwd=tmp_path)


READ = """
import sys, geomsae
store = geomsae.open_store(sys.argv[1])
print(len(store.decoders), int(store.histograms()["count"].sum()))
"""


def check_read_only(address, tmp_path, said):
    """Read a store from another process, and be refused to write into it."""
    env = {**os.environ, **said}
    options = {"env": env, "capture_output": True, "text": True, "cwd": tmp_path}
    read = subprocess.run([sys.executable, "-c", READ, address], **options)
    assert read.stdout.split() == ["2", str(60 * 59 // 2 + 50 * 49 // 2)], read.stderr
    words = ["-m", "geomsae", "convert", "random:4x4", "--store", address]
    wrote = subprocess.run([sys.executable, *words], **options)
    assert wrote.returncode == 1
    assert "can only be read" in wrote.stderr
    assert "Traceback" not in wrote.stderr


@contextmanager
def served(handler, folder):
    """A folder behind a server on loopback; its address."""
    kind = type("", (handler,), {"folder": folder, "log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Website(http.server.SimpleHTTPRequestHandler):
    """A web server that lists its folders."""

    def __init__(self, *arguments):
        super().__init__(*arguments, directory=str(self.folder))


class Datasets(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as reading ``hf://datasets/me/stores`` takes."""

    protocol_version = "HTTP/1.1"
    api = "/api/datasets/me/stores"
    files = "/datasets/me/stores/resolve/main/"

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if path.startswith(f"{self.api}/tree/main"):
            self.tree(self.folder / path.removeprefix(f"{self.api}/tree/main").strip("/"))
        elif path.startswith(self.api):
            self.say({"id": "me/stores", "sha": "a" * 40, "private": False, "tags": []})
        else:
            self.file(self.folder / path.removeprefix(self.files))

    do_HEAD = do_GET  # noqa: N815 - the name that is called

    def tree(self, folder):
        found = sorted(folder.iterdir()) if folder.is_dir() else None
        kinds = {True: "directory", False: "file"}
        if found is None:
            self.say({}, 404)
        else:
            self.say(
                [
                    {
                        "type": kinds[entry.is_dir()],
                        "path": entry.relative_to(self.folder).as_posix(),
                        "oid": "b" * 40,
                        "size": entry.stat().st_size,
                    }
                    for entry in found
                ]
            )

    def file(self, file):
        if not file.is_file():
            self.say({}, 404)
            return
        content = file.read_bytes()
        whole = f"bytes=0-{len(content) - 1}"
        first, last = self.headers.get("Range", whole).removeprefix("bytes=").split("-")
        part = content[int(first) : int(last or len(content)) + 1]
        where = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        headers = {"ETag": '"x"', "X-Repo-Commit": "a" * 40, "Content-Range": where}
        self.say(part, 206 if "Range" in self.headers else 200, **headers)

    def say(self, content, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        if status == 404:
            headers["X-Error-Code"] = "EntryNotFound"
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not here")
def test_a_website_is_read_and_not_written(local, tmp_path):
    list(geomsae.compute_histograms(local))
    with served(Website, tmp_path) as address:
        check_read_only(f"{address}/store", tmp_path, {})


@pytest.mark.long
def test_a_dataset_of_the_hub_is_read_and_not_written(local, tmp_path):
    list(geomsae.compute_histograms(local))
    with served(Datasets, tmp_path) as address:
        said = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        check_read_only("hf://datasets/me/stores/store", tmp_path, said)
