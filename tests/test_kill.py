"""Killed at any moment and run again, a store holds the same as one that was never disturbed."""

import json
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import geomsae
from geomsae.sources import Wanted

SOURCES = ["random:9000x256", "random:3000x512", "random:500x64"]
KILLS = 8


def words(verb, store):
    sources = SOURCES if verb == "convert" else []
    return [sys.executable, "-m", "geomsae", verb, *sources, "--store", str(store)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The store that should come out, and the seconds that each verb takes."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    seconds = {}
    for verb in ("convert", "histogram"):
        began = time.monotonic()
        subprocess.run(words(verb, store), check=True, capture_output=True)
        seconds[verb] = time.monotonic() - began
    return geomsae.open_store(store).histograms().load(), seconds


def check_nothing_half_made(location):
    """Whatever is shown is whole: plain xarray opens it, counts add up, decoders are as drawn."""
    if not (location / "zarr.json").exists():
        return
    xr.open_datatree(location, engine="zarr", consolidated=False).load()
    store = geomsae.open_store(location)
    for key in store.decoders:
        assert np.isfinite(store.decoder(key).values).all()
    hist = store.histograms()
    assert (hist["count"].sum("cosine") == hist["n_pairs"]).all()


def test_killed_and_run_again_gives_the_same(undisturbed, tmp_path):
    expected, seconds = undisturbed
    chance = random.Random(1)
    location = tmp_path / "store"
    for verb in ("convert", "histogram"):
        for _ in range(KILLS // 2):
            process = subprocess.Popen(
                words(verb, location), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            # Imports come first: what is of interest happens in the later part.
            time.sleep(seconds[verb] * chance.uniform(0.3, 1.0))
            process.send_signal(signal.SIGKILL)
            process.wait()
            check_nothing_half_made(location)
        subprocess.run(words(verb, location), check=True, capture_output=True)
    assert geomsae.open_store(location).histograms().equals(expected)
    assert not Path(f"{location}-work").exists()


def test_work_of_a_dead_process_is_removed_and_of_a_living_one_left_alone(tmp_path):
    store = geomsae.open_store(tmp_path / "store", create=True)
    with store.hierarchy.staging() as living:
        dead = living.parent / "dead"
        dead.mkdir()
        (living.parent / "dead.lock").touch()
        list(geomsae.convert("random:10x4", store))
        assert living.exists()
        assert not dead.exists()
    assert not living.parent.exists()


def test_many_threads_come_and_go_without_meeting(tmp_path):
    store = geomsae.open_store(tmp_path / "store", create=True)

    def one(seed):
        time.sleep(random.Random(seed).uniform(0, 0.01))
        return [o.added for o in geomsae.convert("random:4x2", store, Wanted(seed=seed))]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(100))) == [[True]] * 100
    assert len(geomsae.open_store(tmp_path / "store").decoders) == len(store.decoders) == 100
    assert not Path(f"{tmp_path}/store-work").exists()


def test_two_runs_that_finish_the_same_leave_one(tmp_path):
    first = geomsae.open_store(tmp_path / "store", create=True)
    second = geomsae.open_store(tmp_path / "store", create=True)
    assert not second.decoders
    list(geomsae.convert("random:10x4", first))
    outcomes = list(geomsae.convert("random:10x4", second))
    assert [outcome.added for outcome in outcomes] == [False]
    assert len(geomsae.open_store(tmp_path / "store").decoders) == 1


def test_a_group_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    store = geomsae.open_store(tmp_path / "store", create=True)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space"):
        list(geomsae.convert("random:10x4", store))
    monkeypatch.undo()
    assert geomsae.open_store(tmp_path / "store").catalog().empty
    assert json.loads((tmp_path / "store" / "zarr.json").read_text())["node_type"] == "group"
    list(geomsae.convert("random:10x4", store.refresh()))
    assert len(store.decoders) == 1
