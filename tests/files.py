"""Files of decoders, written by hand, and read again as a user would."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from geomsae.sources import Decoder, Wanted, find

MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)

_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}


def safetensors(**tensors: np.ndarray | tuple[np.ndarray, str]) -> bytes:
    """A safetensors file written by hand; (bits, name) states the element type."""
    header, body = {}, b""
    for key, tensor in tensors.items():
        array, name = tensor if isinstance(tensor, tuple) else (tensor, "")
        name = name or next(k for k, v in _DTYPES.items() if np.dtype(v) == array.dtype)
        data = array.tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[key] = {"dtype": name, "shape": array.shape, "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def saved(save: Callable[..., None], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    """The bytes that one of NumPy's savers writes."""
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def npy(shape: str, descr: str = "<f4", body: bytes = MATRIX.tobytes()) -> bytes:
    """An npy file whose header says what one likes."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def zipped(**members: bytes) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def opened(path: Path, **words: object) -> Decoder:
    """The only decoder of a file."""
    (offer,) = find(str(path), Wanted(**{"model": "m", **words}))
    return offer.open()


def rows(decoder: Decoder, block: int = 7) -> np.ndarray:
    """All rows of a decoder, read `block` at a time."""
    blocks = list(decoder.blocks(block))
    assert [len(b) for b in blocks[:-1]] == [block] * (len(blocks) - 1)
    assert 0 < len(blocks[-1]) <= block
    assert {b.dtype for b in blocks} == {np.dtype(np.float32)}
    return np.concatenate(blocks)


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.shape == right.shape and left.tobytes() == right.tobytes()


BROKEN = {
    "empty.npy": b"",
    "empty.npz": b"",
    "empty.safetensors": b"",
    "text.npy": b"not an array at all",
    "text.npz": b"not an archive at all",
    "text.safetensors": b"not a tensor at all",
    "npy_as.npz": saved(np.save, MATRIX),
    "npz_as.npy": saved(np.savez, W_dec=MATRIX),
    "pickle.npy": pickle.dumps(MATRIX),
    "pickle.npz": pickle.dumps({"W_dec": MATRIX}),
    "pickle.safetensors": pickle.dumps({"W_dec": MATRIX}),
    "objects.npy": saved(np.save, np.array([[{}, None]], object)),
    "objects.npz": saved(np.savez, W_dec=np.array([[{}, None]], object)),
    "integers.npy": saved(np.save, MATRIX.astype(np.int32)),
    "integers.safetensors": safetensors(W_dec=MATRIX.astype(np.int64)),
    "eighths.safetensors": safetensors(W_dec=(MATRIX.astype(np.uint8), "F8_E4M3")),
    "complex.npy": saved(np.save, MATRIX.astype(np.complex64)),
    "booleans.npy": saved(np.save, MATRIX > 3),
    "dates.npy": saved(np.save, np.zeros((2, 2), "M8[s]")),
    "number.npy": saved(np.save, np.float32(1)),
    "vector.npy": saved(np.save, MATRIX[0]),
    "vector.npz": saved(np.savez, W_dec=MATRIX[0]),
    "vector.safetensors": safetensors(W_dec=MATRIX[0]),
    "cube.npy": saved(np.save, MATRIX[None]),
    "no_rows.npy": saved(np.save, MATRIX[:0]),
    "no_rows.safetensors": safetensors(W_dec=MATRIX[:0]),
    "nothing.npz": zipped(),
    "nothing.safetensors": safetensors(),
    "member.npz": zipped(W_dec=b"not an array at all"),
    "terabytes.npy": npy("(1000000000, 4608)"),
    "terabytes.npz": zipped(W_dec=npy("(1000000000, 4608)")),
    "endless.npy": npy(f"({10**30}, {10**30})"),
    "endless_header.safetensors": struct.pack("<Q", 2**62) + b"{}",
    "terabytes.safetensors": safetensors(W_dec=MATRIX).replace(b"[4, 3]", b"[9999999999999, 3]"),
    "too_long.safetensors": safetensors(W_dec=MATRIX) + b"more",
    "unknown_type.npy": npy("(4, 3)", "zzz"),
    "version_9.npy": b"\x93NUMPY\x09\x00" + saved(np.save, MATRIX)[8:],
}
"""Files without a decoder."""

WHOLE = {
    "w.npy": saved(np.save, MATRIX),
    "stored.npz": saved(np.savez, W_dec=MATRIX),
    "deflated.npz": saved(np.savez_compressed, W_dec=MATRIX),
    "w.safetensors": safetensors(W_dec=MATRIX),
}
"""The smallest whole file of each format."""
