"""Faults at random moments: ``python -m tests.faults 1000`` strikes so often and prints a tally.

Each fault takes a store that is half way, runs a verb, strikes at a moment that is drawn anew,
looks whether anything half made can be seen, mends what it broke, runs the verb once more, and
holds all that the store says against a store that was never disturbed, bit for bit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import geomsae
from geomsae.sources import Wanted
from tests.clusters import Cluster
from tests.hub_server import Hub, npz

SOURCES = ["random:9000x512", "random:2500x64"]
REPO = "google/gemma-scope-2b-pt-res"
WORKERS = 2
SECONDS_TO_LEAVE = 2.0
LONGEST = 150.0
"""Seconds after which a command that was struck is taken to hang."""

IMPATIENT = {
    "cluster": """
import geomsae.pairs.cluster as cluster
cluster.PATIENCE, cluster.SECONDS_WITHOUT_WORKERS = 3.0, 4.0
from geomsae.cli import main
main()
""",
    "hub": """
from geomsae.sources import hub
hub.FIRST_WAIT, hub.TRIES = 0.01, 4
from geomsae.cli import main
main()
""",
}
"""The command line with less patience, so that a fault takes seconds."""


class WrongError(Exception):
    """What a fault must not lead to."""


@dataclass
class Outcome:
    """What became of one fault."""

    kind: str
    seed: int
    when: str = "struck"
    wrong: str = ""
    seconds: float | None = None
    """That an interrupted command took to leave."""


@dataclass
class Reference:
    """Stores that were never disturbed, and how long each verb works on them.

    Parameters
    ----------
    folder : Path
        Where they are.
    """

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    said: dict[str, list[xr.Dataset]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._layers()  # which compiles the kernels, so that the moments that follow are right
        for stage in ("empty", "converted"):
            verb = {"empty": "convert", "converted": "histogram"}[stage]
            with contextlib.suppress(FileNotFoundError):
                shutil.copytree(self.store, self.folder / stage)
            process, began = run(verb, self.store)
            self.seconds[verb] = process.wait_seconds(began)
            self.said[verb] = told(self.store)
        self.store.rename(self.folder / "counted")
        process, began = run("report", self.folder / "layers")
        self.seconds["report"] = process.wait_seconds(began)
        self.said["report"] = told(self.folder / "layers")
        shutil.rmtree(self.folder / "layers-report")

    @property
    def store(self) -> Path:
        """Where the store is while it is made."""
        return self.folder / "store"

    def _layers(self) -> None:
        """A store of three layers of one model, for a report with pictures."""
        store = geomsae.open_store(self.folder / "layers", create=True)
        for layer in range(3):
            rows = np.random.default_rng(layer).standard_normal((300, 32)).astype(np.float32)
            np.save(self.folder / "rows.npy", rows)
            wanted = Wanted(model="m", variant="pt", site="res", layer=str(layer))
            list(geomsae.convert(str(self.folder / "rows.npy"), store, wanted))
        list(geomsae.compute_histograms(store))

    def begin(self, verb: str, place: Path) -> None:
        """Put the store there that a verb begins with."""
        stage = {"histogram": "converted", "report": "layers"}.get(verb)
        if stage:
            shutil.copytree(self.folder / stage, place)


class Running:
    """A command line that was started; ``text`` is what it said, once it has ended."""

    def __init__(
        self,
        verb: str,
        store: Path,
        words: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        where: str = "here",
    ) -> None:
        self.mark = Path(f"{store}-report" if verb == "report" else f"{store}-work")
        self.text = ""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, not on the store's disk: it may be full
        sources = () if verb != "convert" else words or tuple(SOURCES)
        others = words if verb != "convert" else ()
        geomsae = ["-c", IMPATIENT[where]] if where in IMPATIENT else ["-m", "geomsae"]
        command = [sys.executable, *geomsae, verb, *sources, "--store", str(store), *others]
        self.process = subprocess.Popen(
            command, stdout=self._log, stderr=self._log, env={**os.environ, **(env or {})}
        )

    def until_begun(self) -> bool:
        """Wait until there is something to strike; False if it ended before."""
        while not self.mark.exists():
            if self.process.poll() is not None:
                return False
            time.sleep(0.005)
        return True

    def wait(self) -> int:
        """Its status, once it has ended."""
        try:
            self.process.wait(LONGEST)
            hung = ""
        except subprocess.TimeoutExpired:
            self.process.kill()
            hung = "the command hung: "
        with self._log:
            status = self.process.wait()
            self._log.seek(0)
            self.text = self._log.read().decode(errors="replace").strip()
        if hung:
            raise WrongError(hung + self.text)
        return status

    def wait_seconds(self, began: bool) -> float:
        """Wait for its success; how long it took from here."""
        since = time.monotonic()
        if self.wait() or not began:
            raise WrongError(f"undisturbed, the command failed: {self.text}")
        return time.monotonic() - since


def run(verb: str, store: Path) -> tuple[Running, bool]:
    """Start a command and wait until it is at work."""
    running = Running(verb, store)
    return running, running.until_begun()


def told(location: Path) -> list[xr.Dataset]:
    """All that a store says: decoders, counts, and what is known of features and pairs."""
    store = geomsae.open_store(location)
    found = [store.histograms().load()] if store.histograms().sizes["dictionary"] else []
    for id in sorted(store.decoders):
        found.append(store.decoder(id).to_dataset(name="w").load())
        with contextlib.suppress(geomsae.GeomsaeError):
            found += [store.features(id).load(), store.pairs(id).load()]
    return found


def check_nothing_half_made(location: Path) -> None:
    """Whatever is shown is whole: plain xarray opens it, counts add up, decoders are as drawn."""
    if not (location / "zarr.json").exists():
        return
    xr.open_datatree(location, engine="zarr", consolidated=False).load()
    store = geomsae.open_store(location)
    for id in store.decoders:
        if not np.isfinite(store.decoder(id).values).all():
            raise WrongError(f"{id} is half made")
    hist = store.histograms()
    if not (hist["count"].sum("cosine") == hist["n_pairs"]).all():
        raise WrongError("counts do not add up")


def check_sentence(running: Running, status: int) -> None:
    """A failure is a sentence: no traceback, and the last line names it."""
    if "Traceback" in running.text or status not in (0, 1):
        raise WrongError(f"status {status}: {running.text}")
    if status == 1 and not running.text.rpartition("\n")[2].startswith("Error: "):
        raise WrongError(f"no sentence: {running.text}")


# --- the faults: each a context that is entered at the moment to strike, and mends at its end ---


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


class Bench:
    """Strikes faults, one after another; a cluster stays up from one to the next."""

    def __init__(self, reference: Reference, folder: Path) -> None:
        self.reference = reference
        self.folder = folder
        self._cluster: Cluster | None = None

    def close(self) -> None:
        """End the cluster."""
        if self._cluster is not None:
            self._cluster.__exit__()
            self._cluster = None

    def strike(self, kind: str, seed: int) -> Outcome:
        """One fault."""
        outcome = Outcome(kind, seed)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        with contextlib.ExitStack() as opened:
            opened.callback(shutil.rmtree, folder, ignore_errors=True)
            if KINDS[kind].where == "disk":
                mount(folder)
                opened.callback(subprocess.run, ["umount", "-l", str(folder)], check=False)
            try:
                self._strike(KINDS[kind], folder / "store", outcome)
            except WrongError as error:
                outcome.wrong = str(error)
            except Exception:
                outcome.wrong = traceback.format_exc()
        return outcome

    def _strike(self, kind: Kind, store: Path, outcome: Outcome) -> None:
        chance = random.Random(f"{outcome.kind} {outcome.seed}")
        self.reference.begin(kind.verb, store)
        hub = Hub(files()).__enter__() if kind.where == "hub" else None
        running = Running(kind.verb, store, *self._words(kind, hub), kind.where)
        scene = Scene(running, store, chance, self._cluster, hub)
        if chance.random() < 0.1:
            time.sleep(chance.uniform(0.3, 2.0))
            began = running.mark.exists()
        else:
            began = running.until_begun()
            time.sleep(self.reference.seconds[kind.verb] * chance.uniform(0.0, 1.0))
        if running.process.poll() is not None:
            outcome.when = "after it ended"
            self.reference.seconds[kind.verb] *= 0.8  # the machine is less busy than it was
        elif not began:
            outcome.when = "before it began"
        else:
            self.reference.seconds[kind.verb] *= 1.06
        with kind.strike(scene):
            since = time.monotonic()
            status = running.wait()
            if "SIGINT" in outcome.kind or "SIGTERM" in outcome.kind:
                outcome.seconds = time.monotonic() - since
            if "SIGKILL of" not in outcome.kind or kind.where == "cluster":
                check_sentence(running, status)
            if store.exists():
                check_nothing_half_made(store)
        if status:
            self._again(kind, store, hub)
        elif hub is not None:
            hub.__exit__()
        if (outcome.seconds or 0.0) > SECONDS_TO_LEAVE:
            raise WrongError(f"it took {outcome.seconds:.2f} s to leave")
        self._compare(kind, store)

    def _words(self, kind: Kind, hub: Hub | None) -> Any:
        """What the command line says more, and its environment."""
        if hub is not None:
            return (REPO, "--l0", "all"), hub_environment(hub, self.folder)
        if kind.where == "cluster":
            return ("--scheduler", str(self._living_cluster().file)), {}
        return (), {}

    def _living_cluster(self) -> Cluster:
        if self._cluster is not None and self._cluster.scheduler.poll() is not None:
            self.close()
        if self._cluster is None:
            self._cluster = Cluster(Path(tempfile.mkdtemp(dir=self.folder)))
        self._cluster.mend(WORKERS)
        return self._cluster

    def _again(self, kind: Kind, store: Path, hub: Hub | None) -> None:
        """Run the verb once more, undisturbed."""
        with Hub(files()) if hub else contextlib.nullcontext() as other:
            running = Running(kind.verb, store, *self._words(kind, other), kind.where)
            if running.wait():
                raise WrongError(f"run again, it failed: {running.text}")

    def _compare(self, kind: Kind, store: Path) -> None:
        if kind.where == "hub":
            held = geomsae.open_store(store)
            for layer, rows in decoders().items():
                id = f"gemma-2-2b/pt/res/layer_{layer}/width_16k/l0_82"
                if held.decoder(id).values.tobytes() != rows.tobytes():
                    raise WrongError(f"{id} is not what the Hub had")
            return
        expected, found = self.reference.said[kind.verb], told(store)
        if len(found) != len(expected) or not all(map(xr.Dataset.equals, found, expected)):
            raise WrongError("the store says something else than one that was never disturbed")
        if kind.verb == "report" and not list(Path(f"{store}-report").glob("*.png")):
            raise WrongError("the report has no pictures")
        if Path(f"{store}-work").exists():
            raise WrongError("work was left behind")


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


def decoders() -> dict[int, np.ndarray]:
    """What a repository of the Hub has, by layer."""
    return {
        layer: np.random.default_rng(layer).standard_normal((2000, 256)).astype(np.float32)
        for layer in range(4)
    }


def files() -> dict[str, dict[str, bytes]]:
    """A repository of the Hub."""
    path = "layer_{}/width_16k/average_l0_82/params.npz"
    return {REPO: {path.format(layer): npz(rows) for layer, rows in decoders().items()}}


def hub_environment(hub: Hub, folder: Path) -> dict[str, str]:
    """Where the command finds the Hub."""
    hub.patience = 0.05
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "*",
    }


def tally(outcomes: list[Outcome]) -> str:
    """How often each kind was struck, when, and with what end."""
    columns = ("struck", "before it began", "after it ended", "right", "wrong")
    lines = [f"| {'kind':34} | {' | '.join(columns)} | slowest to leave |"]
    lines.append("| --- | " + " | ".join("---:" for _ in (*columns, "")) + " |")
    for kind in (*KINDS, "all"):
        mine = [o for o in outcomes if kind in (o.kind, "all")]
        counts = Counter(o.when for o in mine)
        counts.update("wrong" if o.wrong else "right" for o in mine)
        slowest = max((o.seconds for o in mine if o.seconds is not None), default=None)
        numbers = " | ".join(f"{counts[c]:{len(c)}}" for c in columns)
        if mine:
            lines.append(
                f"| {kind:34} | {numbers} | {slowest:.2f} s |"
                if slowest is not None
                else f"| {kind:34} | {numbers} | |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--kind", action="append", choices=list(KINDS))
    words = parser.parse_args()
    kinds = words.kind or list(KINDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not can_mount(folder):
            kinds = [kind for kind in kinds if KINDS[kind].where != "disk"]
            print("no disk can be mounted here: those faults are left out", flush=True)
        reference = Reference(folder)
        print("seconds of work undisturbed:", reference.seconds, flush=True)
        benches = threading.local()
        opened: list[Bench] = []

        def one(number: int) -> Outcome:
            if not hasattr(benches, "mine"):
                benches.mine = Bench(reference, Path(tempfile.mkdtemp(dir=folder)))
                opened.append(benches.mine)
            outcome = benches.mine.strike(kinds[number % len(kinds)], words.seed + number)
            end = f"WRONG: {outcome.wrong}" if outcome.wrong else "right"
            print(f"{number}: {outcome.kind}, {outcome.when}: {end}", flush=True)
            return outcome

        try:
            with ThreadPoolExecutor(words.at_once) as pool:
                outcomes = list(pool.map(one, range(words.faults)))
        finally:
            for bench in opened:
                bench.close()
    print(tally(outcomes))
    sys.exit(any(outcome.wrong for outcome in outcomes))


if __name__ == "__main__":
    main()
