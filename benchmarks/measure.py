"""What measurements share: a meter of time and private memory, and the printing of a table.

Private memory is read from ``/proc``, so that this runs on Linux alone.
"""

from __future__ import annotations

import platform
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from dask.system import CPU_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SAMPLE_SECONDS = 0.01


class Meter:
    """Times what runs inside it or, if asked, watches its private memory instead.

    Watching costs time, which is why one run is not asked for both.

    Parameters
    ----------
    watch : bool
        Whether to sample memory.

    Attributes
    ----------
    seconds : float
        Wall time of the block.
    added : int
        The most bytes of private memory seen, less those held just before the block.
    """

    def __init__(self, watch: bool) -> None:
        self.watch = watch
        self.seconds = 0.0
        self.added = 0
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Meter:
        if self.watch:
            self._before = private_bytes()
            self._sampler.start()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start
        if self.watch:
            self._done.set()
            self._sampler.join()

    def _sample(self) -> None:
        finished = False
        while not finished:
            finished = self._done.wait(_SAMPLE_SECONDS)
            self.added = max(self.added, private_bytes() - self._before)


def private_bytes() -> int:
    """Bytes of memory that only this process holds."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


def available_bytes() -> int:
    """Bytes of memory that can be had without swapping."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))


def versions(*packages: str) -> str:
    """Name the number of cores and the versions at work, in one line."""
    named = [f"{CPU_COUNT} cores", f"Python {platform.python_version()}"]
    for package in packages:
        try:
            named.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            named.append(f"no {package}")
    return ", ".join(named)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table whose first column is text and whose others are numbers."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for line in [lines[0], rule, *lines[1:]]:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print(f"| {' | '.join(cells)} |")
