"""What is kept about features and pairs: one group per dictionary, beside its histogram."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
import zarr

import geomsae
from geomsae.ask import Ask
from geomsae.errors import StoreError
from geomsae.store.hierarchy import Hierarchy
from geomsae.store.histograms import checksum
from geomsae.store.layout import COMPLETE, KIND, create_array, features_path


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
        target = zarr.storage.LocalStore(stage)
        sums = {}
        for name, variable in dataset.variables.items():
            values = np.asarray(variable)
            array = create_array(
                target,
                f"{path}/{name}",
                values.shape,
                values.shape,
                values.dtype.name,
                tuple(map(str, variable.dims)),
                dict(variable.attrs),
            )
            array[...] = values
            sums[str(name)] = checksum(values)
        zarr.open_group(target, path=path, mode="r+").update_attributes(
            {
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
        )
        hierarchy.commit(stage, replaced=path)


def asked_before(hierarchy: Hierarchy, id: str, bins: int, precision: str) -> Ask | None:
    """What the features that are kept were asked; None where none are."""
    known = hierarchy.attributes(features_path(id, bins, precision))
    if known is None or known.get("status") != COMPLETE:
        return None
    return Ask(bins, precision, tuple(known["thresholds"]), known["neighbours"], known["pairs"])


def read_features(hierarchy: Hierarchy, id: str, bins: int, precision: str) -> xr.Dataset:
    """Everything that is kept about the features and pairs of one dictionary.

    Raises
    ------
    StoreError
        If nothing is kept, or it is not what was written.
    """
    path = features_path(id, bins, precision)
    known: dict[str, Any] = hierarchy.attributes(path) or {}
    if known.get("status") != COMPLETE:
        raise StoreError(
            f"the store {hierarchy.location} knows nothing about the features of {id} with "
            f"{bins:,} bins and {precision}: count its pairs with 'geomsae histogram'"
        )
    opened: xr.Dataset = xr.open_zarr(
        hierarchy.zarr_store(), group=path, chunks=None, consolidated=False, decode_cf=False
    ).load()
    for name, expected in known["array_sha256"].items():
        if checksum(opened[name].values) != expected:
            raise StoreError(
                f"{name} of {id} is not what was written: move {hierarchy.location}/{path} away "
                "and compute it again"
            )
    for variable in opened.variables.values():
        variable.attrs.pop("_FillValue", None)
    return opened
