"""What dies leaves nothing behind that is seen, and who works at the same time does not meet."""

import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import geomsae
from geomsae.sources import Wanted
from geomsae.store.staging import remove_abandoned


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


@pytest.mark.long
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


def test_a_folder_of_work_that_another_removes_between_two_looks_is_no_error(tmp_path, monkeypatch):
    work = tmp_path / "store-work"
    work.mkdir()

    def first_removed(look):
        def looks(place):
            if Path(place) == work and work.exists():
                work.rmdir()
            return look(place)

        return looks

    for name in ("listdir", "scandir"):  # whichever a version of Python looks with
        monkeypatch.setattr(os, name, first_removed(getattr(os, name)))
    remove_abandoned(work)
    assert not work.exists()
