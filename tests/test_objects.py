"""Stores that are no folder: whole or not at all without a rename, each refusal one sentence."""

import http.server
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import fsspec
import numpy as np
import pytest
import xarray as xr
from conftest import json_of, run_geomsae

import geomsae
from geomsae.errors import BusyError, StoreError, TakenError, UnreachableError
from geomsae.store import claims as claims_room
from geomsae.store import elsewhere
from geomsae.store.claims import Claims
from geomsae.store.locks import Holder, in_silence, leave
from geomsae.store.upload import Upload

ID = "random/gaussian/60x16_seed_0"
OTHER = "random/gaussian/50x16_seed_0"

needs_s3 = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("moto", "flask", "s3fs"))),
    reason="no server of objects here: pip install s3fs 'moto[s3]' flask flask-cors",
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder where unfinished work goes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "geomsae"


@pytest.fixture
def place(request):
    """An address in the memory of this process."""
    yield f"memory://{request.node.name}/a/store"
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


@pytest.fixture
def remote(place):
    """A store of two dictionaries in memory."""
    store = geomsae.open_store(place, create=True)
    list(geomsae.convert("random:60x16", store))
    list(geomsae.convert("random:50x16", store))
    return store


@pytest.fixture
def local(tmp_path):
    """The same store on the disk."""
    store = geomsae.open_store(tmp_path / "store", create=True)
    list(geomsae.convert("random:60x16", store))
    list(geomsae.convert("random:50x16", store))
    return store


def shown(place):
    """What plain xarray finds in a store: the values of every variable, by path."""
    tree = xr.open_datatree(place, engine="zarr", consolidated=False)
    return {
        f"{node.path}/{name}": variable.values
        for node in tree.subtree
        for name, variable in node.variables.items()
    }


def objects_beside(place):
    return fsspec.filesystem("memory").find(f"{place.removeprefix('memory:/')}-work")


def test_it_holds_what_a_local_store_holds(remote, local, cache):
    for store in (remote, local):
        list(geomsae.compute_histograms(store))
    expected, found = shown(local.location), shown(remote.location)
    assert set(found) == set(expected)
    for path, values in expected.items():
        assert found[path].tobytes() == values.tobytes(), path
    assert objects_beside(remote.location) == []
    assert list(cache.iterdir()) == []


def test_every_verb_works(remote, tmp_path):
    words = ["--store", remote.location]
    assert len(json_of("plan", *words, cwd=tmp_path)) == 2
    run_geomsae("histogram", *words, cwd=tmp_path)
    assert [row["id"] for row in json_of("ls", *words, cwd=tmp_path)] == [OTHER, ID]
    assert len(json_of("tails", *words, cwd=tmp_path)) == 2
    assert len(json_of("compare", ID, OTHER, *words, cwd=tmp_path)) == 1
    run_geomsae("neighbours", ID, *words, cwd=tmp_path)
    run_geomsae("verify", *words, cwd=tmp_path)
    run_geomsae("report", *words, cwd=tmp_path)
    assert (tmp_path / "store-report").is_dir()


class CutError(Exception):
    """The end of everything, after so many files."""


def cut_after(monkeypatch, files):
    """Have this process write so many more files, and then none."""
    left = files
    filesystem = type(fsspec.filesystem("memory"))
    right = filesystem.put_file
    lock = threading.Lock()

    def put_file(self, *arguments, **options):
        nonlocal left
        with lock:
            left -= 1
            if left < 0:
                raise CutError
        return right(self, *arguments, **options)

    monkeypatch.setattr(filesystem, "put_file", put_file)


@pytest.mark.parametrize("files", range(5))
def test_a_decoder_that_is_half_there_is_not_there(place, local, monkeypatch, files):
    store = geomsae.open_store(place, create=True)
    list(geomsae.convert("random:50x16", store))
    before = shown(place)
    with monkeypatch.context() as patch:
        cut_after(patch, files)
        with pytest.raises(UnreachableError):
            list(geomsae.convert("random:60x16", store))
    assert list(geomsae.open_store(place).decoders) == [OTHER]
    with warnings.catch_warnings():  # that a folder is no group
        warnings.simplefilter("ignore")
        after = shown(place)
        tree = xr.open_datatree(place, engine="zarr", consolidated=False)
    expected = shown(local.location)
    for path in set(after) - set(before):  # arrays are whole, and their group is called unfinished
        assert after[path].tobytes() == expected[path].tobytes()
    assert ID not in tree or tree[ID].attrs == {"status": "unfinished"}
    assert [o.added for o in geomsae.convert("random:60x16", store.refresh())] == [True]
    assert {path: values.tobytes() for path, values in shown(place).items()} == {
        path: values.tobytes() for path, values in expected.items()
    }


