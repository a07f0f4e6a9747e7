"""Coherence: the largest |cosine| of a dictionary, and the least that it can be."""

from __future__ import annotations

import math

import xarray as xr

from geomsae.errors import GeomsaeError


def welch_bound(n_features: int, d_model: int) -> float:
    """The least coherence that so many directions can have.

    Parameters
    ----------
    n_features, d_model : int
        Directions, and dimensions of the space; 1 or more.

    Returns
    -------
    float
        sqrt((n - d) / (d (n - 1))), a lower bound of the largest absolute cosine (Welch 1974, of
        first order); 0 where n <= d, and directions can be orthogonal.

    Raises
    ------
    GeomsaeError
        If there are no directions or no dimensions.

    Examples
    --------
    >>> welch_bound(3, 2)  # three axes of a plane, 60 degrees apart
    0.5
    """
    if n_features < 1 or d_model < 1:
        raise GeomsaeError(
            f"{n_features} directions in {d_model} dimensions have no bound: use 1 or more of each"
        )
    if n_features <= d_model:
        return 0.0
    return math.sqrt((n_features - d_model) / (d_model * (n_features - 1)))


def coherence(pairs: xr.Dataset) -> xr.DataArray:
    """The largest absolute cosine of any pair.

    Parameters
    ----------
    pairs : Dataset
        ``top_similar_cosine`` and ``top_opposite_cosine`` (pair), as `Store.pairs` and
        ``cosine_histogram(w, pairs=1)`` give them.

    Returns
    -------
    DataArray
        The mutual coherence max |c_ij| over i < j (Donoho and Huo 2001), at least `welch_bound`.
        NaN where there is no pair. Lazy if `pairs` is; scalar coordinates stay.

    Raises
    ------
    GeomsaeError
        If `pairs` has no extreme pairs.

    Examples
    --------
    >>> import numpy as np
    >>> import geomsae
    >>> w = np.array([[1, 0], [-4, 3], [0, 1]])
    >>> round(float(coherence(geomsae.cosine_histogram(w, pairs=1))), 6)
    0.8
    """
    ends = ("top_similar_cosine", "top_opposite_cosine")
    missing = [name for name in ends if name not in pairs]
    if missing:
        raise GeomsaeError(
            f"the coherence is the largest of the extreme pairs, and {missing[0]!r} is not there: "
            "ask for them with cosine_histogram(w, pairs=1)"
        )
    similar, opposite = (abs(pairs[name]).max("pair") for name in ends)
    largest = similar.where(similar > opposite, opposite).rename("coherence")
    return largest.assign_attrs(long_name="largest |cosine| of a pair", units="1")
