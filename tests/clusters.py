"""Clusters of one's own: a scheduler and workers, each a process that can be struck."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.forks import Fork, start

WAIT = 90.0
"""Seconds within which a process must have started."""


LOOPBACK = ("--dashboard-address", "127.0.0.1:0")
"""Where dashboards listen, if at all: ``--no-dashboard`` leaves their server on every interface."""


class Cluster:
    """A Dask scheduler and its workers, while the context lasts.

    Parameters
    ----------
    folder : Path
        Where its files and logs go.
    workers : int
        With how many it begins.
    host : str
        The address that the scheduler listens on.
    within : tuple of str
        Words before every command of the scheduler, such as those that enter a namespace.
    """

    def __init__(
        self,
        folder: Path,
        workers: int = 0,
        host: str = "127.0.0.1",
        within: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "scheduler.json"
        self.file.unlink(missing_ok=True)
        self._logs = 0
        words = ["--host", host, "--port", "0", "--scheduler-file", self.file]
        self.scheduler = self._start("scheduler", *words, *LOOPBACK, within=within)
        self.workers: list[subprocess.Popen[bytes] | Fork] = []
        self._until(self.file.exists)
        for _ in range(workers):
            self.add_worker()

    def add_worker(
        self,
        *words: str,
        threads: int = 1,
        preload: str = "",
        host: str = "127.0.0.1",
        within: tuple[str, ...] = (),
    ) -> subprocess.Popen[bytes] | Fork:
        """Start a worker, which runs some Python first; it has joined before this returns."""
        if preload:
            (self.folder / f"preload_{self._logs}.py").write_text(preload)
            words = ("--preload", str(self.folder / f"preload_{self._logs}.py"), *words)
        log = self.folder / f"{self._logs}.log"
        worker = self._start(
            "worker",
            "--scheduler-file",
            self.file,
            "--nthreads",
            threads,
            "--no-nanny",
            "--host",
            host,
            "--local-directory",
            self.folder,
            *LOOPBACK,
            *words,
            within=within,
        )
        self._until(lambda: "Registered to" in log.read_text() or worker.poll() is not None)
        assert worker.poll() is None, log.read_text()
        self.workers.append(worker)
        return worker

    def mend(self, workers: int) -> None:
        """Have so many living workers again."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < workers:
            self.add_worker()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()

    def _start(
        self, kind: str, *words: object, within: tuple[str, ...] = ()
    ) -> subprocess.Popen[bytes] | Fork:
        command = ["-m", f"distributed.cli.dask_{kind}", *map(str, words)]
        with (self.folder / f"{self._logs}.log").open("wb") as log:
            self._logs += 1
            where = {"stdout": log, "stderr": log, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
            if within:
                return subprocess.Popen([*within, sys.executable, *command], **where)
            return start(command, **where)

    def _until(self, condition) -> None:
        end = time.monotonic() + WAIT
        while not condition():
            assert time.monotonic() < end, f"nothing started: see {self.folder}"
            time.sleep(0.02)
