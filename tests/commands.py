"""Command lines that are disturbed, and what must hold of them whatever disturbs them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

import geomsae
from tests.forks import start

SOURCES = ["random:9000x512", "random:2500x64"]
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
        command = [*geomsae, verb, *sources, "--store", store, *others]
        self.process = start(
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
