"""The tile kernel of the CPU: one product of unit rows, then one compiled pass over its rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.ask import Ask
from geomsae.memory import empty
from geomsae.pairs.best import offer_pair, offer_partner
from geomsae.pairs.blas import gram, product, single_threaded_blas
from geomsae.pairs.compiled import compiled
from geomsae.pairs.panels import Panel, make_panel
from geomsae.pairs.tally import Tally

__all__ = ["AHEAD", "counting", "forget", "keep_within", "make_panel"]

AHEAD = 1
"""Panels of columns that are made ready while others are counted with."""

_APART = 4
"""Neighbouring values that are counted apart from each other."""

_GLANCE = 32
"""Values that are looked at together for one that is worth to be kept."""

_STRETCH = 8 * _GLANCE
"""Values after which it is asked anew what would be worth it."""

_local = threading.local()


@contextmanager
def counting(tally: Tally, ask: Ask) -> Iterator[CpuCounter]:
    """Count into a tally on the thread that asks; see `geomsae.pairs.kernel.Counter`."""
    with single_threaded_blas():
        yield CpuCounter(tally, ask)


def keep_within(nbytes: int) -> None:
    """Do nothing: what a processor holds is its process's, and planned with the rest."""


def forget() -> None:
    """Do nothing: a thread's buffer ends with the thread."""


class CpuCounter:
    """Takes tiles of pairs into a tally, one after another.

    Parameters
    ----------
    tally : Tally
        Of a super-tile that the tiles lie in.
    ask : Ask
        What the tally was made for.
    """

    def __init__(self, tally: Tally, ask: Ask) -> None:
        self._tally = tally
        self._ask = ask
        self.sums: list[float] = []

    def add_rectangle(self, rows: Panel, cols: Panel) -> None:
        """Take in every pair of a row and a column."""
        self.sums.append(add_rectangle(self._tally, rows, cols, self._ask))

    def add_triangle(self, rows: Panel) -> None:
        """Take in every unordered pair among some rows."""
        self.sums.append(add_triangle(self._tally, rows, self._ask))


def add_rectangle(tally: Tally, rows: Panel, cols: Panel, ask: Ask) -> float:
    """Take every pair of a row and a column into a tally.

    Parameters
    ----------
    tally : Tally
        Of a super-tile that the panels lie in.
    rows, cols : Panel
        Unit rows.
    ask : Ask
        What the tally was made for.

    Returns
    -------
    float
        The sum of all their cosines.
    """
    out = _buffer(len(rows.unit), len(cols.unit), rows.unit.dtype)
    product(rows.unit, cols.unit, out)
    return _add(tally, out, len(cols.unit), rows, cols, ask)


def add_triangle(tally: Tally, rows: Panel, ask: Ask) -> float:
    """Take every unordered pair among some rows into a tally; see `add_rectangle`."""
    out = _buffer(len(rows.unit), len(rows.unit), rows.unit.dtype)
    gram(rows.unit, out)
    return _add(tally, out, 0, rows, rows, ask)


def _buffer(n: int, m: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Room for a product, which this thread uses again for the next one."""
    buffer = getattr(_local, "buffer", None)
    if buffer is None or buffer.size < n * m or buffer.dtype != dtype:
        buffer = _local.buffer = empty((n * m,), dtype.name)
    return buffer[: n * m].reshape(n, m)


def _add(
    tally: Tally, cosines: NDArray[Any], limit: int, rows: Panel, cols: Panel, ask: Ask
) -> float:
    """Take the first `limit + i` cosines of each row `i` into a tally."""
    if not ask.keeps:
        return float(_bin(cosines, limit, tally.count))
    by_row, by_col, extremes = tally.rows, tally.cols, tally.extremes
    return float(
        _bin_and_keep(
            cosines,
            limit,
            tally.count,
            ask.tail_starts(),
            (by_row.first, rows.first - by_row.first, rows.directed),
            (by_col.first, cols.first - by_col.first, cols.directed),
            (by_row.degree, by_row.near, by_row.near_partner, by_row.far, by_row.far_partner),
            (by_col.degree, by_col.near, by_col.near_partner, by_col.far, by_col.far_partner),
            (extremes.merit, extremes.pair, extremes.held),
        )
    )


@compiled
def _bin(cosines: NDArray[Any], limit: int, counts: NDArray[np.int64]) -> Any:
    """Bin the first `limit + i` values of each row `i`, and return their sum."""
    bins = counts.shape[0]
    number = np.empty(cosines.shape[1], np.int32)
    apart = np.zeros((_APART, bins), np.int32)
    total = 0.0
    for i in range(cosines.shape[0]):
        width = min(limit + i, cosines.shape[1])
        total += _number(cosines[i, :width], bins, number)
        _count(number[:width], apart[0], apart[1], apart[2], apart[3])
    for k in range(_APART):
        counts += apart[k]
    return total


@compiled
def _number(row: NDArray[Any], bins: int, number: NDArray[np.int32]) -> Any:
    """Find the bin of each cosine of a row, in vector registers, and return their sum.

    The bin of a cosine c is floor(c bins / 2) + bins / 2, in float64: exact for a float32 c, whose
    product with the number of bins has fewer than 53 bits. With an odd number of bins no edge lies
    at 0, and half a bin is added before rounding down.
    """
    half = bins / 2
    shift = 0.5 * (bins % 2)
    middle = np.int32(bins // 2)
    first, last = np.int32(0), np.int32(bins - 1)
    total = 0.0
    for j in range(row.shape[0]):
        value = np.float64(row[j])
        total += value
        # Numba adds 32-bit numbers to a 64-bit one, of which a register holds half as many.
        bin = np.int32(np.int32(np.floor(value * half + shift)) + middle)
        bin = first if bin < first else bin
        number[j] = last if bin > last else bin
    return total


@compiled
def _count(
    number: NDArray[np.int32],
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    c: NDArray[np.int32],
    d: NDArray[np.int32],
) -> None:
    """Count numbers of bins.

    Most cosines fall into a few bins, so that one count would wait for the last: neighbours go to
    counts of their own. Unsigned numbers spare a look at whether they count from the end.
    """
    even = number.shape[0] - number.shape[0] % _APART
    for j in range(0, even, _APART):
        a[np.uint32(number[j])] += 1
        b[np.uint32(number[j + 1])] += 1
        c[np.uint32(number[j + 2])] += 1
        d[np.uint32(number[j + 3])] += 1
    for j in range(even, number.shape[0]):
        a[np.uint32(number[j])] += 1


@compiled
def _bin_and_keep(
    cosines: NDArray[Any],
    limit: int,
    counts: NDArray[np.int64],
    tail_starts: NDArray[np.int32],
    row_place: Any,
    col_place: Any,
    by_row: Any,
    by_col: Any,
    extremes: Any,
) -> Any:
    """Bin as `_bin` does, and keep what is asked about features and pairs.

    While a row of the product is in the nearest cache, its numbers of bins are compared with the
    tails, and its cosines with what each feature has already. A cosine that is worth to be kept is
    rare: whole groups are passed over after one look.
    """
    bins = counts.shape[0]
    row_first, row_at, row_directed = row_place
    col_first, col_at, col_directed = col_place
    row_degree, row_near, row_near_partner, row_far, row_far_partner = by_row
    col_degree, col_near, col_near_partner, col_far, col_far_partner = by_col
    merit, pair, held = extremes
    kept = row_near.shape[0]
    room = merit.shape[1]
    number = np.empty(cosines.shape[1], np.int32)
    apart = np.zeros((_APART, bins), np.int32)
    nothing = np.full(_STRETCH, np.inf, cosines.dtype)  # is good enough where nothing is asked
    never = nothing[0]
    worth = np.empty(_STRETCH // _GLANCE, np.bool_)
    total = 0.0
    for i in range(cosines.shape[0]):
        width = min(limit + i, cosines.shape[1])
        row = cosines[i, :width]
        total += _number(row, bins, number)
        _count(number[:width], apart[0], apart[1], apart[2], apart[3])
        if not row_directed[i]:
            continue
        at = row_at + i
        for t in range(tail_starts.shape[0]):
            inside = _tail(
                number[:width], bins, tail_starts[t], col_degree[t, col_at : col_at + width]
            )
            row_degree[t, at] += inside
            if inside == 0:  # nor is any pair further out
                break
        if kept == 0 and room == 0:
            continue
        stop = 0
        while stop < width:
            # The first cosines of a row are all the best so far: short stretches get it over.
            start, stop = stop, min(stop + min(max(stop, _GLANCE), _STRETCH), width)
            least_near = least_far = never
            near = far = nothing
            if kept > 0:
                least_near, least_far = row_near[kept - 1, at], row_far[0, at]
                near = col_near[kept - 1, col_at + start : col_at + stop]
                far = col_far[0, col_at + start : col_at + stop]
            if room > 0:
                least_near = min(least_near, merit[0, 0] if held[0] == room else -never)
                least_far = min(least_far, merit[1, 0] if held[1] == room else -never)
            _glance(row[start:stop], least_near, least_far, near, far, worth)
            for group in range((stop - start + _GLANCE - 1) // _GLANCE):
                if not worth[group]:
                    continue
                first = start + group * _GLANCE
                for j in range(first, min(first + _GLANCE, stop)):
                    if not col_directed[j]:
                        continue
                    c = row[j]
                    there = col_at + j
                    if kept > 0:
                        if c > row_near[kept - 1, at]:
                            offer_partner(row_near, row_near_partner, at, c, col_first + there)
                        if c > col_near[kept - 1, there]:
                            offer_partner(col_near, col_near_partner, there, c, row_first + at)
                        if -c > row_far[0, at]:
                            offer_partner(row_far, row_far_partner, at, -c, col_first + there)
                        if -c > col_far[0, there]:
                            offer_partner(col_far, col_far_partner, there, -c, row_first + at)
                    if room > 0:
                        a, b = row_first + at, col_first + there
                        if held[0] < room or c >= merit[0, 0]:
                            held[0] = offer_pair(merit[0], pair[0], held[0], c, a, b)
                        if held[1] < room or -c >= merit[1, 0]:
                            held[1] = offer_pair(merit[1], pair[1], held[1], -c, a, b)
    for k in range(_APART):
        counts += apart[k]
    return total


@compiled
def _tail(number: NDArray[np.int32], bins: int, start: Any, col_degree: NDArray[np.int32]) -> Any:
    """Add to the degree of each column whose pair with a row lies in the tails; how many do."""
    stop = np.int32(bins - 1 - start)
    inside = np.int32(0)
    for j in range(number.shape[0]):
        hit = np.int32((number[j] >= start) | (number[j] <= stop))
        col_degree[j] += hit
        inside += hit
    return inside


@compiled
def _glance(
    row: NDArray[Any],
    least_near: Any,
    least_far: Any,
    near: NDArray[Any],
    far: NDArray[Any],
    worth: NDArray[np.bool_],
) -> None:
    """Mark the groups of a stretch of a row in which some cosine may have to be kept."""
    for group in range((row.shape[0] + _GLANCE - 1) // _GLANCE):
        # Slices, because numbers that begin at 0 spare a look at whether they count from the end.
        first, stop = group * _GLANCE, min((group + 1) * _GLANCE, row.shape[0])
        some, some_near, some_far = row[first:stop], near[first:stop], far[first:stop]
        seen = np.int32(0)
        for j in range(some.shape[0]):
            c = some[j]
            seen |= np.int32(
                (c >= least_near) | (-c >= least_far) | (c > some_near[j]) | (-c > some_far[j])
            )
        worth[group] = seen > 0
