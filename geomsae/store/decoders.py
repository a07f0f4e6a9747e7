"""Decoders in the store: written row block by row block, read as labelled lazy arrays."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

import geomsae
from geomsae.dictionary import LABELS, SIZES, Dictionary
from geomsae.errors import DecoderError, LinkError, StoreError
from geomsae.sources import Decoder
from geomsae.store.guard import open_array, read_array, seal
from geomsae.store.hierarchy import Hierarchy
from geomsae.store.layout import COMPLETE, KIND, chunk_rows, create_array
from geomsae.store.locks import OnWait, in_silence

_AT_ONCE = 1 << 17
"""Elements of rows that are widened to float64 at a time: they stay in the processor's cache."""

_FULL = ("float32", "float64")
"""Source types that leave no low bits empty: their rows pack to nine tenths, and are read faster
as they are. Rows that came from 16 bits pack to less than half."""

Progress = Callable[[float], object]
"""Told what share of a decoder was just dealt with."""


def write_decoder(
    hierarchy: Hierarchy, decoder: Decoder, progress: Progress, on_wait: OnWait = in_silence
) -> dict[str, Any]:
    """Stream a decoder into the store, where it appears whole or not at all.

    Parameters
    ----------
    hierarchy : Hierarchy
        The store.
    decoder : Decoder
        What to write. Its rows are kept as published: float32, not normalised.
    progress : callable
        Told the share of the rows that each block is.
    on_wait : callable
        Told who is writing the same decoder, if somebody is; to raise is to go away instead.

    Returns
    -------
    dict
        What was recorded about it.

    Raises
    ------
    DecoderError
        If rows are NaN or infinite; the sentence gives their number.
    TakenError
        If another run wrote it meanwhile.
    """
    id = decoder.labels.id
    n_features, d_model = decoder.shape
    source = _source(decoder) if decoder.remote else ""
    with hierarchy.staging(source, what=f"converts {id}", on_wait=on_wait) as stage:
        hierarchy.check_free(id)
        target = zarr.storage.LocalStore(stage)
        weights = _weights(stage, decoder)
        folder = stage / id / "W_dec"
        kept = _rows_kept(folder, weights)
        keep = stage / "brought" if decoder.remote else None
        account = _Account(n_features)
        # What a block amounts to is found while it is compressed and written.
        with ThreadPoolExecutor(1) as aside:
            for first, block in itertools.chain(
                _read_again(weights, kept, folder), _blocks(decoder, weights.chunks[0], kept, keep)
            ):
                added = aside.submit(account.add, first, block)
                if first >= kept:
                    weights[first : first + len(block)] = block
                added.result()
                progress(len(block) / n_features)
        account.check(decoder)
        norms = create_array(
            target,
            f"{id}/norm",
            (n_features,),
            (n_features,),
            "float64",
            ("feature",),
            {"long_name": "Euclidean norm of each decoder row"},
        )
        norms[:] = account.norm
        known = {
            KIND: "decoder",
            **decoder.labels.to_json(),
            "n_features": n_features,
            "d_model": d_model,
            "source_dtype": decoder.dtype,
            **decoder.provenance,
            "sha256": account.digest.hexdigest(),
            "version": geomsae.__version__,
            "status": COMPLETE,
        }
        attributes = seal(target, id, known, ("W_dec", "norm"))
        hierarchy.commit(stage, on_wait=on_wait)
    return attributes


def _source(decoder: Decoder) -> str:
    """What makes the values of a decoder the same: where they come from, and how they are read."""
    return json.dumps([decoder.labels.id, decoder.shape, dict(decoder.provenance)], sort_keys=True)


