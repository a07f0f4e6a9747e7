"""The histogram dataset: counts of pairs by cosine, with edges, labels and totals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from geomsae import bins as bin_rule
from geomsae.dictionary import LABELS, SIZES
from geomsae.labels import DIMENSION, index_dictionaries

PROVENANCE = {
    "version": "geomsae that counted",
    "precision": "arithmetic of the products",
    "device": "what the products ran on",
    "revision": "revision of the repository that the decoder came from",
    "sha256": "SHA-256 of the decoder's float32 bytes, row by row",
}
"""How a count was made: coordinates along ``dictionary``, with what they mean."""


def histogram(count: Any, n_pairs: Any, n_excluded: Any, coords: dict[str, Any]) -> xr.Dataset:
    """Label the counts of one dictionary, or of one pair of dictionaries.

    Parameters
    ----------
    count : array_like, shape (bins,), int64
        Pairs in each of equal bins on [-1, 1]; NumPy or Dask.
    n_pairs, n_excluded : array_like, shape (), int64
        Pairs counted, and rows left out for want of a direction.
    coords : dict
        Scalar coordinates.

    Returns
    -------
    Dataset
        With the dimension ``cosine`` and the variables ``count``, ``n_pairs``, ``n_excluded``.
    """
    return _dataset((), count, n_pairs, n_excluded, count.shape[-1], coords)


def histograms(
    counts: Sequence[Any],
    n_pairs: Sequence[int],
    n_excluded: Sequence[int],
    ids: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    bins: int,
) -> xr.Dataset:
    """Label the counts of many dictionaries, selectable by any of their labels.

    Parameters
    ----------
    counts : sequence of array_like, each of shape (bins,), int64
        Pairs in each bin, for each dictionary.
    n_pairs, n_excluded : sequence of int
        Pairs counted, and rows left out for want of a direction.
    ids : sequence of str
        The dictionaries.
    columns : dict of sequence
        A value per dictionary for each of `LABELS`, `SIZES` and `PROVENANCE`.
    bins : int
        Number of bins.

    Returns
    -------
    Dataset
        With the dimensions ``dictionary`` and ``cosine``.
    """
    meaning = {**LABELS, **SIZES, **PROVENANCE}
    coords = {
        name: (DIMENSION, _column(name, columns[name]), {"long_name": text})
        for name, text in meaning.items()
    }
    coords[DIMENSION] = (
        DIMENSION,
        np.array(list(ids), dtype=object),
        {"long_name": "id of the dictionary"},
    )
    stacked = np.array(list(counts), np.int64).reshape(len(ids), bins)
    dataset = _dataset(
        (DIMENSION,),
        stacked,
        np.array(n_pairs, np.int64),
        np.array(n_excluded, np.int64),
        bins,
        coords,
    )
    return index_dictionaries(dataset)


def _column(name: str, values: Sequence[Any]) -> np.ndarray[Any, Any]:
    numbers = {"layer": np.int64, "n_features": np.int64, "d_model": np.int64, "l0": np.float64}
    return np.array(list(values), dtype=numbers.get(name, object))


def _dataset(
    lead: tuple[str, ...],
    count: Any,
    n_pairs: Any,
    n_excluded: Any,
    bins: int,
    coords: dict[str, Any],
) -> xr.Dataset:
    edges = bin_rule.edges(bins)
    cosine = {
        "cosine": (
            "cosine",
            bin_rule.centres(bins),
            {"long_name": "cosine similarity", "units": "1"},
        ),
        "cosine_left": ("cosine", edges[:-1], {"long_name": "left edge of the bin, inside it"}),
        "cosine_right": (
            "cosine",
            edges[1:],
            {"long_name": "right edge of the bin, outside it but for the last"},
        ),
    }
    return xr.Dataset(
        {
            "count": (
                (*lead, "cosine"),
                count,
                {"long_name": "unordered pairs of features", "units": "pairs"},
            ),
            "n_pairs": (lead, n_pairs, {"long_name": "pairs counted", "units": "pairs"}),
            "n_excluded": (
                lead,
                n_excluded,
                {"long_name": "features of zero norm, left out", "units": "features"},
            ),
        },
        coords={**cosine, **coords},
    )
