"""The shape of a dictionary as a whole: what its second moment tells, without any pair.

The unit rows U of a dictionary have a sum, and a d x d matrix of products of columns U^T U. Sums
over all pairs of cosines and of their squares follow from those two, at the cost of one pass.
"""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from dask.graph_manipulation import bind
from numpy.typing import NDArray

from geomsae.errors import DecoderError, GeomsaeError
from geomsae.pairs.blas import single_threaded_blas
from geomsae.pairs.panels import make_panel
from geomsae.pairs.plan import TILE

MATRIX = ("d_model", "other_d_model")
"""Dimensions of a second moment."""


def unit_rows(w: Any) -> xr.DataArray:
    """The directions of a dictionary: its rows, each divided by its norm.

    Parameters
    ----------
    w : array_like, shape (n_features, d_model)
        NumPy array, Dask array or DataArray, whose dimension ``feature``, if it has one, is taken
        as the rows. Any real type.

    Returns
    -------
    DataArray, dims (feature, d_model), float64
        Lazy, in chunks of whole rows; rows of zero norm stay zero. All coordinates of `w` stay.

    Raises
    ------
    DecoderError
        If `w` has not two dimensions or no real numbers; when computed, if rows are NaN or
        infinite.

    Examples
    --------
    >>> unit_rows(np.array([[3, 4], [0, 0]])).values
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    labelled = w if isinstance(w, xr.DataArray) else xr.DataArray(_array(w), name="decoder")
    if labelled.ndim != 2 or 0 in labelled.shape or labelled.dtype.kind not in "fiu":
        shape = " x ".join(map(str, labelled.shape)) or "a single value"
        raise DecoderError(
            "a decoder is a matrix of real numbers, one row per feature, "
            f"not {shape} of {labelled.dtype}"
        )
    if "feature" in labelled.dims:
        labelled = labelled.transpose("feature", ...)
    names = zip(labelled.dims, ("feature", "d_model"), strict=True)
    labelled = labelled.rename({old: new for old, new in names if old != new})
    rows = _in_chunks(labelled.data)
    unit = da.map_blocks(_unit, rows, dtype=np.float64, meta=np.empty((0, 0)))
    # Attributes and encoding tell of the values that were.
    return labelled.copy(data=unit).drop_attrs(deep=False).drop_encoding()


def second_moment(w: Any) -> xr.Dataset:
    """Mean and second moment of the directions of a dictionary.

    Parameters
    ----------
    w : array_like, shape (n_features, d_model)
        As `unit_rows` takes it.

    Returns
    -------
    Dataset, dims (d_model, other_d_model)
        Lazy. ``second_moment`` M = U^T U / n (d_model, other_d_model) and ``mean`` (d_model),
        float64, of the n unit rows U; ``n_directed`` = n, and ``n_excluded``, the rows of zero
        norm, which are left out. Coordinates of `w` stay, other than along ``feature``. Isotropic
        directions have the second moment 1 / d times the identity, and mean zero.

    Raises
    ------
    DecoderError
        As `unit_rows` raises it.

    Notes
    -----
    One pass, in which each thread holds the rows of one chunk and a few d x d matrices.

    Examples
    --------
    >>> second_moment(np.array([[2, 0], [0, 1], [0, 0]]))["second_moment"].values
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    rows = unit_rows(w)
    sums = _sums(rows.data)
    n_directed = xr.Variable((), sums[-1, -1])
    divisor = np.maximum(n_directed, 1)  # the mean of nothing is zero
    found = {
        "second_moment": (xr.Variable(MATRIX, sums[:-1, :-1]) / divisor, "mean of u u^T"),
        "mean": (xr.Variable(MATRIX[:1], sums[-1, :-1]) / divisor, "mean of the unit rows u"),
        "n_directed": (n_directed.astype(np.int64), "features that have a direction"),
        "n_excluded": (
            (len(rows) - n_directed).astype(np.int64),
            "features of zero norm, left out",
        ),
    }
    coords = {name: c for name, c in rows.coords.items() if "feature" not in c.dims}
    dataset = xr.Dataset({name: variable for name, (variable, _) in found.items()}, coords)
    for name, (_, meaning) in found.items():
        dataset[name].attrs["long_name"] = meaning
    return dataset


