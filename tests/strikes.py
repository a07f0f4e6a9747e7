"""The kinds of faults: each a context, entered at the moment to strike, that mends at its end."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clusters import Cluster
from tests.commands import Running, WrongError
from tests.hub_server import Hub

WORKERS = 2
"""Of the cluster that is struck."""


@dataclass
class Scene:
    """What a fault can strike."""

    running: Running
    store: Path
    chance: random.Random
    cluster: Cluster | None = None
    hub: Hub | None = None


Strike = Callable[[Scene], Any]


def signalled(number: signal.Signals) -> Strike:
    """The command gets a signal."""

    @contextlib.contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        scene.running.process.send_signal(number)
        yield

    return strike


@contextlib.contextmanager
def a_worker_is_killed(scene: Scene) -> Iterator[None]:
    scene.chance.choice(scene.cluster.workers).kill()
    yield


@contextlib.contextmanager
def all_workers_are_killed(scene: Scene) -> Iterator[None]:
    for worker in scene.cluster.workers:
        worker.kill()
        worker.wait()
    if scene.chance.random() < 0.5:  # as a nanny or a queue would
        scene.cluster.mend(WORKERS)
    yield


@contextlib.contextmanager
def the_scheduler_is_killed(scene: Scene) -> Iterator[None]:
    scene.cluster.scheduler.kill()
    yield


@contextlib.contextmanager
def a_worker_hangs(scene: Scene) -> Iterator[None]:
    worker = scene.chance.choice(scene.cluster.workers)
    worker.send_signal(signal.SIGSTOP)
    yield
    worker.kill()


@contextlib.contextmanager
def a_task_raises(scene: Scene) -> Iterator[None]:
    """From some moment on, what a worker counts ends in an error."""
    from distributed import Client

    spoil = (
        "import geomsae.pairs.stored as s\n"
        "s.right = s.count_super_tile\n"
        "def wrong(*_, **__): raise RuntimeError('a worker gone mad')\n"
        "s.count_super_tile = wrong"
    )
    mend = "import geomsae.pairs.stored as s\ns.count_super_tile = s.right"
    with Client(scheduler_file=str(scene.cluster.file), set_as_default=False) as client:
        one = [scene.chance.choice(sorted(client.nthreads()))]
        client.run(exec, spoil, workers=one)
        yield
        client.run(exec, mend, workers=one)


@contextlib.contextmanager
def the_disk_fills(scene: Scene) -> Iterator[None]:
    ballast = scene.store.parent / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 65536)
    yield
    ballast.unlink()


@contextlib.contextmanager
def the_disk_turns_read_only(scene: Scene) -> Iterator[None]:
    disk = scene.store.parent
    done = 1
    while done and scene.running.process.poll() is None:  # busy while a file is open for writing
        done = remount(disk, "ro")
    yield
    if not done:
        remount(disk, "rw")


def remount(disk: Path, how: str) -> int:
    words = ["mount", "-o", f"remount,{how}", str(disk)]
    return subprocess.run(words, capture_output=True, check=False).returncode


@contextlib.contextmanager
def the_store_vanishes(scene: Scene) -> Iterator[None]:
    gone = scene.store.with_name("gone")
    with contextlib.suppress(FileNotFoundError):
        scene.store.rename(gone)
    yield
    if gone.exists():
        if scene.store.exists():
            raise WrongError("a store was made anew where one had vanished")
        gone.rename(scene.store)


@contextlib.contextmanager
def the_hub_dies(scene: Scene) -> Iterator[None]:
    scene.hub.cut = 0
    scene.hub.__exit__()
    yield


@dataclass(frozen=True)
class Kind:
    """A kind of fault: which verb runs, what strikes it, and where."""

    verb: str
    strike: Strike
    where: str = "here"


KINDS = {
    **{
        f"{name} of {verb}": Kind(verb, signalled(number))
        for name, number in (
            ("SIGKILL", signal.SIGKILL),
            ("SIGINT", signal.SIGINT),
            ("SIGTERM", signal.SIGTERM),
        )
        for verb in ("convert", "histogram", "report")
    },
    "SIGINT of histogram on a cluster": Kind("histogram", signalled(signal.SIGINT), "cluster"),
    "SIGKILL of a worker": Kind("histogram", a_worker_is_killed, "cluster"),
    "SIGKILL of all workers": Kind("histogram", all_workers_are_killed, "cluster"),
    "SIGKILL of the scheduler": Kind("histogram", the_scheduler_is_killed, "cluster"),
    "a worker hangs": Kind("histogram", a_worker_hangs, "cluster"),
    "a task raises": Kind("histogram", a_task_raises, "cluster"),
    "the disk fills during convert": Kind("convert", the_disk_fills, "disk"),
    "the disk fills during histogram": Kind("histogram", the_disk_fills, "disk"),
    "the store turns read-only": Kind("histogram", the_disk_turns_read_only, "disk"),
    "the store's folder vanishes": Kind("histogram", the_store_vanishes),
    "the Hub dies": Kind("convert", the_hub_dies, "hub"),
}


def mount(folder: Path) -> None:
    """A small disk of its own at a folder."""
    words = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        raise WrongError("no disk can be mounted here")


def can_mount(folder: Path) -> bool:
    """Whether this process may mount a disk."""
    try:
        mount(folder)
    except WrongError:
        return False
    subprocess.run(["umount", str(folder)], check=False)
    return True
