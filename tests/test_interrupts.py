"""A user's interruption: it leaves soon, with a sentence, and cuts nothing in two."""

import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from test_resume import N, told

import geomsae
from geomsae.pairs.schedule import run
from geomsae.pairs.stopping import check_stop, heeding, unbroken
from geomsae.pairs.tally import Tally

pytestmark = pytest.mark.long

INTERRUPTED = "Error: interrupted"


@pytest.fixture(autouse=True)
def usual():
    """Interruptions as they usually are: whoever started the tests may have had them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interruption_waits_for_the_end_of_what_is_not_to_be_cut():
    reached = []

    def interrupted():
        with unbroken():
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached == ["the end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_tasks_that_nobody_waits_for_end_and_those_of_another_run_do_not():
    begun, ended, other = threading.Barrier(3), [], threading.Event()

    def task(_):
        begun.wait()
        try:
            while True:
                check_stop()
                time.sleep(0.001)
        except KeyboardInterrupt:
            ended.append(1)
            raise

    def interrupt():
        begun.wait()
        time.sleep(1)  # until this thread waits: what interrupts a callback of Python's own is lost
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(task, [(0,), (1,)], lambda _: None, 2)
    end = time.monotonic() + 30
    while len(ended) < 2:
        assert time.monotonic() < end
        time.sleep(0.001)
    check_stop()
    heeding(other, check_stop)
    run(lambda _: check_stop(), [(0,)], lambda _: None, 2)


def test_no_result_is_added_by_half(tmp_path, monkeypatch):
    """Interrupted in the middle of adding, the count goes on without loss or repetition."""
    stores = [geomsae.open_store(tmp_path / name, create=True) for name in "ab"]
    for store in stores:
        list(geomsae.convert(f"random:{N}x16", store))
    expected = told(stores[0])
    absorb, left = Tally.absorb, 10

    def interrupted(self, part):
        nonlocal left
        left -= 1
        if left == 0:
            signal.raise_signal(signal.SIGINT)
        return absorb(self, part)

    monkeypatch.setattr(Tally, "absorb", interrupted)
    with pytest.raises(KeyboardInterrupt):
        told(stores[1])
    assert stores[1].refresh().histograms().sizes["dictionary"] == 0
    assert told(stores[1]).equals(expected)
    assert left < -10


STARTED = """
import sys
class Tell:
    def find_spec(self, name, *_):
        if name == "click":
            print("up", flush=True)
sys.meta_path.insert(0, Tell())
from geomsae.cli import main
main()
"""


def started(*words):
    """A command line that has begun to import."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize("seed", range(4))
def test_interrupted_while_it_starts_it_leaves_with_a_sentence(tmp_path, seed):
    process = started("convert", "random:60000x512", "--store", tmp_path / "store")
    time.sleep(random.Random(seed).uniform(0.0, 1.0))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.strip().splitlines()[-1].startswith(INTERRUPTED)
    assert "Traceback" not in said


def test_interrupted_twice_it_still_leaves_with_one_sentence(tmp_path):
    process = started("convert", "random:60000x512", "--store", tmp_path / "store")
    while not (tmp_path / "store-work").exists():
        time.sleep(0.01)
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.strip().splitlines() == [
        f"{INTERRUPTED}: what was finished is kept, run again to go on"
    ]


HANGS = """
import click, time
from geomsae.cli import main
class Verb(click.Command):
    def invoke(self, ctx):
        print("up", flush=True)
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass
main.add_command(Verb("hang"))
main()
"""


def test_what_swallows_the_interruption_is_left_all_the_same():
    words = [sys.executable, "-c", HANGS, "hang"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.strip().startswith(INTERRUPTED)
