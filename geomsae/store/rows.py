"""Rows of a stored decoder, read straight into the memory where they are needed.

Zarr reads a chunk into one buffer, unpacks it into a second and copies it into a third. New memory
costs more here than unpacking does, so that chunks in local files, as this version lays them out,
are unpacked from their pages to their place. All others are read by Zarr.
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

_CRC_BYTES = 4


def read_rows(weights: zarr.Array[Any], first: int, out: NDArray[np.float32]) -> None:
    """Read neighbouring rows.

    Parameters
    ----------
    weights : Array, shape (feature, d_model), float32
        A decoder.
    first : int
        Number of the first row.
    out : ndarray, shape (rows, d_model), float32
        Filled.

    Raises
    ------
    StoreError
        If a chunk is missing or damaged.
    """
    chunk = weights.chunks[0]
    folder = _folder(weights)
    if folder is None or first % chunk or (len(out) % chunk and first + len(out) < weights.shape[0]):
        part = (slice(first, first + len(out)), slice(None))
        weights.get_basic_selection(part, out=NDBuffer.from_numpy_array(out))
        return
    for start in range(0, len(out), chunk):
        file = folder / "c" / str((first + start) // chunk) / "0"
        try:
            _unpack(file, out[start : start + chunk], chunk)
        except FileNotFoundError as error:
            raise StoreError(f"{file} is missing: convert this decoder again") from error
        except (ValueError, RuntimeError) as error:
            raise StoreError(f"{file} is damaged: convert this decoder again ({error})") from error


def _folder(weights: zarr.Array[Any]) -> Path | None:
    """Where the chunks lie as this version writes them; None for all others."""
    store = weights.store
    if not isinstance(store, zarr.storage.LocalStore) or weights.chunks[1] != weights.shape[1]:
        return None
    plain = not weights.filters and weights.shards is None and weights.dtype == np.float32
    little = weights.serializer.to_dict() == BytesCodec(endian="little").to_dict()
    names = [type(codec) for codec in weights.compressors]
    if plain and little and names == [BloscCodec, Crc32cCodec]:
        return Path(store.root) / weights.path
    return None


def _unpack(file: Path, out: NDArray[np.float32], chunk: int) -> None:
    """Unpack a chunk of so many rows; those past the end of the array are left out."""
    pages = np.memmap(file, np.uint8, "r")
    packed, crc = pages[:-_CRC_BYTES], pages[-_CRC_BYTES:]
    if np.uint32(google_crc32c.value(packed)) != crc.view("<u4")[0]:
        raise ValueError("its checksum does not match")
    if len(out) == chunk:
        numcodecs.blosc.decompress(packed, out)
    else:
        rows = np.frombuffer(numcodecs.blosc.decompress(packed), np.float32)
        out[:] = rows.reshape(chunk, -1)[: len(out)]
