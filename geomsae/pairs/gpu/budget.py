"""The memory of a card, and how it is spent on one dictionary."""

from __future__ import annotations

import math

import numpy as np

from geomsae.ask import Ask
from geomsae.errors import DeviceMemoryError
from geomsae.pairs.budget import Budget, Job, feature_bytes, gathered_bytes, pair_bytes, runs_held
from geomsae.pairs.gpu.card import check_card, free_memory
from geomsae.pairs.gpu.counter import AHEAD, UNDER_WAY
from geomsae.pairs.gpu.extremes import room_for
from geomsae.pairs.gpu.panels import ALIGNED
from geomsae.pairs.plan import TILE, tiles_along
from geomsae.pairs.schedule import run as run_tasks
from geomsae.pairs.stored import CARD_LOADS

CONTEXT_BYTES = 700_000_000
"""What a context, its compiled kernels and the workspace of cuBLAS hold on a card."""

PROCESS_BYTES = 1_200_000_000
"""What a process that drives a card holds on the host: Python, CUDA, and cuBLAS."""

USUAL_SHARE = 0.9
"""Of the free memory of a card, unless told otherwise."""

_TASK_OPERATIONS = 5e13
"""Floating-point operations of the largest task: a second of a large card in float32."""

_SLACK = 64_000_000
"""What rounding, small arrays and pieces of memory that nothing fits into come to."""

_FEWEST_HELD = 8
"""Tiles of rows that should be on a card before a task is made larger."""


def plan_card(
    job: Job,
    ask: Ask,
    device_memory: int,
    processes: int = 1,
    other: Job | None = None,
    side: int | None = None,
) -> Budget:
    """Spend the memory of a card on counting one dictionary, or the pairs of two.

    Parameters
    ----------
    job : Job
        What is to be counted.
    ask : Ask
        What is to be found out.
    device_memory : int
        Bytes of a card that may be held.
    processes : int
        Processes of a machine, each with a card.
    other : Job, optional
        Another dictionary, if pairs are of one feature of each.
    side : int, optional
        Tiles along a side of a super-tile, if that is settled; else tasks are large.

    Returns
    -------
    Budget

    Raises
    ------
    DeviceMemoryError
        If it cannot be done in so little; the sentence says in how much.
    """
    jobs = [job] if other is None else [job, other]
    tiles = max(tiles_along(each.n) for each in jobs)
    run = max(panel_bytes(each, ask) for each in jobs)
    all_runs = sum(each.runs for each in jobs)
    largest = min(tiles, max(1, round(math.sqrt(_TASK_OPERATIONS / 2 / job.d) / TILE)))
    least = math.inf
    for length in _lengths(largest) if side is None else [side]:
        fixed = _fixed_bytes(jobs, ask, length)
        for held in range(min(length, tiles), 0, -1):
            runs = min(all_runs, runs_held(held, job) + 1 + AHEAD)
            asked_for = fixed + runs * run
            least = min(least, asked_for)
            if asked_for <= device_memory and (held >= min(length, _FEWEST_HELD) or length == 1):
                kept = min(all_runs, runs + int(device_memory - asked_for) // run)
                return Budget(
                    threads=1,
                    held=held,
                    panel_bytes=kept * run,
                    total=processes * _host_bytes(jobs, ask, length),
                    all_fit=kept == all_runs,
                    side=length,
                    device="gpu",
                    device_bytes=fixed + kept * run - CONTEXT_BYTES,
                )
    raise DeviceMemoryError(
        f"counting {job.n:,} x {job.d:,} in {ask.precision} takes at least "
        f"{math.ceil(least / 1e6):,} MB of a GPU's memory and {device_memory / 1e6:,.0f} MB "
        "are allowed: give it more with --device-memory, or use --device cpu"
    )


def panel_bytes(job: Job, ask: Ask) -> int:
    """Bytes of the panels of one run on a card; the halves of a float16 pair are as one float32."""
    rows, wide = min(job.n, job.run), -(-job.d // ALIGNED) * ALIGNED
    return rows * (wide * np.dtype(ask.dtype).itemsize + 16)


def _lengths(largest: int) -> list[int]:
    """Sides of super-tiles to try, from the largest down to one tile."""
    return [largest >> k for k in range(largest.bit_length())]


def _fixed_bytes(jobs: list[Job], ask: Ask, length: int) -> int:
    """Bytes of a card that are held whatever is kept of the rows."""
    itemsize = np.dtype(ask.dtype).itemsize
    n, m = min(jobs[0].n, TILE), min(jobs[-1].n, TILE)
    products = UNDER_WAY * n * m * itemsize
    sides = sum(min(length * TILE, each.n) for each in (jobs[0], jobs[-1]))
    candidates = 2 * room_for(ask) * (16 + itemsize) if ask.pairs else 0
    # A tile on its way lies there as published, as unit rows, and twice while these are split.
    on_its_way = 20 * max(n, m) * jobs[0].d
    tally = sides * feature_bytes(ask) + 8 * ask.bins + candidates
    # Panels come and go in pieces of different lengths, which leaves holes.
    holes = _SLACK + 2 * max(panel_bytes(each, ask) for each in jobs)
    return CONTEXT_BYTES + products + tally + on_its_way + holes


def _host_bytes(jobs: list[Job], ask: Ask, length: int) -> int:
    """Bytes that a process holds on the host, at most."""
    rows = max(min(each.n, each.run) for each in jobs)
    loading = CARD_LOADS * 3 * rows * jobs[0].d * 4
    sides = sum(min(length * TILE, each.n) for each in (jobs[0], jobs[-1]))
    tallies = 2 * (sides * feature_bytes(ask) + pair_bytes(ask))
    return PROCESS_BYTES + loading + tallies + gathered_bytes(jobs, ask)


def usual_device_memory(precision: str) -> int:
    """Most of what is free on the card of whoever counts: this process, or a worker of its cluster.

    Raises
    ------
    DeviceError
        If there is none, or it cannot do the arithmetic.
    """
    answers: list[int] = []
    run_tasks(_free_here, [(precision,)], answers.append, 1, "gpu")
    return int(USUAL_SHARE * answers[0])


def _free_here(precision: str) -> int:
    check_card(precision)
    return free_memory()