def test_what_could_not_be_brought_is_not_fetched_again(place, cache, monkeypatch):
    store = geomsae.open_store(place, create=True)
    monkeypatch.setattr("geomsae.sources.random.RandomDecoder.remote", True)
    with monkeypatch.context() as patch:
        cut_after(patch, 1)
        with pytest.raises(UnreachableError):
            list(geomsae.convert("random:60x16", store))
    (chunk,) = cache.rglob("W_dec/c/0/0")
    written = chunk.stat().st_mtime_ns
    put = type(store.hierarchy.fs).put_file
    times = []

    def put_file(self, file, *others, **options):
        times.append(os.stat(file).st_mtime_ns)
        return put(self, file, *others, **options)

    monkeypatch.setattr(type(store.hierarchy.fs), "put_file", put_file)
    assert [outcome.added for outcome in geomsae.convert("random:60x16", store)] == [True]
    assert written in times
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("files", [0, 5, 11, 20])
def test_features_made_anew_are_whole_or_not_there(remote, monkeypatch, files):
    list(geomsae.compute_histograms(remote, [ID], thresholds=(0.1,), neighbours=3))
    with monkeypatch.context() as patch:
        cut_after(patch, files)
        with pytest.raises(UnreachableError):
            list(geomsae.compute_histograms(remote, [ID]))
    assert remote.asked_before(ID, 2000, "float32") is None
    with pytest.raises(StoreError, match="knows nothing"):
        remote.features(ID)
    list(geomsae.compute_histograms(remote, [ID]))
    assert remote.features(ID)["degree"].sizes["threshold"] == 4
    assert remote.histograms().sizes["dictionary"] == 1


def test_a_group_above_others_keeps_them_in_sight(place, monkeypatch):
    store = geomsae.open_store(place, create=True)
    list(geomsae.convert("random:60x16", store))
    below = store.decoders[ID]
    # What is made for the groups above a new one is never written over a dictionary that is there.
    upload = Upload(store.hierarchy.fs, store.hierarchy.root, place)
    upload.create(f"{ID}/zarr.json", b"{}")
    assert store.refresh().decoders[ID] == below


def test_two_decoders_of_one_id_are_never_mixed(place, matrix):
    from geomsae.sources import Wanted

    rows = np.random.default_rng(1).standard_normal((2, 40, 8)).astype(np.float32)
    files = [matrix(rows[number], f"{number}.npy") for number in range(2)]
    stores = [geomsae.open_store(place, create=True) for _ in files]
    with ThreadPoolExecutor(2) as pool:
        ids = list(
            pool.map(lambda f, s: next(geomsae.convert(f, s, Wanted(model="m"))).id, files, stores)
        )
    opened = geomsae.open_store(place)
    assert sorted(opened.decoders) == sorted(ids)
    assert len(set(ids)) == 2
    for number, id in enumerate(ids):
        assert (opened.decoder(id).values == rows[number]).all()


@pytest.fixture
def claims(place, monkeypatch):
    monkeypatch.setattr(claims_room, "BEAT", 0.05)
    monkeypatch.setattr(claims_room, "DEAD", 0.5)
    monkeypatch.setattr(claims_room, "LOOK_AGAIN", 0.02)
    fs, root = elsewhere.reach(place)
    return Claims(fs, f"{root}-work", place)


def left_by_the_dead(claims, name="w"):
    claims._make(name, 0, Holder("counts a", 1, "elsewhere", time.time(), "dead"))


def test_a_claim_of_the_living_is_waited_for(claims):
    me, other = Holder.me("counts a"), Holder.me("counts a, too")
    told = []

    def second():
        with claims.held("w", other, told.append) as mine:
            return mine()

    with ThreadPoolExecutor(1) as pool:
        with claims.held("w", me, in_silence) as mine:
            waiting = pool.submit(second)
            time.sleep(3 * claims_room.DEAD)
            assert mine()
            assert not waiting.done()
            assert told == [me]
            pattern = f"process {os.getpid()} on .*, which counts a since"
            with pytest.raises(BusyError, match=pattern), claims.held("w", other, leave):
                pass
        assert waiting.result()


def test_a_claim_of_the_dead_is_taken_over_by_one(claims):
    left_by_the_dead(claims)
    inside, most = 0, 0
    lock = threading.Lock()

    def one(_):
        nonlocal inside, most
        with claims.held("w", Holder.me("counts a"), in_silence) as mine:
            with lock:
                inside += 1
                most = max(most, inside)
            assert mine()
            time.sleep(0.05)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    assert most == 1
    assert claims._highest("w") == -1


def test_who_was_taken_for_dead_leaves_the_claim_of_others_alone(claims):
    with claims.held("w", Holder.me("counts a"), in_silence) as mine:
        claims.fs.rm_file(claims._at("w", 0))
        other = Holder.me("counts a")
        assert claims._make("w", 0, other)
        assert not mine()
    assert Holder.from_json(claims._read("w", 0)) == other


