"""Rows of a stored decoder, from its chunks to where they are needed in as few steps as can be.

Zarr reads a chunk into one buffer, unpacks it into a second and copies it into a third, and new
memory costs more here than unpacking does. So the chunks in local files, as this version lays them
out, are unpacked from their pages to their place, or used where they lie. Zarr reads all others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs.blosc
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.buffer.cpu import NDBuffer
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

from geomsae.errors import StoreError
from geomsae.memory import empty

_CRC_BYTES = 4


def read_rows(weights: zarr.Array[Any], first: int, n: int) -> NDArray[np.float32]:
    """Read neighbouring rows.

    Parameters
    ----------
    weights : Array, shape (feature, d_model), float32
        A decoder.
    first : int
        Number of the first row.
    n : int
        How many.

    Returns
    -------
    ndarray, shape (n, d_model), float32
        The pages of the file itself, which cannot be written to, where that is possible.

    Raises
    ------
    StoreError
        If a chunk is missing or damaged.
    """
    chunk = weights.chunks[0]
    folder = _folder(weights)
    ends_with_a_chunk = n % chunk == 0 or first + n == weights.shape[0]
    if folder is None or first % chunk or not ends_with_a_chunk:
        out = empty((n, weights.shape[1]), "float32")
        part = (slice(first, first + n), slice(None))
        try:
            weights.get_basic_selection(part, out=NDBuffer.from_numpy_array(out))
        except ValueError as error:
            raise StoreError(f"{weights.path} is damaged ({error}): {_way_out(weights)}") from error
        if np.isnan(out[:, 0]).any():  # what a chunk that is missing reads as
            raise StoreError(f"a part of {weights.path} is missing: {_way_out(weights)}")
        return out
    packed = BloscCodec in map(type, weights.compressors)
    way_out = _way_out(weights)
    files = [folder / "c" / str(k) / "0" for k in range(first // chunk, -(-(first + n) // chunk))]
    if not packed and len(files) == 1:
        return _checked(files[0], way_out).view("<f4").reshape(chunk, -1)[:n]
    out = empty((n, weights.shape[1]), "float32")
    for place, file in enumerate(files):
        _fill(out[place * chunk : (place + 1) * chunk], _checked(file, way_out), chunk, packed)
    return out


def _way_out(weights: zarr.Array[Any]) -> str:
    """What to do about a decoder that is damaged."""
    store: Any = weights.store
    location = store.root if isinstance(store, zarr.storage.LocalStore) else store.location
    id = weights.path.rpartition("/")[0]
    return f"'geomsae verify --repair --store {location} {id}' sets it aside, then convert it again"


def _folder(weights: zarr.Array[Any]) -> Path | None:
    """Where the chunks lie as this version writes them; None for all others."""
    store = weights.store
    if not isinstance(store, zarr.storage.LocalStore) or weights.chunks[1] != weights.shape[1]:
        return None
    plain = not weights.filters and weights.shards is None and weights.dtype == np.float32
    little = weights.serializer == BytesCodec(endian="little")
    codecs = [type(codec) for codec in weights.compressors]
    if plain and little and codecs in ([Crc32cCodec], [BloscCodec, Crc32cCodec]):
        return Path(store.root) / weights.path
    return None


def _fill(out: NDArray[np.float32], values: Any, chunk: int, packed: bool) -> None:
    """Fill with the rows of a chunk; those past the end of the array are left out."""
    if packed and len(out) == chunk:
        numcodecs.blosc.decompress(values, out)
        return
    if packed:
        values = np.frombuffer(numcodecs.blosc.decompress(values), np.uint8)
    out[:] = values.view("<f4").reshape(chunk, -1)[: len(out)]


def _checked(file: Path, way_out: str) -> NDArray[np.uint8]:
    """The bytes of a chunk, as pages of its file, after a look at their checksum."""
    try:
        pages: NDArray[np.uint8] = np.memmap(file, np.uint8, "r")
        values, crc = pages[:-_CRC_BYTES], pages[-_CRC_BYTES:]
        sound = google_crc32c.value(values) == int(crc.view("<u4")[0])
    except FileNotFoundError as error:
        raise StoreError(f"{file} is missing: {way_out}") from error
    except ValueError as error:
        raise StoreError(f"{file} is cut short: {way_out}") from error
    if not sound:
        raise StoreError(f"{file} is damaged, its checksum differs: {way_out}")
    return np.asarray(values)
