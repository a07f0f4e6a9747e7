"""Counting a super-tile, and the laws that its tally must obey before it is believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from geomsae.ask import Ask, cosine_error
from geomsae.errors import ConservationError
from geomsae.pairs.kernel import Kernel, TileRows
from geomsae.pairs.plan import LARGEST_SIDE, SuperTile, span_rows
from geomsae.pairs.stopping import check_stop
from geomsae.pairs.tally import Floors, Tally

MEAN_ERROR = 0.5
"""How far the mean cosine of a tile may lie from the one that its rows' sums imply: half of what a
single cosine may be off. The errors of a whole tile mostly cancel; a lost or doubled one is far
outside."""


class Rows(Protocol):
    """The rows along one side of the pairs, as panels."""

    @property
    def n(self) -> int:
        """How many rows there are in all."""

    def panel(self, tile: int) -> TileRows:
        """The panel of a tile."""

    def panels(self, tiles: range) -> dict[int, TileRows]:
        """The panels of several tiles."""

    def keep(self, tiles: range) -> None:
        """Say that these panels are still in use, so that others make room first."""

    def ahead(self, tile: int) -> None:
        """Have a panel made ready that will be asked for next."""


def count_super_tile(
    super_tile: SuperTile,
    rows: Rows,
    cols: Rows,
    ask: Ask,
    floors: Floors,
    kernel: Kernel,
    held: int = LARGEST_SIDE,
) -> Tally:
    """Count every pair in a super-tile, tile by tile.

    Parameters
    ----------
    super_tile : SuperTile
        What to count.
    rows, cols : Rows
        What lies along each side.
    ask : Ask
        What is to be found out.
    floors : Floors
        What super-tiles that were counted before have found; raised by what this one finds.
    kernel : Kernel
        The device that counts; what lies along the sides is made for it.
    held : int
        Panels of rows to hold at a time; one of the columns is held beside them.

    Returns
    -------
    Tally
        Of the features in the super-tile.

    Raises
    ------
    ConservationError
        If the number of pairs or the sum of their cosines is not what the rows imply, or the
        degrees of the features not what the counts imply.
    """
    tally = Tally.empty(ask, span_rows(super_tile.rows, rows.n), span_rows(super_tile.cols, cols.n))
    floors.begin(tally)
    implied: list[_Implied] = []
    with kernel.counting(tally, ask) as counter:
        for block, along in super_tile.walk(held):
            panels, right = {}, None  # those of the last block make room first
            panels = rows.panels(block)
            for col in along:
                rows.keep(block)
                shared = super_tile.triangle and col in panels
                right = panels[col] if shared else cols.panel(col)
                for later in range(col + 1, min(col + 1 + kernel.AHEAD, along.stop)):
                    if not (super_tile.triangle and later in panels):
                        cols.ahead(later)
                if col + 1 == along.stop and block.stop < super_tile.rows.stop:
                    rows.ahead(block.stop)
                for row in block:
                    check_stop()
                    if shared and row == col:
                        counter.add_triangle(right)
                        implied.append(_triangle(right))
                    elif not super_tile.triangle or col < row:
                        counter.add_rectangle(panels[row], right)
                        implied.append(_rectangle(panels[row], right))
    for total, tile_of in zip(counter.sums, implied, strict=True):
        tile_of.check(total, MEAN_ERROR * cosine_error(ask.precision))
        _account(tally, tile_of)
    _check(tally, ask)
    floors.rise(tally)
    return tally


@dataclass(frozen=True, slots=True)
class _Implied:
    """What the rows and columns of a tile imply about its pairs."""

    pairs: int
    directed: int
    total: float
    first_row: int
    first_col: int

    def check(self, total: float, error: float) -> None:
        """Hold what the cosines add up to against it; their mean may be off by so much."""
        if not abs(total - self.total) <= error * max(self.pairs, 1):
            raise ConservationError(
                f"the cosines of rows from {self.first_row:,} with those from {self.first_col:,} "
                f"add up to {total:.6g} where their sums imply {self.total:.6g}: the result was "
                "thrown away, check the machine's memory"
            )


def _triangle(rows: TileRows) -> _Implied:
    total = float(rows.total @ rows.total - rows.squares) / 2
    pairs, directed = _unordered(rows.rows), _unordered(rows.n_directed)
    return _Implied(pairs, directed, total, rows.first, rows.first)


def _rectangle(rows: TileRows, cols: TileRows) -> _Implied:
    total = float(rows.total @ cols.total)
    pairs, directed = rows.rows * cols.rows, rows.n_directed * cols.n_directed
    return _Implied(pairs, directed, total, rows.first, cols.first)


def _account(tally: Tally, tile: _Implied) -> None:
    """Take the pairs of rows without a direction out of the counts again.

    Such a row is kept as zeros, so that the grid of tiles does not move: its products are exactly
    0, and leave the bin of 0.
    """
    tally.count[tally.count.size // 2] -= tile.pairs - tile.directed
    tally.covered += tile.pairs
    tally.n_pairs += tile.directed


def _check(tally: Tally, ask: Ask) -> None:
    if tally.count.sum() != tally.n_pairs or (tally.count < 0).any():
        raise ConservationError(
            f"{tally.count.sum():,} pairs were counted of {tally.n_pairs:,}: "
            "the result was thrown away"
        )
    for number, start in enumerate(ask.tail_starts()):
        inside = tally.count[start:].sum() + tally.count[: ask.bins - start].sum()
        for side in (tally.rows, tally.cols):
            degrees = side.degree[number].sum(dtype=np.int64)
            if degrees != inside:
                raise ConservationError(
                    f"the degrees at {ask.thresholds[number]:g} add up to {degrees:,} where "
                    f"{inside:,} pairs were counted: the result was thrown away"
                )


def _unordered(n: int) -> int:
    return n * (n - 1) // 2
