"""Faults at random moments: ``python -m tests.faults 1000`` strikes so often and prints a tally.

Each fault takes a store that is half way, runs a verb, strikes at a moment that is drawn anew,
looks whether anything half made can be seen, mends what it broke, runs the verb once more, and
holds all that the store says against a store that was never disturbed, bit for bit.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import geomsae
from geomsae.sources import Wanted
from tests.clusters import Cluster
from tests.commands import Running, WrongError, check_nothing_half_made, check_sentence, run, told
from tests.hub_server import Hub, npz
from tests.strikes import KINDS, WORKERS, Kind, Scene, can_mount, mount

REPO = "google/gemma-scope-2b-pt-res"
SECONDS_TO_LEAVE = 2.0


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
