"""Counting a super-tile, and the laws that its count must obey before it is believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geomsae.errors import ConservationError
from geomsae.pairs import cpu
from geomsae.pairs.blas import single_threaded_blas
from geomsae.pairs.panels import Panel
from geomsae.pairs.plan import SuperTile

MEAN_ERROR = 1e-6
"""How far the mean cosine of a tile may lie from the one that its rows' sums imply.

A single float32 cosine may be off by 2e-6, by the rule that counts keep to; the errors of a whole
tile mostly cancel. A lost or doubled tile is far outside."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted of a super-tile, or of several.

    Parameters
    ----------
    count : ndarray, shape (bins,), int64
        Pairs in each bin, rows of zero norm left out.
    n_pairs : int
        Their sum.
    covered : int
        Pairs dealt with, rows of zero norm among them: the measure of progress.
    """

    count: NDArray[np.int64]
    n_pairs: int
    covered: int


def count_super_tile(
    super_tile: SuperTile,
    row_panel: Callable[[int], Panel],
    col_panel: Callable[[int], Panel],
    bins: int,
) -> Counted:
    """Count every pair in a super-tile, tile by tile.

    Parameters
    ----------
    super_tile : SuperTile
        What to count.
    row_panel, col_panel : callable
        Give the panel of a tile by its number.
    bins : int
        Number of equal bins on [-1, 1].

    Raises
    ------
    ConservationError
        If the number of pairs or the sum of their cosines is not what the rows imply.
    """
    count = np.zeros(bins, np.int64)
    n_pairs = covered = 0
    with single_threaded_blas():
        for row, col in super_tile.tiles():
            rows = row_panel(row)
            if super_tile.triangle and row == col:
                total = cpu.count_triangle(rows.unit, count)
                expected = (rows.total @ rows.total - rows.squares) / 2
                pairs = _unordered(len(rows.unit))
                valid = _unordered(rows.n_valid)
            else:
                cols = col_panel(col)
                total = cpu.count_rectangle(rows.unit, cols.unit, count)
                expected = rows.total @ cols.total
                pairs = len(rows.unit) * len(cols.unit)
                valid = rows.n_valid * cols.n_valid
            # A row of zero norm is kept as zeros, so that the grid of tiles does not move: its
            # products are exactly 0, and leave the bin of 0 again here.
            count[bins // 2] -= pairs - valid
            covered += pairs
            n_pairs += valid
            if not abs(total - expected) <= MEAN_ERROR * max(pairs, 1):
                raise ConservationError(
                    f"the cosines of tile ({row}, {col}) add up to {total:.6g} where its rows "
                    f"imply {expected:.6g}: the result was thrown away, check the machine's memory"
                )
    if count.sum() != n_pairs or (count < 0).any():
        raise ConservationError(
            f"{count.sum():,} pairs were counted of {n_pairs:,}: the result was thrown away"
        )
    return Counted(count, n_pairs, covered)


def add(parts: Sequence[Counted]) -> Counted:
    """Add up what was counted in disjoint super-tiles."""
    count = np.zeros_like(parts[0].count)
    for part in parts:
        count += part.count
    return Counted(count, sum(p.n_pairs for p in parts), sum(p.covered for p in parts))


def _unordered(n: int) -> int:
    return n * (n - 1) // 2
