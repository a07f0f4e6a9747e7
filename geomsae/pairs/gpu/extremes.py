"""The most extreme pairs: the card writes down who may be among them, and the host keeps its heaps.

How many may be is not known beforehand. The counts so far say in which bins the best must lie, so
that there are few; where there are more than fit, as among duplicates, the tile is gone through
again in parts, and each part knows what the one before has found.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geomsae.ask import Ask
from geomsae.pairs.best import merge_pairs
from geomsae.pairs.gpu import launch
from geomsae.pairs.gpu.panels import DevicePanel
from geomsae.pairs.tally import Extremes

_ROOM = 1 << 18
"""Pairs of each kind that can be written down between two visits of the host, at least."""


class Tile(Protocol):
    """A tile whose cosines are on the card."""

    @property
    def rows(self) -> DevicePanel:
        """What lies along one side."""

    @property
    def cols(self) -> DevicePanel:
        """What lies along the other."""

    @property
    def limit(self) -> int:
        """How many cosines of its first row count."""

    @property
    def out(self) -> Any:
        """Its cosines, shape (rows, columns)."""

    @property
    def used(self) -> NDArray[np.uint64]:
        """How many pairs of each kind were written down once it was gone through; on the host."""


class DeviceExtremes:
    """Candidates on the card for the heaps of a tally.

    Parameters
    ----------
    extremes : Extremes
        The heaps.
    ask : Ask
        What they were made for.
    room : int
        Pairs of each kind that can be written down at a time.
    """

    def __init__(self, extremes: Extremes, ask: Ask, room: int | None = None) -> None:
        import cupy

        self._extremes = extremes
        self._ask = ask
        self._room = room or room_for(ask)
        dtype = extremes.merit.dtype
        self._merit = cupy.empty((2, self._room), dtype)
        self._pair = cupy.empty((2, self._room, 2), np.int64)
        self._used = cupy.zeros(2, np.uint64)
        self._settled = np.zeros(2, np.uint64)
        self._least = cupy.array([0, ask.bins - 1], np.int32)
        self._worst = cupy.empty(2, dtype)
        self._worst_pair = cupy.empty((2, 2), np.int64)
        self._tell()

    def write_down(self, tile: Tile, out: Any, count: Any) -> None:
        """Have the candidates of a tile written down, whose pairs are in the counts already."""
        launch.raise_least(count, self._ask.pairs, self._least)
        self._launch(tile, out, range(tile.rows.rows))
        self._used.get(out=tile.used, blocking=False)

    def passed(self, tile: Tile) -> bool:
        """Remember a tile that is done; returns whether it is time to take in what was found."""
        if (tile.used > self._room // 2).any():
            return True
        self._settled = tile.used.copy()
        return False

    def take_in(self, tiles: Collection[Tile]) -> None:
        """Offer the heaps what was written down since the last time.

        Parameters
        ----------
        tiles : collection of Tile
            Those that are done and were not remembered, the earliest first.
        """
        whole, torn = self._settled, []
        for tile in tiles:
            if (tile.used > self._room).any():
                torn.append(tile)
            else:
                whole = np.maximum(whole, tile.used)
        self._offer(whole)
        for tile in torn:
            step = max(1, self._room // tile.cols.rows)
            for first in range(0, tile.rows.rows, step):
                self._launch(tile, tile.out, range(first, min(first + step, tile.rows.rows)))
                self._offer(self._used.get())
        for tile in tiles:
            tile.used[:] = 0

    def _launch(self, tile: Tile, out: Any, rows: range) -> None:
        launch.keep_pairs(
            out,
            rows,
            tile.limit,
            (tile.rows.directed, tile.cols.directed),
            (tile.rows.first, tile.cols.first),
            self._ask.bins,
            (self._least, self._worst, self._worst_pair),
            (self._merit, self._pair, self._used),
        )

    def _offer(self, used: NDArray[np.uint64]) -> None:
        """Offer the heaps the first candidates of each kind, and make room for others."""
        heaps = self._extremes
        for end in range(2):
            n = int(used[end])
            if n:
                heaps.held[end] = merge_pairs(
                    *(heaps.merit[end], heaps.pair[end], heaps.held[end]),
                    *(self._merit[end, :n].get(), self._pair[end, :n].get(), n),
                )
        self._settled = np.zeros(2, np.uint64)
        self._used.fill(0)
        self._tell()

    def _tell(self) -> None:
        """Tell the card what is good enough: anything, until a heap is full."""
        import cupy

        heaps, stream = self._extremes, cupy.cuda.get_current_stream()
        full = heaps.held == heaps.merit.shape[1]
        worst = np.where(full, heaps.merit[:, 0], -np.inf).astype(heaps.merit.dtype)
        self._worst.set(worst, stream)
        pair = np.where(full[:, None], heaps.pair[:, 0], np.iinfo(np.int64).max)
        self._worst_pair.set(pair, stream)


def room_for(ask: Ask) -> int:
    """Pairs of each kind that can be written down at a time."""
    return max(_ROOM, 4 * ask.pairs)
