"""What is kept about features and pairs: one group per dictionary, beside its histogram."""

from __future__ import annotations

from typing import Any

import xarray as xr

import geomsae
from geomsae.ask import Ask
from geomsae.errors import StoreError
from geomsae.store.guard import damaged, finished, open_array, read_values
from geomsae.store.hierarchy import Hierarchy
from geomsae.store.histograms import checksum
from geomsae.store.layout import COMPLETE, KIND, features_path
from geomsae.store.variables import write_variables


def write_features(
    hierarchy: Hierarchy, id: str, ask: Ask, dataset: xr.Dataset, made: dict[str, str]
) -> None:
    """Keep what is known about the features and pairs of one dictionary, whole or not at all.

    What was kept before makes room for it.

    Parameters
    ----------
    hierarchy : Hierarchy
        The store.
    id : str
        The dictionary.
    ask : Ask
        What was asked.
    dataset : Dataset
        As `geomsae.features.features` gives it.
    made : dict of str
        How it was made: ``device``, and the ``sha256`` of the decoder.
    """
    path = features_path(id, ask.bins, ask.precision)
    with hierarchy.staging() as stage:
        sums = {str(name): checksum(var.values) for name, var in dataset.variables.items()}
        attributes = {
            KIND: "features",
            "bins": ask.bins,
            "precision": ask.precision,
            "thresholds": list(ask.thresholds),
            "neighbours": ask.neighbours,
            "pairs": ask.pairs,
            "array_sha256": sums,
            **made,
            "version": geomsae.__version__,
            "status": COMPLETE,
        }
        write_variables(stage, path, dataset.variables, attributes)
        hierarchy.commit(stage, replaced=path)


def asked_before(hierarchy: Hierarchy, id: str, bins: int, precision: str) -> Ask | None:
    """What the features that are kept were asked; None where none are."""
    known = finished(hierarchy, features_path(id, bins, precision))
    if known is None:
        return None
    return Ask(bins, precision, tuple(known["thresholds"]), known["neighbours"], known["pairs"])


def read_features(
    hierarchy: Hierarchy, id: str, bins: int, precision: str, *dims: str
) -> xr.Dataset:
    """What is kept about the features and pairs of one dictionary.

    Parameters
    ----------
    hierarchy : Hierarchy
        The store.
    id : str
        The dictionary.
    bins, precision : int, str
        Of the pass that told.
    *dims : str
        Read the variables that lie along all of these dimensions, and the coordinates of theirs.

    Raises
    ------
    StoreError
        If nothing is kept, or it is not what was written.
    """
    path = features_path(id, bins, precision)
    known = finished(hierarchy, path)
    if known is None:
        raise StoreError(
            f"the store {hierarchy.location} knows nothing about the features of {id} with "
            f"{bins:,} bins and {precision}: count its pairs with 'geomsae histogram'"
        )
    arrays: dict[str, Any] = {
        name: open_array(hierarchy, path, name, known) for name in known["array_sha256"]
    }
    chosen = {n for n, array in arrays.items() if set(dims) <= set(array.metadata.dimension_names)}
    coords = {dim for name in chosen for dim in arrays[name].metadata.dimension_names}
    found: dict[str, tuple[Any, ...]] = {}
    for name in arrays:
        if name in chosen | coords:
            values = read_values(hierarchy, path, arrays[name])
            if checksum(values) != known["array_sha256"][name]:
                raise damaged(hierarchy, path, f"{name} is not what was written")
            attributes = dict(arrays[name].attrs)
            found[name] = (arrays[name].metadata.dimension_names, values, attributes)
    return xr.Dataset(found, attrs=known)
