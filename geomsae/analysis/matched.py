"""The covariance-matched null, and dictionaries with their common directions taken out.

A dictionary may have more pairs in the tails than isotropic directions because its features come
in clusters, or only because they all lean the same way. Directions that are drawn independently,
with the same second moment, lean the same way and have no clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import scipy.linalg
import xarray as xr
from numpy.typing import NDArray

from geomsae.analysis.moments import (
    eigenvalue_floor,
    read_again,
    second_moment,
    unit_rows,
)
from geomsae.errors import GeomsaeError

_STREAM = 1024
"""Rows that share one stream of random numbers: part of the version, for it decides the rows."""

_NOTHING = 1e-10
"""What is left of a unit row when all of it was taken away, and float64 rounds, is shorter."""


def matched_directions(w: Any, *, seed: int = 0, mean: bool = False) -> xr.DataArray:
    """Directions without clusters, drawn with the second moment of a dictionary.

    Parameters
    ----------
    w : array_like, shape (n_features, d_model)
        NumPy array, Dask array or DataArray, as `unit_rows` takes it.
    seed : int
        Seed of the generator (PCG64, one stream for every 1,024 rows), 0 or more.
    mean : bool
        Keep the mean direction apart from the rest: draw about it, and not about zero. That comes
        closer where ``mean_length`` of `anisotropy` is large.

    Returns
    -------
    DataArray, dims (feature, d_model), float32
        Lazy, in chunks of whole rows; what is drawn depends on `w` and the seed alone. Of the
        second moment M and mean m of the unit rows of `w`, each row is drawn from N(0, M), or from
        N(m, M - m m^T), and divided by its norm: an angular Gaussian law (Tyler 1987; Mardia and
        Jupp 2000, sections 9.4.4 and 3.5.6). There are as many directions as in `w`, and where `w`
        has rows of zero norm, as many at the end. Scalar coordinates of `w` stay, with ``null``,
        ``"covariance"``.

    Raises
    ------
    GeomsaeError
        If the seed is negative.
    DecoderError
        As `unit_rows` raises it.

    Notes
    -----
    The division by the norm takes a little from the largest eigenvalues of M and gives it to the
    others: about one part in the effective dimension. `anisotropy` of the result tells.

    Examples
    --------
    >>> drawn = matched_directions(np.array([[2, 2], [1, 1]])).values
    >>> abs(drawn).round(4)  # both on the one line that there is
    array([[0.7071, 0.7071],
           [0.7071, 0.7071]], dtype=float32)
    """
    if seed < 0:
        raise GeomsaeError(f"seed {seed} cannot be sown: use 0 or more")
    n_features, d_model = unit_rows(w).shape
    moments = second_moment(w)
    parts = [moments[name].data for name in ("second_moment", "mean", "n_directed")]
    law = dask.delayed(_law)(*parts, about_mean=mean)
    drawn = da.map_blocks(
        _draw,
        law=law,
        seed=seed,
        chunks=(da.core.normalize_chunks(_STREAM, (n_features,))[0], (d_model,)),
        dtype=np.float32,
        meta=np.empty((0, 0), np.float32),
    )
    return xr.DataArray(
        drawn,
        dims=("feature", "d_model"),
        coords={**moments.coords, "null": "covariance"},
        name="matched",
        attrs={"long_name": "directions drawn with the same second moment", "seed": seed},
    )


def centred(w: Any) -> xr.DataArray:
    """The directions of a dictionary without their mean.

    Parameters
    ----------
    w : array_like, shape (n_features, d_model)
        NumPy array, Dask array or DataArray, as `unit_rows` takes it.

    Returns
    -------
    DataArray, dims (feature, d_model), float64
        Unit rows minus the mean of the unit rows, not normalised again. Lazy; all coordinates of
        `w` stay. Rows of zero norm stay zero, and those of which nothing is left become zero.

    Raises
    ------
    DecoderError
        As `unit_rows` raises it.

    Examples
    --------
    >>> centred(np.array([[5, 0], [0, 1], [0, 0]])).values
    array([[ 0.5, -0.5],
           [-0.5,  0.5],
           [ 0. ,  0. ]])
    """
    rows = unit_rows(w)
    mean = second_moment(w)["mean"].data
    again = read_again(rows, mean)
    left = da.map_blocks(_without_mean, again.data, mean, dtype=np.float64, meta=np.empty((0, 0)))
    return rows.copy(data=left).assign_attrs(long_name="unit rows without their mean")


def without_top(w: Any, r: int) -> xr.DataArray:
    """The directions of a dictionary without the principal directions that they share most.

    Parameters
    ----------
    w : array_like, shape (n_features, d_model)
        NumPy array, Dask array or DataArray, as `unit_rows` takes it.
    r : int
        How many principal directions to take out, from 0 to d_model.

    Returns
    -------
    DataArray, dims (feature, d_model), float64
        Unit rows u less their part along the eigenvectors V of the r largest eigenvalues of the
        second moment, u - V V^T u, not normalised again; about the origin, not about the mean (Mu
        and Viswanath 2018, All-but-the-Top, algorithm 1, without its first step). Lazy; all
        coordinates of `w` stay. Rows of zero norm stay zero, and those of which nothing is left
        become zero.

    Raises
    ------
    GeomsaeError
        If there are not so many principal directions.
    DecoderError
        As `unit_rows` raises it.

    Examples
    --------
    >>> abs(without_top(np.array([[1, 0], [2, 0], [0.6, 0.8]]), 1)).round(2).values[0]
    array([0.06, 0.14])
    """
    rows = unit_rows(w)
    d_model = rows.sizes["d_model"]
    if not 0 <= r <= d_model:
        raise GeomsaeError(f"of {d_model} principal directions {r} cannot be taken out")
    top = dask.delayed(_principal)(second_moment(w)["second_moment"].data, r)
    again = read_again(rows, top)
    left = da.map_blocks(_without, again.data, top=top, dtype=np.float64, meta=np.empty((0, 0)))
    return rows.copy(data=left).assign_attrs(
        long_name=f"unit rows without {r} principal directions"
    )


@dataclass(frozen=True, slots=True)
class _Law:
    """What directions are drawn from.

    Parameters
    ----------
    root : ndarray, shape (d_model, d_model), float64
        Square root of the covariance.
    mean : ndarray, shape (d_model,), float64
        Mean, before rows are normalised.
    n_directed : int
        Directions to draw.
    """

    root: NDArray[np.float64]
    mean: NDArray[np.float64]
    n_directed: int


def _law(
    moment: NDArray[np.float64], mean: NDArray[np.float64], n_directed: int, *, about_mean: bool
) -> _Law:
    mean = mean if about_mean else np.zeros_like(mean)
    values, vectors = np.linalg.eigh(moment - np.outer(mean, mean))
    # Fewer rows than dimensions leave eigenvalues that are zero, and may be rounded below. The
    # symmetric root, of all, does not depend on which eigenvectors stand for equal eigenvalues.
    values = np.where(values > eigenvalue_floor(values), values, 0.0)
    return _Law((vectors * np.sqrt(values)) @ vectors.T, mean, int(n_directed))


def _draw(law: _Law, seed: int, block_info: Any = None) -> NDArray[np.float32]:
    """Draw the directions of one chunk."""
    (first, stop), (_, d_model) = block_info[None]["array-location"]
    rows = np.zeros((stop - first, d_model), np.float32)
    drawn = rows[: max(law.n_directed - first, 0)]
    seeds = np.random.SeedSequence(seed, spawn_key=(d_model, first // _STREAM))
    rng = np.random.Generator(np.random.PCG64(seeds))
    normal = rng.standard_normal(drawn.shape) @ law.root + law.mean
    drawn[:] = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return rows


def _principal(moment: NDArray[np.float64], r: int) -> NDArray[np.float64]:
    """Eigenvectors of the r largest eigenvalues, shape (d_model, r)."""
    d_model = len(moment)
    if r == 0:
        return np.empty((d_model, 0))
    vectors: NDArray[np.float64] = scipy.linalg.eigh(
        moment, subset_by_index=[d_model - r, d_model - 1]
    )[1]
    return vectors


def _without_mean(unit: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    return _cleared(np.where(unit.any(axis=1, keepdims=True), unit - mean, 0.0))


def _without(unit: NDArray[np.float64], top: NDArray[np.float64]) -> NDArray[np.float64]:
    return _cleared(unit - (unit @ top) @ top.T)


def _cleared(left: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make rows zero of which nothing but rounding is left."""
    norm = np.linalg.norm(left, axis=1, keepdims=True)
    return np.where(norm > _NOTHING, left, 0.0)
