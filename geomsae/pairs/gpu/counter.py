"""From tile to tile on a card: while one is binned, the next is multiplied."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.ask import Ask
from geomsae.pairs.gpu import launch
from geomsae.pairs.gpu.card import own_memory
from geomsae.pairs.gpu.extremes import DeviceExtremes
from geomsae.pairs.gpu.kept import DeviceSide, starts_of
from geomsae.pairs.gpu.panels import DevicePanel
from geomsae.pairs.gpu.product import multiply
from geomsae.pairs.plan import TILE
from geomsae.pairs.tally import Tally

UNDER_WAY = 4
"""Tiles that the card is given ahead: each has a buffer for its cosines."""

AHEAD = 3
"""Panels of columns that are made ready while others are counted with."""

_TOTALS = 1024

_one_at_a_time = threading.Lock()
"""Each counter is given all the memory that there is."""


@contextmanager
def counting(tally: Tally, ask: Ask) -> Iterator[DeviceCounter]:
    """Count into a tally on the card; at the end of the block everything is on the host.

    Raises
    ------
    DeviceMemoryError
        If the memory that the card may be asked for is not enough.
    """
    with _one_at_a_time, own_memory():
        try:
            counter = DeviceCounter(tally, ask)
            yield counter
            counter.finish()
        finally:
            for stream in _streams():  # or what the card still reads could be let go of
                stream.synchronize()


@dataclass(slots=True)
class _Tile:
    """A tile that the card is at, or will come to; it keeps alive what the card reads."""

    rows: DevicePanel
    cols: DevicePanel
    limit: int
    buffer: Any
    done: Any
    used: NDArray[np.uint64]

    @property
    def out(self) -> Any:
        """Its cosines, shape (rows, columns)."""
        shape = self.rows.rows, self.cols.rows
        return self.buffer[: shape[0] * shape[1]].reshape(shape)


class DeviceCounter:
    """Takes tiles of pairs into a tally that lies on the card meanwhile.

    Parameters
    ----------
    tally : Tally
        Where everything is in the end.
    ask : Ask
        What the tally was made for.
    """

    def __init__(self, tally: Tally, ask: Ask) -> None:
        import cupy

        self._tally = tally
        self._ask = ask
        self._multiplying, self._keeping = _streams()
        self._under_way: deque[_Tile] = deque()
        self._free: list[tuple[Any, Any, NDArray[np.uint64]]] = []
        self._made = 0
        self._sums: list[float] = []
        self._totals: list[Any] = []
        with self._keeping:
            self._count = cupy.zeros(ask.bins, np.uint64)
            self._starts = starts_of(ask)
            self._rows, self._cols = DeviceSide.of(tally.rows), DeviceSide.of(tally.cols)
            self._extremes = DeviceExtremes(tally.extremes, ask) if ask.pairs else None

    @property
    def sums(self) -> list[float]:
        """What the cosines of each tile add up to, in the order of the tiles; after `finish`."""
        return self._sums

    def add_rectangle(self, rows: DevicePanel, cols: DevicePanel) -> None:
        """Take in every pair of a row and a column."""
        self._add(rows, cols, cols.rows)

    def add_triangle(self, rows: DevicePanel) -> None:
        """Take in every unordered pair among some rows."""
        self._add(rows, rows, 0)

    def finish(self) -> None:
        """Wait for the card, and bring everything to the host."""
        self._keeping.synchronize()
        with self._keeping:
            self._settle(len(self._under_way))
            if self._extremes is not None:
                self._extremes.take_in([])
            self._tally.count += self._count.get().astype(np.int64)
            self._rows.bring_back()
            self._cols.bring_back()
            sums = np.concatenate([np.empty(0), *(totals.get() for totals in self._totals)])
        self._sums = sums[: self._made].tolist()

    def _add(self, rows: DevicePanel, cols: DevicePanel, limit: int) -> None:
        """Have the first `limit + i` columns of each row `i` multiplied and kept."""
        tile = _Tile(rows, cols, limit, *self._place())
        out = tile.out
        with self._multiplying:
            multiply(self._ask.precision, rows, cols, out)
            tile.done.record()
        with self._keeping:
            self._keeping.wait_event(tile.done)
            self._keep(tile, out)
            tile.done.record()
        self._under_way.append(tile)
        self._made += 1

    def _keep(self, tile: _Tile, out: Any) -> None:
        """Have everything that is asked found in a tile."""
        row_at = tile.rows.first - self._tally.rows.first
        col_at = tile.cols.first - self._tally.cols.first
        total = self._total()
        for starts, by_row, by_col in zip(
            self._starts, self._rows.levels, self._cols.levels, strict=True
        ):
            of_sides = (by_row[:, row_at:], by_col[:, col_at:]) if len(starts) else (starts, starts)
            launch.count_pairs(out, tile.limit, self._count, total, starts, *of_sides)
            total = None  # what is left are more thresholds
        if self._ask.neighbours:
            launch.keep_partners(
                out,
                tile.limit,
                (tile.rows.directed, tile.cols.directed),
                (row_at, tile.rows.first, self._rows.lists),
                (col_at, tile.cols.first, self._cols.lists),
            )
        if self._extremes is not None:
            self._extremes.write_down(tile, out, self._count)

    def _total(self) -> Any:
        """Where the sum of the next tile is written."""
        import cupy

        at = self._made % _TOTALS
        if at == 0:
            self._totals.append(cupy.zeros(_TOTALS, np.float64))
        return self._totals[-1][at : at + 1]

    def _place(self) -> tuple[Any, Any, NDArray[np.uint64]]:
        """Room for a product, an event and what was used: those of a tile that is done, or new."""
        import cupy

        if len(self._under_way) == UNDER_WAY:
            self._under_way[0].done.synchronize()
            with self._keeping:
                self._settle(1)
        if self._free:
            return self._free.pop()
        with self._keeping:
            buffer = cupy.empty(self._largest(), self._ask.dtype)
        used = np.frombuffer(cupy.cuda.alloc_pinned_memory(16), np.uint64, 2)
        return buffer, cupy.cuda.Event(disable_timing=True), used

    def _largest(self) -> int:
        """Cosines of the largest tile there is."""
        n, m = (side.degree.shape[1] for side in (self._tally.rows, self._tally.cols))
        return int(min(TILE, n) * min(TILE, m))

    def _settle(self, tiles: int) -> None:
        """Let go of the first tiles, which the card is done with."""
        for tile in list(self._under_way)[:tiles]:
            if self._extremes is not None and self._extremes.passed(tile):
                self._keeping.synchronize()
                self._extremes.take_in(self._under_way)
            self._under_way.popleft()
            self._free.append((tile.buffer, tile.done, tile.used))


@cache
def _streams() -> tuple[Any, Any]:
    """One stream multiplies; the other keeps, and goes first where both could."""
    import cupy

    keeping = cupy.cuda.Stream(non_blocking=True, priority=-1)
    return cupy.cuda.Stream(non_blocking=True), keeping
