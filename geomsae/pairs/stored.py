"""Counting a decoder where it lies: workers open the store themselves and keep a few panels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import zarr
from zarr.buffer.cpu import NDBuffer

from geomsae.pairs.count import Counted, count_super_tile
from geomsae.pairs.memory import empty
from geomsae.pairs.panels import Panel, PanelCache, make_panel
from geomsae.pairs.plan import TILE, SuperTile
from geomsae.store.hierarchy import Hierarchy

PANEL_BYTES = 1 << 28
"""Bytes of normalised rows that a process keeps: a dictionary of Gemma Scope's usual size."""

_cache = PanelCache()


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
    precision : str
        What its unit rows are rounded to.
    """

    location: str
    id: str
    sha256: str
    precision: str

    def panel(self, tile: int) -> Panel:
        """The normalised rows of one tile."""
        rows = max(TILE, int(_open(self.location, self.id).chunks[0]))
        run = tile * TILE // rows
        panels = _cache.get((self, run), lambda: self._load(run * rows, rows), PANEL_BYTES)
        return panels[tile - run * rows // TILE]

    def _load(self, start: int, rows: int) -> list[Panel]:
        """The panels of all tiles that share a chunk, which is read once."""
        weights = _open(self.location, self.id)
        block = empty((min(rows, weights.shape[0] - start), weights.shape[1]), weights.dtype.name)
        part = (slice(start, start + len(block)), slice(None))
        weights.get_basic_selection(part, out=NDBuffer.from_numpy_array(block))
        return [
            make_panel(block[first : first + TILE], self.precision, start + first, overwrite=True)
            for first in range(0, len(block), TILE)
        ]


def count_stored(decoder: StoredDecoder, super_tile: SuperTile, bins: int) -> Counted:
    """Count one super-tile of a stored decoder: the task that Dask schedules."""
    return count_super_tile(super_tile, decoder.panel, decoder.panel, bins)


def forget() -> None:
    """Let go of the panels and files that this process keeps."""
    _cache.clear()
    _open.cache_clear()


@lru_cache(maxsize=8)
def _open(location: str, id: str) -> Any:
    return zarr.open_array(Hierarchy(location).zarr_store(), path=f"{id}/W_dec", mode="r")
