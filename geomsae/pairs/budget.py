"""The memory that a run promises to keep to, and how it is spent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import psutil

from geomsae.ask import Ask
from geomsae.errors import GeomsaeError
from geomsae.pairs.cache import LOADS_AT_ONCE
from geomsae.pairs.plan import TILE, SuperTile, plan_rectangle, plan_triangle
from geomsae.pairs.schedule import Crew

PROCESS_BYTES = 350_000_000
"""What Python, its packages and the compiled loops hold."""

_AHEAD = 2
"""Runs that a thread keeps beside its rows: the columns that pass by, and those read ahead."""


@dataclass(frozen=True, slots=True)
class Job:
    """A dictionary to be counted, as far as its cost depends on it.

    Parameters
    ----------
    n, d : int
        Features, and dimensions of each.
    run : int
        Rows that are read at a time.
    """

    n: int
    d: int
    run: int

    @property
    def runs(self) -> int:
        """Runs that cover all rows."""
        return -(-self.n // self.run)

    def run_bytes(self, precision: str) -> int:
        """Bytes of the panels of one run."""
        return min(self.n, self.run) * self.d * np.dtype(precision).itemsize

    def runs_of(self, tiles: range) -> int:
        """How many runs some neighbouring tiles lie in."""
        a_run = self.run // TILE
        return (tiles.stop - 1) // a_run - tiles.start // a_run + 1


@dataclass(frozen=True, slots=True)
class Budget:
    """How one dictionary is counted within a memory.

    Parameters
    ----------
    threads : int
        Threads of each process that count.
    held : int
        Panels of rows that each of them holds, at most.
    panel_bytes : int
        Bytes of panels that a process keeps, those in use among them.
    total : int
        Bytes that all processes of a machine hold together, at most.
    all_fit : bool
        Whether a process keeps all panels, so that each is read once.
    side : int, optional
        Tiles along a side of the largest super-tile; as is usual by default.
    device : {"cpu", "gpu"}
        What multiplies: panels and `held` are of its memory.
    device_bytes : int
        Bytes that each process takes from its GPU, at most, beside what CUDA holds there.
    """

    threads: int
    held: int
    panel_bytes: int
    total: int
    all_fit: bool
    side: int | None = None
    device: str = "cpu"
    device_bytes: int = 0


def usual_memory() -> int:
    """Half of what this machine, or the container that it is, has free: bytes."""
    from distributed.system import MEMORY_LIMIT

    return int(min(psutil.virtual_memory().available, MEMORY_LIMIT)) // 2


def plan_budget(job: Job, ask: Ask, memory: int, crew: Crew, other: Job | None = None) -> Budget:
    """Spend a memory on counting one dictionary, or the pairs of two.

    First comes what has to be there, then threads, then rows for each of them, and what is left
    keeps panels that would otherwise be read again.

    Parameters
    ----------
    job : Job
        What is to be counted.
    ask : Ask
        What is to be found out.
    memory : int
        Bytes for all processes of a machine.
    crew : Crew
        Who counts.
    other : Job, optional
        Another dictionary, if pairs are of one feature of each.

    Returns
    -------
    Budget

    Raises
    ------
    GeomsaeError
        If it cannot be done in so little; the sentence says in how much.
    """
    jobs = [job] if other is None else [job, other]
    side = max(len(part.rows) for part in plan_of(job, other))
    run = max(each.run_bytes(ask.dtype) for each in jobs)
    all_runs = sum(each.runs for each in jobs)
    itemsize = np.dtype(ask.dtype).itemsize
    product = min(job.n, TILE) * min(jobs[-1].n, TILE) * itemsize
    in_tally = sum(min(side * TILE, each.n) for each in (job, jobs[-1]))
    tallies = in_tally * feature_bytes(ask) + pair_bytes(ask)
    loading = LOADS_AT_ONCE * 2 * max(min(each.n, each.run) for each in jobs) * job.d * 4
    gathered = gathered_bytes(jobs, ask)
    fewest = 1 if crew.here else crew.threads
    asked_for = 0
    for threads in range(crew.threads, fewest - 1, -1):
        fixed = PROCESS_BYTES + loading + threads * (product + 2 * tallies)
        for held in range(side, 0, -1):
            runs = min(all_runs, threads * (runs_held(held, job) + _AHEAD))
            least = crew.processes * (fixed + runs * run)
            asked_for = least + gathered + (0 if crew.here else PROCESS_BYTES)
            if asked_for <= memory:
                more = (memory - asked_for) // crew.processes // run
                kept = min(all_runs, runs + more)
                total = asked_for + crew.processes * (kept - runs) * run
                return Budget(threads, held, kept * (run + _SMALL), total, kept == all_runs)
    raise GeomsaeError(
        f"counting {job.n:,} x {job.d:,} takes at least {math.ceil(asked_for / 1e6):,} MB of "
        f"memory and {memory / 1e6:,.0f} MB are allowed: give it more with --memory"
    )


def plan_of(job: Job, other: Job | None = None, side: int | None = None) -> list[SuperTile]:
    """The super-tiles of one dictionary, or of the pairs of two."""
    return plan_triangle(job.n, side) if other is None else plan_rectangle(job.n, other.n, side)


_SMALL = 1 << 20
"""What a run of panels holds beside its rows, at most."""


def runs_held(held: int, job: Job) -> int:
    """Runs that so many neighbouring tiles lie in, at most."""
    a_run = job.run // TILE
    return held if a_run == 1 else -(-held // a_run) + 1


def feature_bytes(ask: Ask) -> int:
    """Bytes of what a tally says about one feature."""
    partner = 8 + np.dtype(ask.dtype).itemsize
    return 4 * len(ask.thresholds) + partner * (ask.neighbours + min(ask.neighbours, 1))


def pair_bytes(ask: Ask) -> int:
    """Bytes of the extreme pairs, and of the counts by bin."""
    return 2 * ask.pairs * (16 + np.dtype(ask.dtype).itemsize) + 8 * ask.bins


def gathered_bytes(jobs: list[Job], ask: Ask) -> int:
    """Bytes of what is known of all features, where results are gathered.

    Taken in, kept for a resumption, and labelled: three copies of it.
    """
    features = sum(each.n for each in jobs)
    return 3 * features * feature_bytes(ask) + 3 * pair_bytes(ask) + 8 * features


def bytes_read(job: Job, budget: Budget, processes: int = 1) -> int:
    """Bytes of rows that are read to count a dictionary, at most.

    Once for each process where all panels can be kept. Else for each super-tile its rows once and
    its columns for every block of rows that they pass by.
    """
    row_bytes = job.d * 4
    if budget.all_fit:
        return processes * job.n * row_bytes
    runs = sum(_runs_read(part, job, budget.held) for part in plan_of(job, None, budget.side))
    return runs * job.run * row_bytes


def _runs_read(part: SuperTile, job: Job, held: int) -> int:
    read = 0
    for block, cols in part.walk(held):
        others = range(cols.start, min(cols.stop, block.start)) if part.triangle else cols
        read += job.runs_of(block) + (job.runs_of(others) if len(others) else 0)
    return read
