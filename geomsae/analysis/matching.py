"""One feature to one: the matching of two dictionaries that is best as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment

from geomsae.analysis.moments import unit_rows
from geomsae.errors import DecoderError

MOST_COSINES = 8192 * 8192
"""Cosines between two dictionaries up to which they are matched."""


def one_to_one(w: Any, v: Any) -> xr.Dataset:
    """Match the features of two dictionaries, no feature twice, so that the mean cosine is largest.

    In `geomsae.compare` several features may have one and the same partner; here each has one of
    its own, as two dictionaries that were learnt from two seeds are held against each other.

    Parameters
    ----------
    w, v : array_like, shape (n_features, d_model) and (m_features, d_model)
        Decoders of one space, as `geomsae.compare` takes them; n m of at most 67,108,864, which
        is 8,192 features against 8,192.

    Returns
    -------
    Dataset, dims (feature,)
        Computed. ``partner`` (feature) int64, the number of the row of `v` that each row of `w` is
        matched with, -1 where it has none: rows of zero norm never match, and of the wider
        dictionary some are left over. ``cosine`` (feature) float64, NaN there; a feature may be
        matched with one that is not like it, where all that are have been given away. ``n_matched``
        () int64, the smaller number of rows with a direction; ``mean_cosine`` () float64, the mean
        over those.

    Raises
    ------
    DecoderError
        If a matrix has not two dimensions or no real numbers, if rows are NaN or infinite, if the
        two are of different spaces, or if there are too many features.

    Notes
    -----
    ``mean_cosine`` = max over one-to-one p of (1 / n) sum_i cos(w_i, v_p(i)). Of dictionaries of
    one width it is the pairwise dictionary mean correlation coefficient (PW-MCC; Song et al. 2025,
    arXiv:2505.20254); Paulo and Belrose 2025 (arXiv:2501.16615) match features so. The Hungarian
    matching by SciPy (Crouse 2016) takes time that grows as n^2 m for n <= m, and memory of
    16 n m bytes: the float64 cosines and a copy. At the limit that is 1 GB, and 2 to 20 s.

    Examples
    --------
    >>> found = one_to_one([[1, 0], [2, 1], [0, 0]], [[5, 0], [4, 0], [0, 1]])
    >>> found["partner"].values, round(found["mean_cosine"].item(), 4)
    (array([ 0,  1, -1]), 0.9472)
    """
    one, other = unit_rows(w), unit_rows(v)
    (n, d), (m, e) = one.shape, other.shape
    if d != e:
        raise DecoderError(
            f"rows of {d} and of {e} dimensions have no cosine: they are directions of different "
            "spaces"
        )
    if n * m > MOST_COSINES:
        raise DecoderError(
            f"{n:,} x {m:,} features are too many to match one to one: it takes a matrix of "
            f"{8 * n * m / 1e9:,.1f} GB, time that grows as the cube, and at most {MOST_COSINES:,} "
            "cosines; geomsae.compare finds best partners at any width"
        )
    rows, cols = one.values, other.values
    mine, others = (np.flatnonzero(unit.any(axis=1)) for unit in (rows, cols))
    # Rounding may leave a cosine a little outside.
    cosines = np.clip(rows[mine] @ cols[others].T, -1, 1)
    left, right = linear_sum_assignment(cosines, maximize=True)
    partner, cosine = np.full(n, -1, np.int64), np.full(n, np.nan)
    partner[mine[left]] = others[right]
    cosine[mine[left]] = cosines[left, right]
    mean = cosines[left, right].mean() if left.size else np.nan
    return xr.Dataset(
        {
            "partner": ("feature", partner, {"long_name": "feature of the other dictionary"}),
            "cosine": ("feature", cosine, {"long_name": "cosine similarity with it"}),
            "n_matched": ((), np.int64(left.size), {"long_name": "features matched"}),
            "mean_cosine": ((), mean, {"long_name": "mean cosine of the matched (PW-MCC)"}),
        }
    )
