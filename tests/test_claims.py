"""Claims on work where no file can be locked: one at a time, and none for ever."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from in_memory import ID, OTHER, objects_beside

import geomsae
from geomsae.errors import BusyError, TakenError
from geomsae.store import claims as claims_room
from geomsae.store import elsewhere
from geomsae.store.claims import Claims
from geomsae.store.locks import Holder, in_silence, leave
from geomsae.store.upload import Upload


@pytest.fixture
def claims(address, monkeypatch):
    monkeypatch.setattr(claims_room, "BEAT", 0.05)
    monkeypatch.setattr(claims_room, "DEAD", 0.5)
    monkeypatch.setattr(claims_room, "LOOK_AGAIN", 0.02)
    fs, root = elsewhere.reach(address)
    return Claims(fs, f"{root}-work", address)


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


def test_who_was_taken_for_dead_brings_nothing(remote, address, tmp_path):
    with remote.hierarchy.staging() as stage:
        list(geomsae.convert("random:20x4", geomsae.open_store(tmp_path / "other", create=True)))
        (tmp_path / "other" / "random").rename(stage / "random")
        upload = Upload(remote.hierarchy.fs, remote.hierarchy.root, address)
        with pytest.raises(TakenError):
            upload.bring(stage, "random/gaussian/20x4_seed_0", lambda: False)
    assert set(geomsae.open_store(address).decoders) == {ID, OTHER}


def test_the_claim_of_a_process_that_died_here_is_taken_over_at_once(remote, address):
    hierarchy = remote.hierarchy
    dead = Holder("counts a", 1, "here", time.time(), "dead")
    hierarchy.work.mkdir(parents=True)
    (hierarchy.work / "kept-w.lock").write_text(dead.to_json())
    Claims(hierarchy.fs, f"{hierarchy.root}-work", address)._make("kept-w", 0, dead)
    with hierarchy._alone("kept-w", "counts a", leave, everywhere=True) as mine:
        assert mine()
    assert objects_beside(address) == []