def anisotropy(w: Any, *, ranks: tuple[int, int] = (10, 150)) -> xr.Dataset:
    """How unevenly the directions of a dictionary fill their space, in numbers.

    Parameters
    ----------
    w : array_like, shape (n_features, d_model)
        As `unit_rows` takes it.
    ranks : tuple of int
        First and last rank, from 1, of the eigenvalues that the power law is fitted to, as far as
        they are positive.

    Returns
    -------
    Dataset, dims (d_model, component)
        Lazy. Of the n unit rows u_i, c_ij = u_i . u_j, and their second moment M with the
        eigenvalues l_k:

        - ``n_directed``, ``n_excluded``, ``mean`` (d_model): as `second_moment` gives them.
        - ``mean_length``: |m|, the length of the mean; 0 if directions cancel, 1 if all are one.
        - ``mean_cosine``: over unordered pairs, (n |m|^2 - 1) / (n - 1).
        - ``mean_square_cosine``: over unordered pairs, (n tr M^2 - 1) / (n - 1); its expectation
          is 1 / d for isotropic directions.
        - ``frame_potential``: the sum of c_ij^2 over all i and j, n^2 tr M^2.
        - ``frame_potential_bound``: the least that it can be, max(n, n^2 / d) (Benedetto and
          Fickus 2003, Finite Normalized Tight Frames).
        - ``effective_dimension``: the participation ratio (tr M)^2 / tr M^2 of the eigenvalues; d
          if they are all equal.
        - ``effective_rank``: exp of the entropy of the singular values s_k = sqrt(n l_k) of the
          matrix of unit rows, scaled to sum 1 (Roy and Vetterli 2007, definition 1).
        - ``spectrum`` (component): the eigenvalues, falling; they add up to 1. Those that cannot
          be told from zero in float64 are zero.
        - ``spectrum_slope``: of the straight line fitted to log l_k over log k, for ranks k as
          asked (Li, Michaud et al. 2025, The Geometry of Concepts, section 5.1); NaN where fewer
          than two are positive.

        Numbers over pairs are NaN where there is no pair. Coordinates of `w` stay, other than
        along ``feature``.

    Raises
    ------
    GeomsaeError
        If `ranks` are not two, rising from 1 or more.
    DecoderError
        As `unit_rows` raises it.

    Notes
    -----
    Published spectra are those of the covariance, about the mean, where this is about the origin,
    as cosines are: `anisotropy` of `centred` rows comes close to them, but for the lengths of rows.

    Examples
    --------
    >>> found = anisotropy(np.eye(3)).compute()
    >>> float(found["frame_potential"]), float(found["effective_dimension"])
    (3.0, 3.0)
    """
    first, last = ranks
    if not 1 <= first < last:
        raise GeomsaeError(f"ranks {first} to {last} make no line: use two, rising from 1 or more")
    moments = second_moment(w)
    d_model = moments.sizes["d_model"]
    n = moments["n_directed"].astype(np.float64)
    others = (n - 1).where(n > 1)
    concentration = (moments["second_moment"] ** 2).sum(MATRIX)  # tr M^2
    square = (moments["mean"] ** 2).sum("d_model")
    spectrum = _reduced(_spectrum, moments["second_moment"], MATRIX, d_model)
    found: dict[str, tuple[xr.DataArray, str]] = {
        "mean_length": (square.where(n > 0) ** 0.5, "length of the mean of the unit rows"),
        "mean_cosine": ((n * square - 1) / others, "mean cosine of pairs"),
        "mean_square_cosine": (
            ((n * concentration - 1) / others).clip(min=0),
            "mean squared cosine of pairs",
        ),
        "frame_potential": (n**2 * concentration, "sum of squared cosines, all with all"),
        "frame_potential_bound": (
            n.where(n <= d_model, n**2 / d_model),
            "least frame potential of as many directions",
        ),
        "effective_dimension": (
            1 / concentration.where(n > 0),
            "participation ratio of the spectrum",
        ),
        "effective_rank": (
            _reduced(_effective_rank, spectrum, ("component",)).where(n > 0),
            "exp of the entropy of the singular values",
        ),
        "spectrum": (spectrum, "eigenvalues of the second moment"),
        "spectrum_slope": (
            _reduced(_slope, spectrum, ("component",), first=first, last=last),
            f"power of the rank, fitted from {first} to {last}",
        ),
    }
    dataset = moments.drop_vars("second_moment").assign(
        {name: array.assign_attrs(long_name=text) for name, (array, text) in found.items()}
    )
    component = np.arange(1, d_model + 1)
    return dataset.assign_coords(
        component=("component", component, {"long_name": "1 for the largest eigenvalue"})
    )


