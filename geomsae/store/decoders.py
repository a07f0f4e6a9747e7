"""Decoders in the store: written row block by row block, read as labelled lazy arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

import geomsae
from geomsae.dictionary import LABELS, SIZES, Dictionary
from geomsae.errors import DecoderError, StoreError
from geomsae.sources import Decoder
from geomsae.store.hierarchy import Hierarchy
from geomsae.store.layout import COMPLETE, KIND, chunk_rows, create_array

Progress = Callable[[float], object]
"""Told what share of a decoder was just dealt with."""


def write_decoder(hierarchy: Hierarchy, decoder: Decoder, progress: Progress) -> dict[str, Any]:
    """Stream a decoder into the store, where it appears whole or not at all.

    Parameters
    ----------
    hierarchy : Hierarchy
        The store.
    decoder : Decoder
        What to write. Its rows are kept as published: float32, not normalised.
    progress : callable
        Told the share of the rows that each block is.

    Returns
    -------
    dict
        What was recorded about it.

    Raises
    ------
    DecoderError
        If rows are NaN or infinite; the sentence gives their number.
    """
    id = decoder.labels.id
    n_features, d_model = decoder.shape
    rows = chunk_rows(n_features, d_model)
    with hierarchy.staging() as stage:
        target = zarr.storage.LocalStore(stage)
        weights = create_array(
            target,
            f"{id}/W_dec",
            decoder.shape,
            (rows, d_model),
            "float32",
            ("feature", "d_model"),
            {"long_name": "decoder, as published"},
        )
        norms = create_array(
            target,
            f"{id}/norm",
            (n_features,),
            (n_features,),
            "float64",
            ("feature",),
            {"long_name": "Euclidean norm of each decoder row"},
        )
        norm = np.empty(n_features)
        digest = hashlib.sha256()
        for first, block in _checked(decoder, rows):
            norm[first : first + len(block)] = row_norms(block)
            digest.update(block.data)
            weights[first : first + len(block)] = block
            progress(len(block) / n_features)
        norms[:] = norm
        attributes = {
            KIND: "decoder",
            **decoder.labels.to_json(),
            "n_features": n_features,
            "d_model": d_model,
            "source_dtype": decoder.dtype,
            **decoder.provenance,
            "sha256": digest.hexdigest(),
            "version": geomsae.__version__,
            "status": COMPLETE,
        }
        zarr.open_group(target, path=id, mode="r+").update_attributes(attributes)
        hierarchy.commit(stage)
    return attributes


def sha256(decoder: Decoder) -> str:
    """The checksum of a decoder's float32 bytes, as a store records it."""
    digest = hashlib.sha256()
    for _, block in _checked(decoder, chunk_rows(*decoder.shape)):
        digest.update(block.data)
    return digest.hexdigest()


def read_decoder(hierarchy: Hierarchy, id: str, attributes: dict[str, Any]) -> xr.DataArray:
    """The decoder at `id` as a Dask-backed array, with its labels as coordinates.

    Returns
    -------
    DataArray, dims (feature, d_model), float32
        Nothing is read before it is computed.
    """
    opened = xr.open_zarr(
        hierarchy.zarr_store(), group=id, chunks={}, consolidated=False, decode_cf=False
    )
    labels = Dictionary.from_json(attributes).coordinates()
    decoder: xr.DataArray = (
        opened["W_dec"]
        .assign_coords(norm=opened["norm"], dictionary=id, **labels)
        .assign_attrs({k: v for k, v in attributes.items() if k not in (*LABELS, *SIZES)})
    )
    return decoder


def read_norms(hierarchy: Hierarchy, id: str) -> NDArray[np.float64]:
    """Euclidean norms of the rows of the decoder at `id`, shape (feature,), float64."""
    return np.asarray(zarr.open_array(hierarchy.zarr_store(), path=f"{id}/norm", mode="r")[:])


def row_norms(block: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean norms of rows, summed in float64."""
    wide = block.astype(np.float64)
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", wide, wide)))


def _checked(decoder: Decoder, rows: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The blocks of a decoder with their first rows; those that are no numbers are refused."""
    first = 0
    bad: list[int] = []
    for block in decoder.blocks(rows):
        bad += (first + np.flatnonzero(~np.isfinite(block).all(axis=1))).tolist()
        if not bad:
            yield first, np.ascontiguousarray(block)
        first += len(block)
    if bad:
        raise DecoderError(
            f"{decoder.labels.id} has {len(bad):,} of {first:,} rows that are NaN or infinite "
            f"(the first: row {bad[0]}): it was not stored, mend the file and convert it again"
        )
    if first != decoder.shape[0]:
        raise StoreError(f"{decoder.labels.id} gave {first} of its {decoder.shape[0]} rows")
