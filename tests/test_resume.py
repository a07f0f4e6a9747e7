"""What is counted of a dictionary survives an interruption, and is no result before it is whole."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

import geomsae
from geomsae import counting, results
from geomsae.pairs.plan import plan_triangle

N = 13 * 2048
ASKED = {"thresholds": (0.1, 0.3), "neighbours": 2, "pairs": 50}


@pytest.fixture
def large(tmp_path):
    """A store of one dictionary of many tasks."""
    store = geomsae.open_store(tmp_path / "store", create=True)
    list(geomsae.convert(f"random:{N}x16", store))
    return store


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    store = geomsae.open_store(tmp_path_factory.mktemp("undisturbed") / "store", create=True)
    list(geomsae.convert(f"random:{N}x16", store))
    return told(store)


def told(store):
    """All that a store says about its one dictionary, which is counted if it is not."""
    (key,) = store.decoders
    list(geomsae.compute_histograms(store, **ASKED))
    return xr.merge([store.histograms(), store.features(key), store.pairs(key)], compat="override")


def interrupted_after(tasks, store, error=KeyboardInterrupt):
    """Count, and be interrupted after so many tasks."""
    left = tasks

    def progress(pairs):
        nonlocal left
        left -= pairs > 0
        if left == 0:
            raise error

    with pytest.raises(error):
        list(geomsae.compute_histograms(store, progress=progress, **ASKED))


def counted_tasks(monkeypatch):
    seen = []
    right = counting.count_stored

    def count(*arguments):
        seen.append(arguments[2])
        return right(*arguments)

    monkeypatch.setattr(counting, "count_stored", count)
    return seen


@pytest.mark.long
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_dictionary_goes_on_where_it_was(large, expected, monkeypatch, error):
    interrupted_after(20, large, error)
    interrupted_after(15, large, error)
    assert large.histograms().sizes["dictionary"] == 0
    assert Path(f"{large.location}-work").exists()
    assert list(Path(large.location).rglob("results")) == []
    seen = counted_tasks(monkeypatch)
    assert told(large).equals(expected)
    assert len(seen) <= len(plan_triangle(N)) - 33  # the first call of progress may be a resumption
    assert not Path(f"{large.location}-work").exists()


def test_what_was_kept_for_another_question_is_not_used(large, expected, monkeypatch):
    interrupted_after(20, large)
    seen = counted_tasks(monkeypatch)
    list(geomsae.compute_histograms(large, thresholds=(), neighbours=0, pairs=0))
    assert len(seen) == len(plan_triangle(N))
    assert told(large).equals(expected)


def test_a_torn_file_is_begun_anew(large, expected):
    interrupted_after(20, large)
    (file,) = Path(f"{large.location}-work").rglob("so_far.npz")
    file.write_bytes(file.read_bytes()[:-100])
    assert told(large).equals(expected)


KILLED = """
import os, signal, sys, geomsae
from geomsae import counting
counting.SECONDS_BETWEEN_KEEPING = 0.0
left = 30
def progress(pairs):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
store = geomsae.open_store(sys.argv[1])
list(geomsae.compute_histograms(
    store, progress=progress, thresholds=(0.1, 0.3), neighbours=2, pairs=50
))
"""


@pytest.mark.long
def test_a_kill_costs_only_what_was_not_kept_yet(large, expected, monkeypatch):
    killed = subprocess.run([sys.executable, "-c", KILLED, large.location], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert large.refresh().histograms().sizes["dictionary"] == 0
    seen = counted_tasks(monkeypatch)
    assert told(large).equals(expected)
    assert len(seen) <= len(plan_triangle(N)) - 27
    assert not Path(f"{large.location}-work").exists()


def test_two_runs_at_once_count_once(large, expected, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    seen = counted_tasks(monkeypatch)
    others = [geomsae.open_store(large.location) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        made = list(
            pool.map(lambda store: list(geomsae.compute_histograms(store, **ASKED)), others)
        )
    assert made == [list(large.decoders)] * 2
    assert len(seen) == len(plan_triangle(N))
    assert told(large).equals(expected)


def test_what_was_kept_is_put_away_though_its_run_was_killed_at_the_very_end(store, monkeypatch):
    class KilledError(BaseException):
        pass

    keep = results._keep

    def keep_and_die(work, whole, device, so_far):
        so_far.save(whole.arrays())
        keep(work, whole, device, so_far)
        raise KilledError

    ids = list(store.decoders)[:1]
    monkeypatch.setattr(results, "_keep", keep_and_die)
    with pytest.raises(KilledError):
        list(geomsae.compute_histograms(store, ids))
    monkeypatch.undo()
    assert store.hierarchy.work.exists()
    assert list(geomsae.compute_histograms(store, ids)) == []
    assert not store.hierarchy.work.exists()