def feature_dimensionality(w: Any) -> xr.DataArray:
    """What share of a dimension each feature has for itself.

    Parameters
    ----------
    w : array_like, shape (n_features, d_model)
        As `unit_rows` takes it.

    Returns
    -------
    DataArray, dims (feature,), float64
        D_i = 1 / sum_j c_ij^2 over all features j, itself included: 1 for one that is orthogonal
        to all others, 1 / k for one of k that coincide (Elhage et al. 2022, Toy Models of
        Superposition, "feature dimensionality", of unit rows). NaN for rows of zero norm. Lazy;
        all coordinates of `w` along ``feature`` and its scalar ones stay.

    Raises
    ------
    DecoderError
        As `unit_rows` raises it.

    Notes
    -----
    The sum over j is u_i^T (U^T U) u_i, so that no pair is formed; there are two passes over `w`.
    Over all features D adds up to no more than the rank of `w`.

    Examples
    --------
    >>> feature_dimensionality(np.array([[1, 0], [0, 2], [0, 3]])).values
    array([1. , 0.5, 0.5])
    """
    rows = unit_rows(w)
    products = _sums(rows.data)[:-1, :-1]
    again = unit_rows(read_again(w, products)).data
    overlap = ((again @ products) * again).sum(axis=1)
    found = rows.isel(d_model=0, drop=True).copy(data=overlap)
    dimensionality = (1 / found.where(found > 0)).rename("feature_dimensionality")
    return dimensionality.assign_attrs(long_name="dimensions that the feature has for itself")


def read_again(w: Any, known: Any) -> Any:
    """The same matrix, for a second pass over it that begins when the first is over.

    Were the rows of both passes the same to Dask, it would keep those of the first for the second.

    Parameters
    ----------
    w : array_like, shape (n_features, d_model)
        As `unit_rows` takes it.
    known : Dask collection
        What the first pass finds.
    """
    if isinstance(w, xr.DataArray):
        return w.copy(data=read_again(w.data, known))
    return bind(w, known) if isinstance(w, da.Array) else w


def eigenvalue_floor(values: NDArray[np.float64]) -> float:
    """Size below which float64 cannot tell eigenvalues of a second moment from zero."""
    return float(values.size * np.finfo(np.float64).eps * np.abs(values).max())


def _array(w: Any) -> Any:
    return w if isinstance(w, da.Array) else np.asarray(w)


def _in_chunks(data: Any) -> da.Array:
    """Chunks of whole rows, as many as there are columns or more.

    The d x d matrix that a chunk gives is then no larger than the chunk.
    """
    rows = TILE * -(-data.shape[1] // TILE)
    whole = (rows, data.shape[1])
    is_lazy = isinstance(data, da.Array)
    lazy: da.Array = data if is_lazy else da.from_array(data, chunks=whole, name=False)
    chunked: da.Array = lazy.rechunk(whole)
    return chunked


def _unit(block: Any, block_info: Any = None) -> NDArray[np.float64]:
    """Unit rows of one chunk."""
    first = block_info[0]["array-location"][0][0] if block_info else 0
    unit: NDArray[np.float64] = make_panel(block, "float64", first).unit
    return unit


def _sums(unit: da.Array) -> da.Array:
    """All sums at once, shape (d_model + 1, d_model + 1), float64.

    To each unit row a 1 is added, and a 0 to those of zero norm. The products of the columns are
    then U^T U; beside it, in the last row and column, the sum of the rows; and in the corner their
    number.
    """
    parts = [delayed(_products)(block) for block in unit.to_delayed().ravel()]
    while len(parts) > 1:
        parts = [delayed(_added)(*parts[i : i + 2]) for i in range(0, len(parts), 2)]
    side = unit.shape[1] + 1
    sums: da.Array = da.from_delayed(parts[0], (side, side), np.float64, meta=np.empty((0, 0)))
    return sums


def _products(unit: NDArray[np.float64]) -> NDArray[np.float64]:
    wide: NDArray[np.float64] = np.column_stack([unit, unit.any(axis=1).astype(np.float64)])
    with single_threaded_blas():
        return wide.T @ wide


def _added(*parts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.add(*parts) if len(parts) == 2 else parts[0]


def _reduced(
    function: Any, array: xr.DataArray, dims: tuple[str, ...], size: int | None = None, **words: int
) -> xr.DataArray:
    """Apply a function that takes all of `dims` and leaves a number, or ``component``."""
    found: xr.DataArray = xr.apply_ufunc(
        function,
        array,
        input_core_dims=[dims],
        output_core_dims=[["component"] if size else []],
        kwargs=words,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"component": size}} if size else {},
    )
    return found


def _spectrum(moment: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.asarray(np.linalg.eigvalsh(moment)[::-1], np.float64)
    return np.where(values > eigenvalue_floor(values), values, 0.0)


def _effective_rank(spectrum: NDArray[np.float64]) -> Any:
    singular = np.sqrt(spectrum[spectrum > 0])
    weight = singular / singular.sum()
    return np.exp(-(weight * np.log(weight)).sum())


def _slope(spectrum: NDArray[np.float64], first: int, last: int) -> Any:
    last = min(last, int(np.count_nonzero(spectrum)))
    if last <= first:
        return np.float64(np.nan)
    rank = np.log(np.arange(first, last + 1))
    rank -= rank.mean()
    return rank @ np.log(spectrum[first - 1 : last]) / (rank @ rank)
