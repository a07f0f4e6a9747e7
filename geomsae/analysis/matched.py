"""The covariance-matched null, and dictionaries with their common directions taken out.

A dictionary may have more pairs in the tails than isotropic directions because its features come
in clusters, or only because they all lean the same way. Directions that are drawn independently,
with the same second moment, lean the same way and have no clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import scipy.linalg
import xarray as xr
from dask.delayed import delayed
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

_LOG_S = np.arange(-40, 110, 0.4)
"""Where the integral of `_shares` is evaluated: beyond, less than 1e-16 of it is left."""

_CLOSE = 1e-9
"""How close, in relative terms, shares come to those that are wanted."""

_MOST_STEPS = 500
"""Steps towards them; each about halves what is missing, or does better."""

_NOTHING = 1e-10
"""What is left of a unit row when all of it was taken away, and float64 rounds, is shorter."""


def matched_directions(
    w: Any, *, seed: int = 0, mean: bool = False, shrink: bool = True
) -> xr.DataArray:
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
    shrink : bool
        Take out of M what is there only because the rows are few.

    Returns
    -------
    DataArray, dims (feature, d_model), float32
        Lazy, in chunks of whole rows; what is drawn depends on `w` and the seed alone. Each row is
        drawn from a normal distribution and divided by its norm, an angular Gaussian law (Tyler
        1987; Mardia and Jupp 2000, sections 9.4.4 and 3.5.6), so that its second moment is the M of
        the unit rows of `w`; with `mean`, from N(m, M - m m^T), where m is their mean. There are as
        many directions as in `w`, and where `w` has rows of zero norm, as many at the end. Scalar
        coordinates of `w` stay, with ``null``, ``"covariance"``.

    Raises
    ------
    GeomsaeError
        If the seed is negative.
    DecoderError
        As `unit_rows` raises it.

    Notes
    -----
    Two corrections keep the null from being wrong where it is wanted, far out in the tails.

    Squared cosines of rows drawn with the second moment M have the mean tr M^2. That of the
    dictionary's own pairs is less, (n tr M^2 - 1) / (n - 1), for M holds the product of each row
    with itself: even isotropic rows, if they are few, have a second moment of uneven eigenvalues.
    `shrink` moves all eigenvalues towards their mean, in proportion, until the null has the
    dictionary's own mean squared cosine (linear shrinkage, as Ledoit and Wolf 2004), or is
    isotropic if that is not reached. Without it, 6,000 isotropic rows in 2,304 dimensions had
    a null with 4.5e-5 of its pairs beyond 0.1, where the isotropic law gives 1.5e-6.

    Were rows then drawn from N(0, M), their division by the norm would take from the largest
    eigenvalues and give to the others, and the tails would be too thin. About zero the covariance
    is therefore the one with which the divided rows have the second moment M; it has the
    eigenvectors of M. About the mean it is M - m m^T as it stands: the norms vary less there, and
    so does what the division does.

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
    law = delayed(_law)(moments.drop_vars([*moments.coords]), about_mean=mean, shrink=shrink)
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
    again = unit_rows(read_again(w, mean)).data
    left = da.map_blocks(_without_mean, again, mean, dtype=np.float64, meta=np.empty((0, 0)))
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
    >>> without_top(np.array([[1.0, 0], [2, 0], [0, 3]]), 1).values
    array([[0., 0.],
           [0., 0.],
           [0., 1.]])
    """
    rows = unit_rows(w)
    d_model = rows.sizes["d_model"]
    if not 0 <= r <= d_model:
        raise GeomsaeError(f"of {d_model} principal directions {r} cannot be taken out")
    top = delayed(_principal)(second_moment(w)["second_moment"].data, r)
    again = unit_rows(read_again(w, top)).data
    left = da.map_blocks(_without, again, top=top, dtype=np.float64, meta=np.empty((0, 0)))
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


def _law(moments: xr.Dataset, *, about_mean: bool, shrink: bool) -> _Law:
    moment, mean = moments["second_moment"].values, moments["mean"].values
    n_directed = int(moments["n_directed"])
    mean = mean if about_mean else np.zeros_like(mean)
    values, vectors = np.linalg.eigh(moment - np.outer(mean, mean))
    # Fewer rows than dimensions leave eigenvalues that are zero, and may be rounded below.
    values = np.where(values > eigenvalue_floor(values), values, 0.0)
    values = _shrunk(values, n_directed) if shrink else values
    values, vectors = values[values > 0], vectors[:, values > 0]
    variances = values if about_mean else _variances(values)
    # The symmetric root does not depend on which eigenvectors stand for equal eigenvalues.
    root = (vectors * np.sqrt(variances)) @ vectors.T
    return _Law(root, mean, n_directed)


def _shrunk(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Eigenvalues nearer to their mean, with the sum of squares that pairs of n rows tell of.

    The sum of squares of the second moment M of n rows of squared length tr M, without each row's
    product with itself, is (n tr M^2 - (tr M)^2) / (n - 1).
    """
    level, total = values.mean(), values.sum()
    spread = float(np.square(values - level).sum())
    if n < 2 or spread == 0:
        return values
    between = (n * np.square(values).sum() - total**2) / (n - 1)
    kept = max(between - total * level, 0.0) / spread
    shrunk: NDArray[np.float64] = level + np.sqrt(kept) * (values - level)
    return shrunk


def _variances(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variances v of independent normal z whose shares E[z_k^2 / |z|^2] are those given.

    They exist for all positive shares that add up to 1, and are unique up to a factor: the shares
    are the gradient, by log v, of the convex E log |z|^2. By Jensen's inequality each step brings
    E log |z|^2 - sum_k shares_k log v_k further down.
    """
    variances = shares.copy()
    for _ in range(_MOST_STEPS):
        step = shares / _shares(variances)
        variances *= step
        variances /= variances.sum()
        if abs(step - 1).max(initial=0.0) < _CLOSE:  # none where no row has a direction
            break
    return variances


def _shares(variances: NDArray[np.float64]) -> NDArray[np.float64]:
    """E[z_k^2 / |z|^2] of independent normal z, whose variances v add up to 1.

    It is the integral over s > 0 of v_k / (1 + 2 s v_k) prod_j (1 + 2 s v_j)^(-1/2), by 1 / |z|^2 =
    integral of exp(-s |z|^2). In log s the integrand is smooth and falls off at both ends, where
    the trapezoidal rule converges exponentially (Trefethen and Weideman 2014).
    """
    s = np.exp(_LOG_S)[:, None]
    scaled = 2 * s * variances
    weight = np.exp(-np.log1p(scaled).sum(axis=1) / 2) * (_LOG_S[1] - _LOG_S[0]) / 2
    shares: NDArray[np.float64] = weight @ (scaled / (1 + scaled))
    return shares


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
