"""Histograms in the store: one small group per dictionary, read together as one dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import geomsae
from geomsae.dictionary import LABELS, SIZES, Dictionary
from geomsae.histogram import PROVENANCE, histograms
from geomsae.store.guard import damaged, finished, read_array
from geomsae.store.hierarchy import Hierarchy
from geomsae.store.layout import COMPLETE, KIND, histogram_path
from geomsae.store.variables import write_variables


def write_histogram(
    hierarchy: Hierarchy,
    id: str,
    dataset: xr.Dataset,
    made: dict[str, str],
) -> None:
    """Keep the histogram of one dictionary beside its decoder, whole or not at all.

    Parameters
    ----------
    hierarchy : Hierarchy
        The store.
    id : str
        The dictionary.
    dataset : Dataset
        As `geomsae.cosine_histogram` gives it, computed.
    made : dict of str
        How it was made: ``precision``, ``device``, and the ``sha256`` of the decoder.
    """
    count = np.asarray(dataset["count"], np.int64)
    path = histogram_path(id, count.size, made["precision"])
    with hierarchy.staging() as stage:
        attributes = {
            KIND: "histogram",
            "bins": count.size,
            "n_pairs": int(dataset["n_pairs"]),
            "n_excluded": int(dataset["n_excluded"]),
            "count_sha256": checksum(count),
            **made,
            "version": geomsae.__version__,
            "status": COMPLETE,
        }
        named = ("count", "cosine", "cosine_left", "cosine_right")
        write_variables(stage, path, {name: dataset[name] for name in named}, attributes)
        hierarchy.commit(stage)


def checksum(values: NDArray[Any]) -> str:
    """SHA-256 of values, little-endian: no law on sums sees one pair in the next bin."""
    return hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()


def read_histograms(
    hierarchy: Hierarchy,
    decoders: Iterable[tuple[str, dict[str, Any]]],
    bins: int,
    precision: str,
) -> xr.Dataset:
    """Every histogram with these bins and this precision, as one labelled dataset.

    Raises
    ------
    StoreError
        If the counts of one are not those that were written.
    """
    ids: list[str] = []
    counts: list[NDArray[np.int64]] = []
    results: list[dict[str, Any]] = []
    columns: dict[str, list[Any]] = {name: [] for name in (*LABELS, *SIZES, *PROVENANCE)}
    for id, attributes in decoders:
        path = histogram_path(id, bins, precision)
        result = finished(hierarchy, path)
        if result is None:
            continue
        count = read_array(hierarchy, path, "count", result)
        if checksum(count) != result["count_sha256"]:
            raise damaged(hierarchy, path, "its counts are not those that were written")
        ids.append(id)
        counts.append(count)
        results.append(result)
        row = {
            **Dictionary.from_json(attributes).coordinates(),
            **{name: attributes[name] for name in SIZES},
            **{name: result.get(name, "") for name in PROVENANCE},
            "revision": attributes.get("revision", ""),
        }
        for name, column in columns.items():
            column.append(row[name])
    return histograms(
        counts,
        [result["n_pairs"] for result in results],
        [result["n_excluded"] for result in results],
        ids,
        columns,
        bins,
    )
