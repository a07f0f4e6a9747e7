"""How a store is laid out: names, format version, chunks and codecs.

The store is one Zarr v3 hierarchy. The group at a dictionary's id holds its decoder::

    gemma-2-2b/pt/res/layer_12/width_16k/l0_82
        W_dec   (feature, d_model) float32, as published
        norm    (feature)          float64
        results/histogram_2000_float32
            count   (cosine) int64
            cosine, cosine_left, cosine_right
        results/features_2000_float32
            degree  (feature, threshold) int64
            nearest (feature, rank)      int64, and others beside it

The metadata of a finished group is guarded by one of its attributes; see `geomsae.store.guard`.
Unfinished work and locks lie beside it, in ``<store>-work``, and what was found damaged in
``<store>-set-aside``.
"""

from __future__ import annotations

from typing import Any

import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from geomsae.dictionary import RESULTS

FORMAT = 1
"""The version of this layout. A store of a later one is not read."""

KIND = "geomsae"
"""The attribute that says what a group is: ``store``, ``decoder``, ``histogram``, ``features``."""

COMPLETE = "complete"
"""What the attribute ``status`` of a finished group says, written after everything else."""

UNFINISHED = "unfinished"
"""What it says while the group is on its way to a store that cannot rename."""

CHUNK_BYTES = 1 << 25
"""Bytes that a chunk of decoder rows may reach: writing one holds several copies of it."""


def chunk_rows(n_features: int, d_model: int) -> int:
    """Rows in a chunk: the largest power of two whose rows stay within `CHUNK_BYTES`.

    Examples
    --------
    >>> chunk_rows(16384, 2304), chunk_rows(30522, 384), chunk_rows(100, 8)
    (2048, 16384, 100)
    """
    fitting = max(1, CHUNK_BYTES // (4 * d_model))
    return min(n_features, 1 << (fitting.bit_length() - 1))


def histogram_path(id: str, bins: int, precision: str) -> str:
    """Where the histogram of a dictionary is kept."""
    return f"{id}/{RESULTS}/histogram_{bins}_{precision}"


def features_path(id: str, bins: int, precision: str) -> str:
    """Where is kept what the same pass told about features and pairs."""
    return f"{id}/{RESULTS}/features_{bins}_{precision}"


def create_array(
    store: Any,
    path: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    dims: tuple[str, ...],
    attributes: dict[str, Any],
    *,
    packed: bool = True,
) -> zarr.Array[Any]:
    """Create an array whose every chunk is written and guarded by a checksum.

    A chunk that is missing then reads as NaN or -1, which no decoder and no count holds. `packed`
    says whether chunks are compressed.
    """
    return zarr.create_array(
        store,
        name=path,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value=-1 if dtype.startswith("int") else float("nan"),
        compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")] * packed
        + [Crc32cCodec()],
        dimension_names=dims,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )
