"""The kernels of ``kernels.cu``, compiled for the card at their first use."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

STRIP = 64
THREADS = 256
WARP = 32
"""As the source has them."""

_SHARED = 32 * 1024
_MOST_COPIES = 16

LEVELS_AT_ONCE = 8
"""Thresholds whose degrees one pass over a tile counts: a block has room for so many."""


def source() -> str:
    """The source of the kernels."""
    return (files("geomsae.pairs.gpu") / "kernels.cu").read_text()


def options(dtype: str) -> tuple[str, ...]:
    """How the source is compiled for cosines of a type."""
    return ("-std=c++17", f"-DCELL={'double' if dtype == 'float64' else 'float'}")


@cache
def _kernel(name: str, itemsize: int) -> Any:
    """A kernel for cosines of so many bytes."""
    return _module("float64" if itemsize == 8 else "float32").get_function(name)


@cache
def _module(dtype: str) -> Any:
    import cupy

    return cupy.RawModule(code=source(), options=options(dtype))


def copies(bins: int) -> int:
    """How many counts of its own a block has: 0 where not even one fits.

    Examples
    --------
    >>> copies(200), copies(2000), copies(100_000)
    (16, 4, 0)
    """
    fitting = min(_MOST_COPIES, _SHARED // (4 * bins))
    return 1 << (fitting.bit_length() - 1) if fitting else 0


def normalise(rows: Any, unit: Any, directed: Any, total: Any, squares: Any, bad: Any) -> None:
    """Fill `unit` with unit rows, and the rest with what is known of them; see the source."""
    name = "normalise_double" if rows.dtype == np.float64 else "normalise_float"
    n, d = rows.shape
    wide = np.int32(unit.shape[1])
    _kernel(name, unit.itemsize)(
        (n,), (THREADS,), (rows, np.int32(d), wide, unit, directed, total, squares, bad)
    )


def count_pairs(
    cosines: Any, limit: int, count: Any, total: Any, starts: Any, by_row: Any, by_col: Any
) -> None:
    """Bin a tile into `count`, if it is given, and count degrees by level; see the source.

    Parameters
    ----------
    cosines : array, shape (rows, columns)
        On the card, as all arrays here.
    limit : int
        0 for a triangle, else the number of columns.
    count : array, shape (bins,), uint64
        Counts to add to.
    total : array, shape (1,), float64, or None
        What the cosines add up to is added; None if they were binned before.
    starts : array, shape (levels,), int32
        First bins of the upper tails, rising; at most `LEVELS_AT_ONCE`.
    by_row, by_col : array, shape (levels, features), int32
        Where the rows and the columns of the tile begin.
    """
    n, m = cosines.shape
    bins, levels = count.size, len(starts)
    own = copies(bins) if total is not None else 0
    shared = 4 * (own * bins + levels * (STRIP + THREADS))
    nothing = np.uint64(0)
    arguments = (
        *(cosines, np.int32(n), np.int32(m), np.int32(limit), np.int32(bins), np.int32(own)),
        *((count, total) if total is not None else (nothing, nothing)),
        *(starts, np.int32(levels), by_row, _stride(by_row), by_col, _stride(by_col)),
    )
    grid = (-(-m // THREADS), -(-n // STRIP))
    _kernel("count_pairs", cosines.itemsize)(grid, (THREADS,), arguments, shared_mem=shared)


def keep_partners(
    cosines: Any,
    limit: int,
    directed: tuple[Any, Any],
    row_side: tuple[int, int, Any],
    col_side: tuple[int, int, Any],
) -> None:
    """Keep the nearest and the most opposite partners of a tile's rows and of its columns.

    Parameters
    ----------
    cosines, limit : array, int
        As `count_pairs` takes them.
    directed : tuple of two arrays, bool
        Which rows, and which columns, have a direction.
    row_side, col_side : tuple
        Of the first row, and of the first column: its place in the lists, its number, and the
        lists: merits and partners of the nearest, shape (features, k), and of the opposite.
    """
    n, m = cosines.shape
    shape = np.int32(n), np.int32(m), np.int32(limit)
    (row_at, row_number, row_lists), (col_at, col_number, col_lists) = row_side, col_side
    kept = np.int32(row_lists[0].shape[1])
    common = (cosines, *shape, *directed)
    grid = (-(-n // (THREADS // WARP)),)
    row_words = (*common, np.int64(row_at), np.int64(col_number), kept, *row_lists)
    _kernel("keep_by_row", cosines.itemsize)(grid, (THREADS,), row_words)
    col_words = (*common, np.int64(col_at), np.int64(row_number), kept, *col_lists)
    _kernel("keep_by_col", cosines.itemsize)((-(-m // WARP),), (WARP * WARP,), col_words)


def raise_least(count: Any, room: int, least: Any) -> None:
    """Raise the bins that the `room` most extreme pairs of each kind lie in, or beyond."""
    _kernel("raise_least", 4)(
        (1,), (THREADS,), (count, np.int32(count.size), np.int64(room), least)
    )


def keep_pairs(
    cosines: Any,
    rows: range,
    limit: int,
    directed: tuple[Any, Any],
    numbers: tuple[int, int],
    bins: int,
    floors: tuple[Any, Any, Any],
    found: tuple[Any, Any, Any],
) -> None:
    """Write down the pairs in some rows of a tile that may be among the most extreme.

    Parameters
    ----------
    cosines, limit : array, int
        As `count_pairs` takes them.
    rows : range
        Rows of the tile.
    directed : tuple of two arrays, bool
        Which rows, and which columns, have a direction.
    numbers : tuple of two ints
        Of the first row and of the first column.
    bins : int
        Of the histogram.
    floors : tuple of three arrays
        The least bins; merits and numbers of the last pair of each kind that is held.
    found : tuple of three arrays
        Room for merits (2, room), pairs (2, room, 2), and how many there are (2).
    """
    shape = np.int32(rows.start), np.int32(rows.stop), np.int32(cosines.shape[1]), np.int32(limit)
    merit, pair, used = found
    arguments = (
        *(cosines, *shape, *directed, *map(np.int64, numbers), np.int32(bins), *floors),
        *(merit, pair, np.int64(merit.shape[1]), used),
    )
    grid = (-(-cosines.shape[1] // THREADS), -(-len(rows) // STRIP))
    _kernel("keep_pairs", cosines.itemsize)(grid, (THREADS,), arguments)


def _stride(by_level: Any) -> np.int64:
    """Elements from one level to the next."""
    return np.int64(by_level.strides[0] // by_level.itemsize if len(by_level) else 0)