def _weights(stage: Path, decoder: Decoder) -> zarr.Array[Any]:
    """The array of a decoder's rows, as far as an earlier run got with it, or a new one."""
    id = decoder.labels.id
    if (stage / id / "W_dec" / "zarr.json").exists():
        shutil.rmtree(stage / id / "norm", ignore_errors=True)  # made last, and made again
        with contextlib.suppress(ValueError, KeyError, OSError):  # torn metadata: begin anew
            begun: zarr.Array[Any] = zarr.open_array(stage, path=f"{id}/W_dec", mode="r+")
            return begun
    shutil.rmtree(stage / id.partition("/")[0], ignore_errors=True)
    return create_array(
        zarr.storage.LocalStore(stage),
        f"{id}/W_dec",
        decoder.shape,
        (chunk_rows(*decoder.shape), decoder.shape[1]),
        "float32",
        ("feature", "d_model"),
        {"long_name": "decoder, as published"},
        packed=decoder.dtype not in _FULL,
    )


def _rows_kept(folder: Path, weights: zarr.Array[Any]) -> int:
    """How many rows an earlier run left whole, up to the first chunk that is missing."""
    for torn in folder.rglob("*.partial"):
        torn.unlink()
    whole = 0
    while (folder / "c" / str(whole) / "0").exists():
        whole += 1
    return min(whole * weights.chunks[0], weights.shape[0])


def _read_again(
    weights: zarr.Array[Any], kept: int, folder: Path
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The rows that were kept, with their first rows, chunk by chunk."""
    for first in range(0, kept, weights.chunks[0]):
        try:
            yield first, np.asarray(weights[first : first + weights.chunks[0]], np.float32)
        except ValueError as error:
            shutil.rmtree(folder)
            raise LinkError(
                f"what was kept of {folder.parent.name} was damaged, and is removed: run again"
            ) from error


class _Account:
    """What the rows of a decoder amount to: their norms and their checksum."""

    def __init__(self, n_features: int) -> None:
        self.norm = np.empty(n_features)
        self.digest = hashlib.sha256()

    def add(self, first: int, block: NDArray[np.float32]) -> None:
        """Take the next rows into account."""
        self.norm[first : first + len(block)] = row_norms(block)
        self.digest.update(block.data)

    def check(self, decoder: Decoder) -> None:
        """Refuse rows that are no numbers: no norm of float32 rows overflows in float64."""
        bad = np.flatnonzero(~np.isfinite(self.norm))
        if bad.size:
            raise DecoderError(
                f"{decoder.labels.id} has {bad.size:,} of {self.norm.size:,} rows that are NaN or "
                f"infinite (the first: row {bad[0]}): it was not stored, mend the file and convert "
                "it again"
            )


def sha256(decoder: Decoder) -> str:
    """The checksum of a decoder's float32 bytes, as a store records it."""
    account = _Account(decoder.shape[0])
    for first, block in _blocks(decoder, chunk_rows(*decoder.shape)):
        account.add(first, block)
    account.check(decoder)
    return account.digest.hexdigest()


def read_decoder(hierarchy: Hierarchy, id: str, attributes: dict[str, Any]) -> xr.DataArray:
    """The decoder at `id` as a Dask-backed array, with its labels as coordinates.

    Returns
    -------
    DataArray, dims (feature, d_model), float32
        Nothing is read before it is computed.
    """
    for name in ("W_dec", "norm"):
        open_array(hierarchy, id, name, attributes)  # which refuses what is damaged
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


def read_norms(hierarchy: Hierarchy, id: str, attributes: dict[str, Any]) -> NDArray[np.float64]:
    """Euclidean norms of the rows of the decoder at `id`, shape (feature,), float64."""
    return read_array(hierarchy, id, "norm", attributes)


def row_norms(block: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean norms of rows, summed in float64."""
    squares = np.empty(len(block))
    step = max(1, _AT_ONCE // block.shape[1])
    for first in range(0, len(block), step):
        wide = block[first : first + step].astype(np.float64)
        squares[first : first + step] = np.einsum("ij,ij->i", wide, wide)
    return np.sqrt(squares)


def _blocks(
    decoder: Decoder, rows: int, first: int = 0, keep: Path | None = None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The blocks of a decoder with their first rows: as many as it has."""
    for block in decoder.blocks(rows, first, keep):
        yield first, np.ascontiguousarray(block)
        first += len(block)
    if first != decoder.shape[0]:
        raise StoreError(f"{decoder.labels.id} gave {first} of its {decoder.shape[0]} rows")
