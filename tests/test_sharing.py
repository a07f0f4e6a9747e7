"""Two runs at once on one store: nothing twice or lost, and the second says who is at what."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import run_geomsae

import geomsae
from geomsae import results
from geomsae.errors import BusyError
from geomsae.store import decoders
from geomsae.store.guard import finished
from geomsae.store.layout import histogram_path
from geomsae.store.locks import Holder, held, in_silence, leave
from tests.forks import start

FIRST, SECOND = "random/gaussian/50x16_seed_0", "random/gaussian/60x16_seed_0"
WAITING = rf"waiting for process {os.getpid()} on {re.escape(socket.gethostname())}, which "


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    """Where a store of two dictionaries lies."""
    there = f"memory://{tmp_path.name}/store" if request.param == "memory" else tmp_path / "store"
    store = geomsae.open_store(there, create=True)
    list(geomsae.convert("random:50x16", store))
    list(geomsae.convert("random:60x16", store))
    return there


def test_the_second_run_helps_and_then_says_whom_it_waits_for(place, monkeypatch):
    begun, go_on, said, counts = threading.Event(), threading.Event(), [], []
    right = results.count_whole

    def count_whole(work, *others):
        counts.append(*work.ids)
        if work.ids == (FIRST,):
            begun.set()
            assert go_on.wait(60)
        return right(work, *others)

    monkeypatch.setattr(results, "count_whole", count_whole)

    def say(sentence):
        said.append(sentence)
        go_on.set()

    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(lambda: list(geomsae.compute_histograms(geomsae.open_store(place))))
        assert begun.wait(60)
        made = list(geomsae.compute_histograms(geomsae.open_store(place), say=say))
        assert one.result() == [FIRST, SECOND]
    assert made == [SECOND, FIRST]
    assert counts == [FIRST, SECOND]
    (sentence,) = said
    assert re.fullmatch(rf"{WAITING}counts {FIRST} since \d\d:\d\d", sentence)
    assert geomsae.open_store(place).histograms().sizes["dictionary"] == 2


def test_the_second_convert_helps_and_then_says_whom_it_waits_for(tmp_path, monkeypatch):
    store = tmp_path / "store"
    # What is drawn at random is quickly drawn again, so that nobody would wait for it.
    monkeypatch.setattr(decoders, "_source", lambda decoder: decoder.labels.id)
    monkeypatch.setattr("geomsae.sources.random.RandomDecoder.remote", True)
    begun, go_on = threading.Event(), threading.Event()

    def progress(_):
        begun.set()
        assert go_on.wait(60)

    def others():
        assert begun.wait(60)
        until(lambda: (store / SECOND / "zarr.json").exists())
        time.sleep(0.5)
        go_on.set()

    with ThreadPoolExecutor(2) as pool:
        opened = geomsae.open_store(store, create=True)
        one = pool.submit(lambda: list(geomsae.convert("random:50x16", opened, progress=progress)))
        assert begun.wait(60)
        other = pool.submit(others)
        words = ["convert", "random:50x16", "random:60x16", "--store", store]
        _, told = run_geomsae(*words, cwd=tmp_path)
        other.result()
        assert [outcome.added for outcome in one.result()] == [True]
    first, second, third, *_ = told.splitlines()
    assert first == f"{SECOND}: stored"
    assert re.fullmatch(rf"{WAITING}converts {FIRST} since \d\d:\d\d", second)
    assert third == f"{FIRST}: is there already"


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


HOLDS = """
import sys, time
from pathlib import Path
from geomsae.store.locks import Holder, held, in_silence
with held(Path(sys.argv[1]), Holder.me("counts a"), in_silence):
    print(flush=True)
    time.sleep(600)
"""


def test_a_lock_says_who_holds_it_and_opens_when_that_process_dies(tmp_path):
    lock = tmp_path / "a.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(lock)], stdout=subprocess.PIPE)
    holder.stdout.readline()
    me = Holder.me("counts a")
    with pytest.raises(BusyError, match=f"process {holder.pid} on"), held(lock, me, leave):
        pass
    holder.kill()
    holder.communicate()
    with held(lock, me, leave) as dead:
        assert dead.process == holder.pid
    assert not lock.exists()


def test_a_torn_lock_is_nobodys(tmp_path):
    lock = tmp_path / "a.lock"
    lock.write_text('{"what": "coun')
    with held(lock, Holder.me("counts a"), in_silence) as dead:
        assert dead is None


@pytest.mark.long
def test_two_command_lines_at_once_give_each_result_once(tmp_path):
    store = tmp_path / "store"
    sources = [f"random:{n}x32" for n in (300, 400, 500, 600)]

    def both(*words):
        command = ["-m", "geomsae", *words, "--store", store]
        runs = [start(command, stderr=subprocess.PIPE) for _ in range(2)]
        told = [run.communicate()[1] for run in runs]
        assert [run.returncode for run in runs] == [0, 0], told
        return "".join(told)

    both("convert", *sources)
    both("histogram")
    opened = geomsae.open_store(store)
    hist = opened.histograms()
    assert hist.sizes["dictionary"] == 4
    assert (hist["count"].sum("cosine") == hist["n_pairs"]).all()
    run_geomsae("verify", "--store", store, cwd=tmp_path)
    assert not Path(f"{store}-work").exists()


def test_a_result_that_comes_between_two_looks_is_not_taken_for_a_damaged_one(store, monkeypatch):
    id = next(iter(store.decoders))
    list(geomsae.compute_histograms(store, [id]))
    hierarchy, path = store.hierarchy, histogram_path(id, 2000, "float32")
    expected = finished(hierarchy, path)
    there = Path(hierarchy.root) / path
    elsewhere = there.rename(there.with_name("elsewhere"))
    right = hierarchy.fs.exists

    def exists(place):
        elsewhere.rename(there)
        return right(place)

    monkeypatch.setattr(hierarchy.fs, "exists", exists)
    assert finished(hierarchy, path) == expected
