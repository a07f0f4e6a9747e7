"""What chance alone would give: the law of the cosine of two isotropic directions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincc, betaln

from geomsae.errors import GeomsaeError, ThresholdError

_LEAST = 1e-290
"""Below this the logarithm of a tail is found without the tail, which would soon underflow."""


def isotropic_tail(d_model: int, threshold: float) -> float:
    """Probability that the cosine of two isotropic directions lies beyond a threshold.

    Parameters
    ----------
    d_model : int
        Dimensions of the space, 1 or more.
    threshold : float
        In [0, 1].

    Returns
    -------
    float
        P(abs(c) >= t). For a cosine c in d dimensions, (1 + c) / 2 is distributed as
        Beta((d - 1) / 2, (d - 1) / 2), and hence 1 - c^2 as Beta((d - 1) / 2, 1 / 2); see Muirhead,
        Aspects of Multivariate Statistical Theory (1982), theorem 1.5.7. The regularised
        incomplete beta function of the latter keeps twelve digits down to 1e-300. In one dimension
        every cosine is 1 or -1.

    Raises
    ------
    GeomsaeError
        If there are no dimensions.
    ThresholdError
        If the threshold is no size of a cosine.

    See Also
    --------
    isotropic_log_tail : its logarithm, where it is too small for a float.

    Examples
    --------
    >>> f"{isotropic_tail(2304, 0.1):.4e}", f"{isotropic_tail(3584, 0.1):.4e}"
    ('1.5055e-06', '1.9678e-09')
    """
    _check(d_model, threshold)
    return float(_beyond(d_model, threshold))


def isotropic_log_tail(d_model: int, threshold: float) -> float:
    """Natural logarithm of `isotropic_tail`, also where the tail itself is too small for a float.

    Parameters
    ----------
    d_model : int
        Dimensions of the space, 1 or more.
    threshold : float
        In [0, 1].

    Returns
    -------
    float
        log P(abs(c) >= t); minus infinity at t = 1 in two dimensions or more. With a = (d - 1) / 2
        and x = 1 - t^2, the far tail is x^a / (a B(a, 1/2)) times the hypergeometric series
        2F1(1/2, a; a + 1; x); see Abramowitz and Stegun (1964), equations 6.6.2 and 6.6.8.

    Raises
    ------
    GeomsaeError
        If there are no dimensions.
    ThresholdError
        If the threshold is no size of a cosine.

    Examples
    --------
    >>> round(isotropic_log_tail(2304, 0.9), 6)
    -1916.32361
    """
    tail = isotropic_tail(d_model, threshold)
    if tail >= _LEAST:
        return math.log(tail)
    x = (1 - threshold) * (1 + threshold)
    if x == 0:
        return -math.inf
    a = (d_model - 1) / 2
    k = np.arange(1 + math.ceil(math.log(np.finfo(np.float64).eps) / math.log(x)))
    terms = np.cumprod((k + 0.5) / (k + 1) * x) * a / (a + k + 1)
    return float(a * math.log(x) - math.log(a) - betaln(a, 0.5) + math.log1p(terms.sum()))


def isotropic_share(d_model: int, edges: ArrayLike) -> NDArray[np.float64]:
    """Probability that the cosine of two isotropic directions falls into each bin.

    Parameters
    ----------
    d_model : int
        Dimensions of the space, 1 or more.
    edges : array_like, shape (bins + 1,)
        Rising, on [-1, 1]. Bins are half-open, but for one that ends at 1, which is closed.

    Returns
    -------
    ndarray, shape (bins,), float64
        Each right in relative terms, however far out its bin lies, until it falls below 1e-300.
        The law is that of `isotropic_tail`; a bin is the difference of the two smallest
        probabilities that differ by it, of cosines further out than its edges or further in.

    Raises
    ------
    GeomsaeError
        If there are no dimensions, or the edges do not rise from -1 or more to 1 or less.

    Examples
    --------
    >>> isotropic_share(3, [-1, -0.5, 0, 0.5, 1])  # uniform: Archimedes' hat box
    array([0.25, 0.25, 0.25, 0.25])
    """
    ends = np.asarray(edges, np.float64)
    if ends.ndim != 1 or ends.size < 2 or not (np.diff(ends) > 0).all() or abs(ends).max() > 1:
        raise GeomsaeError("edges of bins of cosines rise from -1 or more to 1 or less")
    return _share(d_model, ends[:-1], ends[1:])


def expected_counts(hist: xr.Dataset, d_model: int | None = None) -> xr.DataArray:
    """Pairs that each bin of a histogram would hold if directions were isotropic.

    Parameters
    ----------
    hist : Dataset
        ``count`` (..., cosine) and ``n_pairs`` (...), as `Store.histograms` and
        `cosine_histogram` give them, or any selection from them.
    d_model : int, optional
        Dimensions of the space, where `hist` has no coordinate ``d_model``, or instead of it: a
        dictionary may span fewer.

    Returns
    -------
    DataArray, float64
        ``expected``, with the dimensions and coordinates of ``count``: ``n_pairs`` times
        `isotropic_share`. Lazy where ``n_pairs`` is.

    Raises
    ------
    GeomsaeError
        If nothing says how many dimensions there are.

    See Also
    --------
    with_expected : puts them beside the counts.

    Examples
    --------
    >>> import geomsae, numpy as np
    >>> hist = geomsae.cosine_histogram(np.eye(3), bins=4)
    >>> expected_counts(hist, d_model=3).values
    array([0.75, 0.75, 0.75, 0.75])
    """
    if d_model is None and "d_model" not in hist.coords:
        raise GeomsaeError(
            "the histogram does not say how many dimensions there are: give expected_counts(hist, "
            "d_model=...)"
        )
    left, right = hist["cosine_left"].values, hist["cosine_right"].values
    sizes = xr.Variable((), d_model) if d_model is not None else hist["d_model"].variable
    different, which = np.unique(sizes.values, return_inverse=True)
    shares = np.array([_share(int(d), left, right) for d in different]).reshape(-1, left.size)
    share = xr.Variable((*sizes.dims, "cosine"), shares[which.reshape(sizes.shape)])
    counts = hist["count"]
    expected = (hist["n_pairs"].variable * share).transpose(*counts.dims)
    return (
        counts.copy(data=expected.data)
        .drop_encoding()
        .rename("expected")
        .assign_attrs(long_name="expected pairs of isotropic directions", units="pairs")
    )


def with_expected(hist: xr.Dataset, d_model: int | None = None) -> xr.Dataset:
    """Put what isotropic directions would give beside the counts of a histogram.

    Parameters
    ----------
    hist, d_model : Dataset, int
        As `expected_counts` takes them.

    Returns
    -------
    Dataset
        `hist` with the variable ``expected``.

    Raises
    ------
    GeomsaeError
        If nothing says how many dimensions there are.

    Notes
    -----
    ``hist.assign`` of a labelled array would take its labels off first, and an index over several
    of them forbids that; its bare variable has none.

    Examples
    --------
    >>> import geomsae, numpy as np
    >>> hist = with_expected(geomsae.cosine_histogram(np.eye(3), bins=4), d_model=3)
    >>> (hist["count"] / hist["expected"]).values
    array([0., 0., 4., 0.])
    """
    return hist.assign(expected=expected_counts(hist, d_model).variable)


def sampled_tail_spread(n_features: int, d_model: int, threshold: float) -> tuple[float, float]:
    """How many tail pairs a random dictionary has, and how much that varies from draw to draw.

    Parameters
    ----------
    n_features : int
        Directions drawn, independent and isotropic.
    d_model : int
        Dimensions of the space, 1 or more.
    threshold : float
        In [0, 1].

    Returns
    -------
    expected, deviation : float
        Mean N p and standard deviation sqrt(N p (1 - p)) of the number of pairs with
        abs(c) >= t, where N = n (n - 1) / 2 and p is `isotropic_tail`. Both are exact. Pairs that
        share no direction are independent. Of two that share one, given that direction each cosine
        has the same law whatever the direction is, so that these are independent too. Indicators
        that are independent in pairs have no covariance, and their variances add up, though three
        pairs of three directions are dependent.

    Raises
    ------
    GeomsaeError
        If there are no dimensions.
    ThresholdError
        If the threshold is no size of a cosine.

    Examples
    --------
    >>> expected, deviation = sampled_tail_spread(16384, 3584, 0.1)
    >>> round(expected, 3), round(deviation, 3)
    (0.264, 0.514)
    """
    _check(d_model, threshold)
    pairs = n_features * (n_features - 1) / 2
    tail, rest = float(_beyond(d_model, threshold)), float(_within(d_model, threshold))
    return pairs * tail, math.sqrt(pairs * tail * rest)


def _check(d_model: int, threshold: float = 0.0) -> None:
    if d_model < 1:
        raise GeomsaeError(f"there is no direction in {d_model} dimensions: use 1 or more")
    if not 0 <= threshold <= 1:
        raise ThresholdError(f"threshold {threshold:g} is no size of a cosine: use 0 to 1")


def _beyond(d_model: int, t: Any) -> Any:
    """P(abs(c) >= t) for t in [0, 1], elementwise."""
    if d_model == 1:
        return np.ones_like(t, np.float64)
    # Each keeps its digits where the other loses some: t^2 is exact near 0, 1 - t^2 near 1.
    a, square = (d_model - 1) / 2, np.square(t)
    return np.where(square < 0.5, betaincc(0.5, a, square), betainc(a, 0.5, (1 - t) * (1 + t)))


def _within(d_model: int, t: Any) -> Any:
    """P(abs(c) < t) for t in [0, 1], elementwise."""
    if d_model == 1:
        return np.zeros_like(t, np.float64)
    return betainc(0.5, (d_model - 1) / 2, np.square(t))


def _share(
    d_model: int, left: NDArray[np.float64], right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probability of each bin, whichever bins there are."""
    _check(d_model)
    if d_model == 1:
        return np.where(left == -1, 0.5, 0.0) + np.where(right == 1, 0.5, 0.0)
    near, far = np.minimum(abs(left), abs(right)), np.maximum(abs(left), abs(right))
    inner, outer = _within(d_model, near), _within(d_model, far)
    above, below = _beyond(d_model, near), _beyond(d_model, far)
    aside = np.where(outer < above, outer - inner, above - below)
    share: NDArray[np.float64] = np.where(left * right < 0, inner + outer, aside) / 2
    return share
