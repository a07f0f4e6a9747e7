"""Counting a super-tile, and the laws that its tally must obey before it is believed."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from geomsae.ask import Ask
from geomsae.errors import ConservationError
from geomsae.pairs import cpu
from geomsae.pairs.blas import single_threaded_blas
from geomsae.pairs.panels import Panel
from geomsae.pairs.plan import LARGEST_SIDE, SuperTile, span_rows
from geomsae.pairs.tally import Floors, Tally

MEAN_ERROR = 1e-6
"""How far the mean cosine of a tile may lie from the one that its rows' sums imply.

A single float32 cosine may be off by 2e-6, by the rule that counts keep to; the errors of a whole
tile mostly cancel. A lost or doubled tile is far outside."""


class Rows(Protocol):
    """The rows along one side of the pairs, as panels."""

    @property
    def n(self) -> int:
        """How many rows there are in all."""

    def panel(self, tile: int) -> Panel:
        """The panel of a tile."""

    def ahead(self, tile: int) -> None:
        """Have a panel made ready that will be asked for next."""


def count_super_tile(
    super_tile: SuperTile,
    rows: Rows,
    cols: Rows,
    ask: Ask,
    floors: Floors,
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
    with single_threaded_blas():
        for block, along in super_tile.walk(held):
            panels = {tile: rows.panel(tile) for tile in block}
            for col in along:
                shared = super_tile.triangle and col in panels
                right = panels[col] if shared else cols.panel(col)
                if col + 1 < along.stop and not (super_tile.triangle and col + 1 in panels):
                    cols.ahead(col + 1)
                elif col + 1 == along.stop and block.stop < super_tile.rows.stop:
                    rows.ahead(block.stop)
                for row in block:
                    if shared and row == col:
                        _add_triangle(tally, right, ask)
                    elif not super_tile.triangle or col < row:
                        _add_rectangle(tally, panels[row], right, ask)
    _check(tally, ask)
    floors.rise(tally)
    return tally


def _add_triangle(tally: Tally, rows: Panel, ask: Ask) -> None:
    total = cpu.add_triangle(tally, rows, ask)
    expected = (rows.total @ rows.total - rows.squares) / 2
    _account(tally, _unordered(len(rows.unit)), _unordered(rows.n_directed))
    _check_sum(total, float(expected), _unordered(len(rows.unit)), rows, rows)


def _add_rectangle(tally: Tally, rows: Panel, cols: Panel, ask: Ask) -> None:
    total = cpu.add_rectangle(tally, rows, cols, ask)
    pairs = len(rows.unit) * len(cols.unit)
    _account(tally, pairs, rows.n_directed * cols.n_directed)
    _check_sum(total, float(rows.total @ cols.total), pairs, rows, cols)


def _account(tally: Tally, pairs: int, directed: int) -> None:
    """Take the pairs of rows without a direction out of the counts again.

    Such a row is kept as zeros, so that the grid of tiles does not move: its products are exactly
    0, and leave the bin of 0.
    """
    tally.count[tally.count.size // 2] -= pairs - directed
    tally.covered += pairs
    tally.n_pairs += directed


def _check_sum(total: float, expected: float, pairs: int, rows: Panel, cols: Panel) -> None:
    if not abs(total - expected) <= MEAN_ERROR * max(pairs, 1):
        raise ConservationError(
            f"the cosines of rows from {rows.first:,} with those from {cols.first:,} add up to "
            f"{total:.6g} where their sums imply {expected:.6g}: the result was thrown away, check "
            "the machine's memory"
        )


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