def test_who_was_taken_for_dead_brings_nothing(remote, place, tmp_path):
    with remote.hierarchy.staging() as stage:
        list(geomsae.convert("random:20x4", geomsae.open_store(tmp_path / "other", create=True)))
        (tmp_path / "other" / "random").rename(stage / "random")
        upload = Upload(remote.hierarchy.fs, remote.hierarchy.root, place)
        with pytest.raises(TakenError):
            upload.bring(stage, "random/gaussian/20x4_seed_0", lambda: False)
    assert set(geomsae.open_store(place).decoders) == {ID, OTHER}


def test_the_claim_of_a_process_that_died_here_is_taken_over_at_once(remote, place):
    hierarchy = remote.hierarchy
    dead = Holder("counts a", 1, "here", time.time(), "dead")
    hierarchy.work.mkdir(parents=True)
    (hierarchy.work / "kept-w.lock").write_text(dead.to_json())
    Claims(hierarchy.fs, f"{hierarchy.root}-work", place)._make("kept-w", 0, dead)
    with hierarchy._alone("kept-w", "counts a", leave, everywhere=True) as mine:
        assert mine()
    assert objects_beside(place) == []


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


@pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not here")
def test_a_website_is_read_and_not_written(local, tmp_path):
    list(geomsae.compute_histograms(local))
    with served(Website, tmp_path) as address:
        check_read_only(f"{address}/store", tmp_path, {})


def test_a_dataset_of_the_hub_is_read_and_not_written(local, tmp_path):
    list(geomsae.compute_histograms(local))
    with served(Datasets, tmp_path) as address:
        said = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        check_read_only("hf://datasets/me/stores/store", tmp_path, said)


def test_a_store_that_stops_answering_is_a_sentence(remote, tmp_path, monkeypatch):
    def gone(*_, **__):
        raise ConnectionError("the cable was pulled")

    monkeypatch.setattr(type(remote.hierarchy.fs), "cat_file", gone)
    told = refused("ls", "--store", remote.location, cwd=tmp_path)
    assert "does not answer (the cable was pulled)" in told


def test_a_refusal_of_the_provider_speaks_of_credentials(remote, tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(remote.hierarchy.fs), "cat_file", forbidden)
    told = refused("tails", "--store", remote.location, cwd=tmp_path)
    assert "credentials" in told


def test_rows_that_are_missing_elsewhere_are_not_counted(remote):
    remote.hierarchy.fs.rm_file(f"{remote.hierarchy.root}/{ID}/W_dec/c/0/0")
    with pytest.raises(StoreError, match="missing"):
        list(geomsae.compute_histograms(remote, [ID]))


@pytest.mark.long
@needs_s3
def test_of_s3_every_failure_is_one_sentence(tmp_path):
    from tests.objects import geomsae as start
    from tests.objects import s3_server

    def check_told(*asked):
        """Ask all at once, as some wait long for an answer; each is refused in its own words."""
        begun = [(start(*words, said=said, cwd=tmp_path), part) for words, said, part in asked]
        for process, part in begun:
            _, stderr = process.communicate(timeout=120)
            assert process.returncode == 1
            assert "Traceback" not in stderr
            assert part in stderr

    ls, convert = ["ls", "--store"], ["convert", "random:4x4", "--store"]
    with s3_server() as said:
        bare = {**said, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
        bare |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
        check_told(
            ([*ls, "s3://nowhere/store"], said, "no store"),
            ([*convert, "s3://nowhere/store"], said, "make the bucket"),
            ([*convert, "s3://bucket"], said, "name a folder"),
            ([*ls, "s3://bucket/store"], bare, "credentials"),
        )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = {**said, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        check_told(
            *(([*ls, "s3://bucket/store"], where, "does not answer") for where in (said, mute))
        )


@pytest.mark.long
@needs_s3
def test_on_s3_a_worker_may_be_killed_on_the_way(tmp_path):
    from tests.objects import counted_elsewhere

    counted_elsewhere(Path(tmp_path), 3, 2000)


@pytest.mark.long
@needs_s3
def test_on_s3_a_killed_run_is_gone_on_with_at_once(tmp_path):
    from tests.objects import done, python, s3_server
    from tests.objects import geomsae as start

    sources = [f"random:{n}x64" for n in (3000, 2600)]
    with s3_server() as said:
        said["XDG_CACHE_HOME"] = str(tmp_path / "cache")
        for words in (["convert", *sources], ["histogram"]):
            words += ["--store", "s3://bucket/store"]
            struck = start(*words, said=said)
            struck.stderr.readline()  # the first is there, and the second on its way
            struck.kill()
            struck.communicate()
            told = done(start(*words, said=said))
            assert "waiting" not in told  # for a process that is dead
        table = done(start("verify", "--json", "--store", "s3://bucket/store", said=said))
        rows = json.loads(table)
        assert len(rows) == 6
        assert {row["problem"] for row in rows} == {""}
        left = "import s3fs; print(s3fs.S3FileSystem().find('bucket/store-work'))"
        assert python(left, said).strip() == "[]"
    assert list((tmp_path / "cache" / "geomsae").iterdir()) == []
