"""How fast pairs are counted here: tried on tiles of random rows for a second."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from geomsae.ask import Ask
from geomsae.pairs import cpu
from geomsae.pairs.blas import single_threaded_blas
from geomsae.pairs.panels import Panel, make_panel
from geomsae.pairs.plan import TILE
from geomsae.pairs.schedule import Crew, run
from geomsae.pairs.tally import Tally

SECONDS = 1.0


def pairs_per_second(d: int, ask: Ask, threads: int, crew: Crew) -> float:
    """Pairs that all of a crew count in a second, tried in one of its processes.

    Parameters
    ----------
    d : int
        Dimensions of a feature.
    ask : Ask
        What is found out about the pairs.
    threads : int
        Threads of each process.
    crew : Crew
        Who counts.
    """
    rates: list[float] = []
    run(_rate, [(d, ask, threads)], rates.append, 1)
    return rates[0] * crew.teams


def _rate(d: int, ask: Ask, threads: int) -> float:
    """Pairs that so many threads of this process count in a second."""
    rng = np.random.default_rng(0)
    rows, cols = (
        make_panel(rng.standard_normal((TILE, d), np.float32), ask.precision, first)
        for first in (TILE, 0)
    )
    with single_threaded_blas(), ThreadPoolExecutor(threads) as pool:
        _count_until(0, rows, cols, ask)  # compiled and touched for the first time
        started = time.perf_counter()
        until = [
            pool.submit(_count_until, started + SECONDS, rows, cols, ask) for _ in range(threads)
        ]
        tiles = sum(count.result() for count in until)
        return tiles * TILE**2 / (time.perf_counter() - started)


def _count_until(end: float, rows: Panel, cols: Panel, ask: Ask) -> int:
    """Count the same tile again and again; returns how often."""
    tally = Tally.empty(ask, range(TILE, 2 * TILE), range(TILE))
    tiles = 0
    while not tiles or time.perf_counter() < end:
        cpu.add_rectangle(tally, rows, cols, ask)
        tiles += 1
    return tiles
