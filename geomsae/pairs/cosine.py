"""The lazy histogram of pairwise cosines of any matrix."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed

from geomsae.bins import DEFAULT_BINS, check_bins
from geomsae.errors import DecoderError, GeomsaeError
from geomsae.histogram import histogram
from geomsae.pairs.count import Counted, add, count_super_tile
from geomsae.pairs.panels import Panel, make_panel
from geomsae.pairs.plan import (
    TILE,
    SuperTile,
    plan_rectangle,
    plan_triangle,
    tile_rows,
    tiles_along,
)

PRECISIONS = ("float32", "float64")
"""Arithmetic of the products: ``float32``, and ``float64`` as the reference to check it with."""

_ADDED_AT_ONCE = 32


def cosine_histogram(
    w: Any,
    v: Any = None,
    *,
    bins: int = DEFAULT_BINS,
    precision: str = "float32",
) -> xr.Dataset:
    """Histogram of the cosine similarity of pairs of rows.

    Each row is divided by its norm, taken in float64, and rounded to `precision`; every unordered
    pair of rows of `w` is counted once, or every pair of a row of `w` and a row of `v`. Rows of
    zero norm have no direction: they are left out and counted.

    Parameters
    ----------
    w : array_like, shape (n_features, d_model)
        NumPy array, Dask array or DataArray, whose dimension ``feature``, if it has one, is taken
        as the rows. Any real type.
    v : array_like, shape (m_features, d_model), optional
        Another matrix.
    bins : int
        Number of equal bins on [-1, 1], each half-open ``[left, right)`` but for the last.
    precision : {"float32", "float64"}
        Arithmetic of the products.

    Returns
    -------
    Dataset, dims (cosine,)
        Lazy; ``compute`` runs on any Dask scheduler. ``count`` (cosine) int64 adds up to
        ``n_pairs`` exactly; ``n_excluded`` are the rows left out. Scalar coordinates of `w` stay.

    Raises
    ------
    DecoderError
        If a matrix has not two dimensions or no real numbers, or the two disagree in theirs; when
        computed, if rows are NaN or infinite.

    Notes
    -----
    At every bin edge, the number of pairs below it differs from that of float64 arithmetic by no
    more than the pairs within 2e-6 of that edge. The counts are the same, bit for bit, on machines
    of one kind, whatever the scheduler and the number of workers.

    Examples
    --------
    >>> import numpy as np
    >>> hist = cosine_histogram(np.eye(3), bins=4).compute()
    >>> hist["count"].values
    array([0, 0, 3, 0])
    >>> int(hist.n_pairs)
    3
    """
    bins = check_bins(bins)
    check_precision(precision)
    first, coords = _matrix(w)
    row_panels = _panels(first, precision)
    if v is None:
        col_panels = row_panels
        plan = plan_triangle(first.shape[0])
    else:
        second, other = _matrix(v)
        if first.shape[1] != second.shape[1]:
            raise DecoderError(
                f"rows of {first.shape[1]} and of {second.shape[1]} dimensions have no cosine: "
                "they are directions of different spaces"
            )
        col_panels = _panels(second, precision)
        plan = plan_rectangle(first.shape[0], second.shape[0])
        coords = {k: c for k, c in coords.items() if k in other and c.equals(other[k])}
    parts = [_count(super_tile, row_panels, col_panels, bins) for super_tile in plan]
    while len(parts) > 1:
        parts = [
            delayed(add, pure=False)(parts[i : i + _ADDED_AT_ONCE])
            for i in range(0, len(parts), _ADDED_AT_ONCE)
        ]
    sides = row_panels if v is None else row_panels + col_panels
    excluded = delayed(_excluded, pure=False)(sides)
    dataset = histogram(
        da.from_delayed(parts[0].count, (bins,), np.int64),
        da.from_delayed(delayed(np.int64)(parts[0].n_pairs), (), np.int64),
        da.from_delayed(excluded, (), np.int64),
        coords,
    )
    return dataset.assign_attrs(precision=precision)


def check_precision(precision: str) -> str:
    """Return `precision` if it is one of `PRECISIONS`.

    Raises
    ------
    GeomsaeError
        If it is not.
    """
    if precision not in PRECISIONS:
        raise GeomsaeError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    return precision


def _matrix(w: Any) -> tuple[Any, dict[Any, xr.DataArray]]:
    """The data of a matrix, features first, and its scalar coordinates."""
    coords: dict[Any, xr.DataArray] = {}
    if isinstance(w, xr.DataArray):
        if "feature" in w.dims:
            w = w.transpose("feature", ...)
        coords = {name: coord for name, coord in w.coords.items() if coord.ndim == 0}
        w = w.data
    if not isinstance(w, da.Array):
        w = np.asarray(w)
    if w.ndim != 2 or 0 in w.shape or w.dtype.kind not in "fiu":
        shape = " x ".join(map(str, w.shape)) or "a single value"
        raise DecoderError(
            f"a decoder is a matrix of real numbers, one row per feature, not {shape} of {w.dtype}"
        )
    return w, coords


def _panels(w: Any, precision: str) -> list[Any]:
    """One lazy panel per tile of rows."""
    if isinstance(w, da.Array):
        blocks = w.rechunk({0: TILE, 1: -1}).to_delayed()[:, 0].tolist()
    else:
        spans = (tile_rows(tile, len(w)) for tile in range(tiles_along(len(w))))
        blocks = [w[start:stop] for start, stop in spans]
    return [
        delayed(make_panel, pure=False)(block, precision, tile * TILE)
        for tile, block in enumerate(blocks)
    ]


def _count(super_tile: SuperTile, row_panels: list[Any], col_panels: list[Any], bins: int) -> Any:
    """One lazy super-tile, which depends on its own panels alone."""
    return delayed(_count_from, pure=False)(
        super_tile,
        [row_panels[tile] for tile in super_tile.rows],
        [col_panels[tile] for tile in super_tile.cols],
        bins,
    )


def _count_from(super_tile: SuperTile, rows: list[Panel], cols: list[Panel], bins: int) -> Counted:
    return count_super_tile(
        super_tile,
        lambda tile: rows[tile - super_tile.rows.start],
        lambda tile: cols[tile - super_tile.cols.start],
        bins,
    )


def _excluded(panels: list[Panel]) -> np.int64:
    return np.int64(sum(panel.n_excluded for panel in panels))
