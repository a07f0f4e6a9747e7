"""How sure a tail share is: its standard error, its interval, and the difference of two.

The share of pairs in the tails is a U-statistic of degree two over the features of a dictionary,
so the degrees, the number of tail pairs of each feature, hold its whole variance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.special import betainccinv, betaincinv, ndtri

from geomsae.errors import GeomsaeError, SelectionError

LEVEL = 0.95
"""Confidence of an interval unless told."""

TRUSTED_PAIRS = 10
"""The least number of effectively independent pairs, in the tails and outside, to be trusted."""

TRUSTED_FEATURES = 50
"""The least number of features that carry the error of a share to be trusted."""

_MEANING = {
    "tail_fraction": "share of pairs in the tails",
    "standard_error": "standard error of the share over features",
    "lower": "lower end of the confidence interval",
    "upper": "upper end of the confidence interval",
    "effective_pairs": "independent tail pairs that would be as sure",
    "effective_features": "features that carry the error",
    "trusted": "whether the interval covers as often as it says",
}

_MEANING_OF_DIFFERENCE = {
    "difference": "difference of the tail shares",
    "standard_error": "standard error of the difference over features",
    "lower": "lower end of the confidence interval of the difference",
    "upper": "upper end of the confidence interval of the difference",
    "log_ratio": "natural logarithm of the ratio of the tail shares",
    "log_ratio_error": "standard error of the logarithm of the ratio",
    "log_ratio_lower": "lower end of the confidence interval of the logarithm of the ratio",
    "log_ratio_upper": "upper end of the confidence interval of the logarithm of the ratio",
    "trusted": "whether both shares are trusted",
}


def tail_error(
    features: xr.Dataset, *, level: float = LEVEL, n_directed: Any = None
) -> xr.Dataset:
    """Tail shares with their standard errors and confidence intervals, from the degrees.

    The error is over features: those of one dictionary are regarded as a sample from all that might
    have been learnt, independent of each other. It says how far the share would move if other
    features of the same kind had been drawn, and nothing of how it moves from one training run to
    the next, which takes several runs to know.

    Parameters
    ----------
    features : Dataset
        ``degree`` (..., feature, threshold) int64: the pairs of each feature in the tails, as
        `Store.features` and `cosine_histogram` give them. A dimension ``dictionary`` may lead. Lazy
        if `features` is.
    level : float
        Confidence of the interval, in (0, 1).
    n_directed : int or DataArray, optional
        Features with a direction. Unless given, those of positive ``norm`` (feature), or else all
        but ``n_excluded``, or else all.

    Returns
    -------
    Dataset
        Over the dimensions of ``degree`` but ``feature``, with its other coordinates, float64:
        ``tail_fraction``, NaN without pairs; ``standard_error``, NaN below 4 features, of which no
        two pairs are apart; ``lower`` and ``upper``; ``effective_pairs``, as many independent tail
        pairs would be as sure; ``effective_features``, how many of the features carry the error;
        and ``trusted`` (bool), whether there are 10 effective pairs in the tails, 10 outside, and
        50 effective features, as many as it takes for the interval to cover what it should.
        Results of single dictionaries are put together by ``xarray.concat(..., "dictionary")``.

    Raises
    ------
    SelectionError
        If there are no degrees, or they are of pairs between two dictionaries.
    GeomsaeError
        If `level` is none, or `n_directed` is more than the features there are.

    Notes
    -----
    With n features, N = n (n - 1) / 2 pairs, a share p and degrees d, the variance of p is
    (Hoeffding 1948)

        var = [4 (n - 2) z1 + 2 z2] / [n (n - 1)],
        z1 = sum d (d - 1) / [n (n - 1) (n - 2)] - p^2,    z2 = p (1 - p).

    As p^2 is on average too large by the variance itself, this is too small by the factor
    (n - 2) (n - 3) / [n (n - 1)], and is divided by it: the result is p^2 less the mean product of
    two pairs without a common feature, and free of bias. As z1 is itself a variance, an estimate
    below 0 is taken for 0: the variance is never below p (1 - p) / N, that of independent pairs.

    The interval is that of Clopper and Pearson (1934) at the effective number of pairs
    N* = p (1 - p) / var, of which N* p lie in the tails (Korn and Graubard 1998). It is not
    symmetric, and never reaches below 0. Without a pair in the tails N* is N, as if pairs were
    independent, and the share is not trusted.

    The features that carry the error are counted by (sum w)^2 / sum w^2, where w is the squared
    deviation of a degree from their mean, over the square of the part that z1 has in the variance,
    and at most n. Where they are few, the error itself is not well known.

    Examples
    --------
    >>> degree = xr.DataArray([[2], [1], [1], [0], [0], [0]], dims=("feature", "threshold"))
    >>> found = tail_error(xr.Dataset({"degree": degree}, {"threshold": [0.5]}))
    >>> found["tail_fraction"].round(4).item(), found["standard_error"].round(4).item()
    (0.1333, 0.0943)
    >>> found["trusted"].item()
    False
    """
    _check_level(level)
    if "degree" not in features:
        raise SelectionError("there are no degrees: ask for them with thresholds=")
    if "other_degree" in features:
        raise SelectionError(
            "the degrees are of pairs between two dictionaries: give those within one"
        )
    found = _shares(features["degree"], _directed(features, n_directed))
    found.update(_interval(found["tail_fraction"], found["effective_pairs"], level))
    ordered = {name: found[name].assign_attrs(long_name=_MEANING[name]) for name in _MEANING}
    return xr.Dataset(ordered, attrs={"level": level})
