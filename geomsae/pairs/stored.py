"""Counting a decoder where it lies: workers open the store themselves and keep a few panels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from geomsae.ask import Ask
from geomsae.pairs.cache import PanelCache
from geomsae.pairs.count import count_super_tile
from geomsae.pairs.kernel import TileRows, kernel
from geomsae.pairs.plan import TILE, SuperTile
from geomsae.pairs.tally import Floors, Tally
from geomsae.store.guard import open_array
from geomsae.store.hierarchy import Hierarchy
from geomsae.store.rows import read_rows

CARD_LOADS = 4
"""Runs that are read at a time for a GPU, which would wait for a single reader."""

_caches = {"cpu": PanelCache(), "gpu": PanelCache(CARD_LOADS)}


@dataclass(frozen=True, slots=True)
class StoredDecoder:
    """A decoder in a store, as a few words that travel to any worker.

    Parameters
    ----------
    location : str
        Path or URL of the store.
    id : str
        The dictionary.
    sha256 : str
        Checksum of its values, so that no worker mistakes another for it.
    n : int
        Its rows.
    run : int
        Rows that are read at a time: those of a tile, or of a chunk that holds several.
    precision : str
        What its unit rows are rounded to.
    budget : int
        Bytes of panels that a process keeps.
    device : {"cpu", "gpu"}
        Where it keeps them.
    device_bytes : int
        Bytes that a process may hold on its GPU.
    """

    location: str
    id: str
    sha256: str
    n: int
    run: int
    precision: str
    budget: int
    device: str = "cpu"
    device_bytes: int = 0

    def panel(self, tile: int) -> TileRows:
        """The normalised rows of one tile."""
        run, key = self._run_of(tile)
        return _caches[self.device].get(key, lambda: self._load(run), self.budget)[
            tile - run // TILE
        ]

    def panels(self, tiles: range) -> dict[int, TileRows]:
        """Those of several tiles: what the readers have not begun with is read here."""
        for tile in tiles[1:]:
            self.ahead(tile)
        return {tile: self.panel(tile) for tile in tiles}

    def keep(self, tiles: range) -> None:
        """Say that these panels are still in use."""
        _caches[self.device].keep(dict.fromkeys(self._run_of(tile)[1] for tile in tiles))

    def ahead(self, tile: int) -> None:
        """Have the rows of a tile read that is asked for next."""
        run, key = self._run_of(tile)
        _caches[self.device].ahead(key, lambda: self._load(run), self.budget)

    def _run_of(self, tile: int) -> tuple[int, tuple[str, ...]]:
        """The first row of the run that a tile lies in, and what tells that run from all others."""
        first = tile * TILE // self.run * self.run
        whose = self.location, self.id, self.sha256
        return first, (*whose, self.device, self.precision, str(first))

    def _load(self, first: int) -> list[TileRows]:
        """The panels of all tiles that share a run."""
        weights = _open(self.location, self.id)
        block = read_rows(weights, first, min(self.run, self.n - first))
        mine = block.flags.writeable
        make = kernel(self.device).make_panel
        return [
            make(block[start : start + TILE], self.precision, first + start, overwrite=mine)
            for start in range(0, len(block), TILE)
        ]


def count_stored(
    rows: StoredDecoder,
    cols: StoredDecoder | None,
    super_tile: SuperTile,
    ask: Ask,
    held: int,
    then: SuperTile | None = None,
) -> Tally:
    """Count one super-tile of a stored decoder, or of two: the task that Dask schedules.

    Parameters
    ----------
    rows, cols : StoredDecoder
        Whose features they are; without `cols`, all pairs are within one dictionary.
    super_tile : SuperTile
        What to count.
    ask : Ask
        What is to be found out.
    held : int
        Panels of rows to hold at a time.
    then : SuperTile, optional
        What will be counted next, so that its first rows are read meanwhile.
    """
    others = rows if cols is None else cols
    mine = kernel(rows.device)
    mine.keep_within(rows.device_bytes)
    if then is not None:
        rows.ahead(then.rows.start)
        others.ahead(then.cols.start)
    return count_super_tile(super_tile, rows, others, ask, _floors(rows, cols, ask), mine, held)


def forget(device: str) -> None:
    """Let go of the panels and files that this process keeps, and of what a device holds for it."""
    let_go = _caches[device].clear()
    _open.cache_clear()
    _floors.cache_clear()
    if device == "gpu":  # gives back only what nothing holds
        let_go.result()
    kernel(device).forget()


@lru_cache(maxsize=8)
def _open(location: str, id: str) -> Any:
    hierarchy = Hierarchy(location)
    return open_array(hierarchy, id, "W_dec", hierarchy.attributes(id) or {})


@lru_cache(maxsize=1)
def _floors(rows: StoredDecoder, cols: StoredDecoder | None, ask: Ask) -> Floors:
    return Floors.none(ask, rows.n, None if cols is None else cols.n)
