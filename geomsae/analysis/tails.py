"""The tails: what share of pairs is further than a threshold from being orthogonal."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from geomsae import bins as bin_rule
from geomsae.analysis.null import isotropic_tail
from geomsae.dictionary import LABELS, SIZES
from geomsae.labels import DIMENSION


def tail_fraction(hist: xr.Dataset, threshold: float | Iterable[float] = 0.1) -> xr.DataArray:
    """Share of pairs whose cosine is at least `threshold`, or below minus it.

    Parameters
    ----------
    hist : Dataset
        Histograms over all bins on [-1, 1]: ``count`` (..., cosine) and ``n_pairs`` (...).
    threshold : float or iterable of float
        On an edge of the bins, in [0, 1).

    Returns
    -------
    DataArray, float64
        The dimensions of ``n_pairs``, and ``threshold`` where several were asked for. NaN where
        there are no pairs. Lazy if `hist` is.

    Raises
    ------
    ThresholdError
        If a threshold lies inside a bin; the sentence names the nearest edges.
    ValueError
        If `hist` has lost some of its bins, as by a selection of cosines.

    Examples
    --------
    >>> import geomsae, numpy as np
    >>> hist = geomsae.cosine_histogram(np.array([[1, 0], [0, 1], [1, 1]]))
    >>> tail_fraction(hist, 0.5).compute().item()
    0.6666666666666666
    """
    left = hist["cosine_left"].values
    if left.size < 2 or not np.array_equal(left, bin_rule.edges(left.size)[:-1]):
        raise ValueError("the tail is a share of all pairs: give the histogram with all its bins")
    several = isinstance(threshold, Iterable)
    thresholds = list(threshold) if isinstance(threshold, Iterable) else [threshold]
    tails = xr.DataArray(
        np.stack([bin_rule.tail_bins(left.size, t) for t in thresholds]),
        dims=("threshold", "cosine"),
        coords={"threshold": ("threshold", thresholds, {"long_name": "least |cosine|"})},
    )
    inside = hist["count"].where(tails, 0).sum("cosine")
    share = (inside / hist["n_pairs"].where(hist["n_pairs"] > 0)).rename("tail_fraction")
    share = share if several else share.isel(threshold=0)
    return share.assign_attrs(long_name="share of pairs in the tails", units="1")


def tail_table(hist: xr.Dataset, threshold: float = 0.1) -> pd.DataFrame:
    """Tail shares with the labels of their dictionaries, and what isotropy alone would give.

    Parameters
    ----------
    hist : Dataset, dims (dictionary, cosine)
        As `Store.histograms` gives it.
    threshold : float
        On an edge of the bins.

    Returns
    -------
    DataFrame
        Indexed by id: every label and size, ``n_pairs``, ``n_tail``, ``tail_fraction``, and the
        ``isotropic`` tail share of directions that are uniform on the sphere.
    """
    share = tail_fraction(hist, threshold)
    table = pd.DataFrame(
        {name: hist[name].values for name in (*LABELS, *SIZES)},
        index=pd.Index(hist[DIMENSION].values, name=DIMENSION),
    )
    table["n_pairs"] = hist["n_pairs"].values
    table["n_excluded"] = hist["n_excluded"].values
    in_tail = bin_rule.tail_bins(hist.sizes["cosine"], threshold)
    table["n_tail"] = hist["count"].values[:, in_tail].sum(axis=1)
    table["tail_fraction"] = share.values
    table["isotropic"] = [isotropic_tail(d, threshold) for d in table["d_model"]]
    return table
