"""One dictionary against another: best partners in both directions, and what they amount to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from geomsae.bins import DEFAULT_BINS
from geomsae.dictionary import LABELS
from geomsae.errors import SelectionError
from geomsae.features import OTHER
from geomsae.labels import DIMENSION
from geomsae.pairs.cosine import cosine_histogram

MATCHED = (0.7, 0.9, 0.95)
"""Cosines from which a feature is said to be matched, unless told otherwise."""


def compare(
    w: Any,
    v: Any,
    *,
    bins: int = DEFAULT_BINS,
    precision: str = "float32",
    thresholds: Iterable[float] = MATCHED,
    device: str = "auto",
) -> xr.Dataset:
    """Compare the directions of two dictionaries.

    Parameters
    ----------
    w, v : array_like, shape (n_features, d_model) and (m_features, d_model)
        Decoders of one space, as `geomsae.cosine_histogram` takes them.
    bins : int
        Equal bins of the histogram.
    precision, device : str
        As `geomsae.cosine_histogram` takes them.
    thresholds : iterable of float
        Cosines from which a feature counts as matched; each on an edge of the bins.

    Returns
    -------
    Dataset
        Lazy. The histogram over all pairs of a row of `w` and a row of `v`, ``nearest``,
        ``nearest_cosine``, ``opposite``, ``opposite_cosine`` and ``degree`` for the features of
        `w`, the same beginning with ``other_`` for those of `v`, and what `summarise` adds.

    Examples
    --------
    >>> import numpy as np
    >>> found = compare(np.eye(3)[:2], np.eye(3), thresholds=[0.9]).compute()
    >>> found.mean_max_cosine.item(), found.other_mean_max_cosine.item()
    (1.0, 0.6666666666666666)
    >>> found.n_unmatched.values, found.other_n_unmatched.values
    (array([0]), array([1]))
    """
    chosen = tuple(thresholds)
    found = cosine_histogram(
        w, v, bins=bins, precision=precision, thresholds=chosen, neighbours=1, device=device
    )
    return summarise(found)


def summarise(found: xr.Dataset) -> xr.Dataset:
    """Add what the best partners in both directions amount to.

    Parameters
    ----------
    found : Dataset
        ``nearest``, ``nearest_cosine`` and ``degree`` of the features on both sides, as
        `geomsae.cosine_histogram` of two matrices gives them.

    Returns
    -------
    Dataset
        With, for the features of the first matrix and, beginning with ``other_``, of the second:
        ``mean_max_cosine`` (), the mean over features of the cosine with the nearest of *all*
        features of the other dictionary (Sharkey, Braun and Millidge 2022 call it mean max cosine
        similarity); ``share_matched`` (threshold), the share of features whose nearest is at least
        so near; ``n_unmatched`` (threshold), how many have none so near; and ``mean_partners``
        (threshold), to how many features of the other one, with a cosine of either sign, a matched
        feature is so near: above 1 where features split. Rows of zero norm are left out.
    """
    added: dict[str, xr.DataArray] = {}
    for prefix, feature in (("", "feature"), (OTHER, f"{OTHER}feature")):
        best = found[f"{prefix}nearest_cosine"].isel(rank=0, drop=True).astype("float64")
        matched = best >= found["threshold"]
        directed = best.notnull().sum(feature)
        added[f"{prefix}mean_max_cosine"] = best.mean(feature).assign_attrs(
            long_name="mean cosine with the nearest feature of the other dictionary"
        )
        added[f"{prefix}share_matched"] = (matched.sum(feature) / directed).assign_attrs(
            long_name="share of features with a partner so near", units="1"
        )
        added[f"{prefix}n_unmatched"] = (directed - matched.sum(feature)).assign_attrs(
            long_name="features without a partner so near", units="features"
        )
        partners = found[f"{prefix}degree"].where(matched).mean(feature)
        added[f"{prefix}mean_partners"] = partners.assign_attrs(
            long_name="partners so near, of a feature that has any"
        )
    return found.assign(added)


def comparison_matrix(results: Iterable[xr.Dataset], *, diagonal: bool = False) -> xr.DataArray:
    """Comparisons of several dictionaries with each other as one table, two by two.

    Parameters
    ----------
    results : iterable of Dataset
        As `geomsae.compare_stored` gives them: ``mean_max_cosine`` and ``other_mean_max_cosine``,
        with the scalar coordinates ``dictionary`` and ``other_dictionary``.
    diagonal : bool
        Whether a dictionary is 1 beside itself, as it is by definition; else NaN.

    Returns
    -------
    DataArray, dims (dictionary, other_dictionary)
        ``mean_max_cosine``, float64: the mean over the features of the first dictionary of the
        cosine with the nearest of all features of the other. Not symmetric: one result fills two
        places. NaN where two were not compared. Dictionaries stand in the order in which they came,
        with those of their labels that every result has, as ``layer`` (dictionary) and
        ``other_layer`` (other_dictionary).

    Raises
    ------
    SelectionError
        If there are no results, or one does not say of which dictionaries it is.

    Examples
    --------
    >>> found = compare(np.eye(3)[:2], np.eye(3), thresholds=[0.9])
    >>> comparison_matrix([found.assign_coords(dictionary="a", other_dictionary="b")]).values
    array([[       nan, 1.        ],
           [0.66666667,        nan]])
    """
    means = ("mean_max_cosine", f"{OTHER}mean_max_cosine")
    computed = [found[list(means)].compute() for found in results]
    if not computed:
        raise SelectionError("there is nothing to put side by side: compare two dictionaries first")
    both = (DIMENSION, f"{OTHER}{DIMENSION}")
    known: dict[str, dict[str, Any]] = {}
    for found in computed:
        if not set(both) <= set(found.coords):
            raise SelectionError(
                "a comparison does not say of which dictionaries it is: take "
                f"geomsae.compare_stored, or assign_coords({both[0]}=..., {both[1]}=...)"
            )
        for prefix in ("", OTHER):
            labels = {name: found.get(f"{prefix}{name}") for name in (DIMENSION, *LABELS)}
            said = {name: label.item() for name, label in labels.items() if label is not None}
            known.setdefault(said[DIMENSION], said)
    ids = list(known)
    values = np.full((len(ids), len(ids)), np.nan)
    if diagonal:
        np.fill_diagonal(values, 1.0)
    for found in computed:
        one, other = (ids.index(found[name].item()) for name in both)
        values[other, one] = found[means[1]].item()
        values[one, other] = found[means[0]].item()
    coords: dict[str, Any] = {name: (name, ids) for name in both}
    for name, meaning in LABELS.items():
        if all(name in said for said in known.values()):
            column = [said[name] for said in known.values()]
            for dim, prefix in zip(both, ("", OTHER), strict=True):
                coords[f"{prefix}{name}"] = (dim, column, {"long_name": meaning})
    about = {"long_name": "mean cosine with the nearest feature of the other dictionary"}
    return xr.DataArray(values, coords, both, means[0], about)
