"""How fast pairs are counted here: tried on tiles of random rows for a second."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from geomsae.ask import Ask
from geomsae.pairs.budget import Budget
from geomsae.pairs.kernel import Kernel, TileRows, kernel
from geomsae.pairs.plan import TILE
from geomsae.pairs.schedule import Crew, run
from geomsae.pairs.tally import Tally

SECONDS = 1.0


def pairs_per_second(d: int, ask: Ask, budget: Budget, crew: Crew) -> float:
    """Pairs that all of a crew count in a second, tried in one of its processes.

    Parameters
    ----------
    d : int
        Dimensions of a feature.
    ask : Ask
        What is found out about the pairs.
    budget : Budget
        How they are counted: on which device, and threads of each process.
    crew : Crew
        Who counts.
    """
    rates: list[float] = []
    words = (d, ask, budget.threads, budget.device)
    run(_rate, [words], rates.append, 1, budget.device)
    return rates[0] * crew.teams


def _rate(d: int, ask: Ask, threads: int, device: str) -> float:
    """Pairs that so many threads of this process count in a second."""
    rng = np.random.default_rng(0)
    mine = kernel(device)
    mine.keep_within(0)  # without a limit: a tile may be more than the whole dictionary
    rows, cols = (
        mine.make_panel(rng.standard_normal((TILE, d), np.float32), ask.precision, first)
        for first in (TILE, 0)
    )
    with ThreadPoolExecutor(threads) as pool:
        _count_until(0, rows, cols, ask, mine)  # compiled and touched for the first time
        started = time.perf_counter()
        end = started + SECONDS
        counts = [pool.submit(_count_until, end, rows, cols, ask, mine) for _ in range(threads)]
        tiles = sum(count.result() for count in counts)
        return tiles * TILE**2 / (time.perf_counter() - started)


def _count_until(end: float, rows: TileRows, cols: TileRows, ask: Ask, mine: Kernel) -> int:
    """Count the same tile again and again; returns how often."""
    tally = Tally.empty(ask, range(TILE, 2 * TILE), range(TILE))
    tiles = 0
    with mine.counting(tally, ask) as counter:
        while not tiles or time.perf_counter() < end:
            counter.add_rectangle(rows, cols)
            tiles += 1
    return tiles
