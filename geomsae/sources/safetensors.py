"""Tensors in a ``.safetensors`` file: a JSON header, then the bytes of each tensor.

The library of that name judges a file that lies here. It can neither read a file in parts nor say
where in it a tensor lies, so that the header is read here as well, by the same rules.
"""

from __future__ import annotations

import json
import math
from typing import Any

from safetensors import SafetensorError, safe_open

from geomsae.errors import SourceError
from geomsae.sources.file import File
from geomsae.sources.tensor import Tensor

_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}

_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Size of an element of each type of the format."""

_LARGEST_HEADER = 100_000_000
"""Bytes that the format allows a header."""


def tensors(file: File) -> list[Tensor]:
    """Every tensor in the file, from its header alone.

    Raises
    ------
    SourceError
        If the file is not safetensors, or its header disagrees with itself or with its size.
    """
    if not file.remote:
        try:
            with safe_open(file.whole(), framework="numpy"):
                pass
        except SafetensorError as error:
            raise _broken(file, str(error)) from error
    with file.open() as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(_LARGEST_HEADER, file.size - 8):
            raise _broken(file, f"its header claims {length:,} bytes")
        text = stream.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_without_doubles)
        if not isinstance(header, dict) or not text.startswith(b"{"):
            raise ValueError("its header is no JSON object")
        header.pop("__metadata__", None)
        found = [_tensor(file, key, entry, 8 + length) for key, entry in header.items()]
        _check_cover(header, file.size - 8 - length)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise _broken(file, reason) from error
    return found


def _tensor(file: File, key: str, entry: dict[str, Any], start: int) -> Tensor:
    shape, (first, end), dtype = entry["shape"], entry["data_offsets"], entry["dtype"]
    if not all(type(number) is int and number >= 0 for number in (*shape, first, end)):
        raise ValueError(f"{key} has a shape or a place that is no natural number")
    if dtype not in _BITS:
        raise ValueError(f"{key} is of the unknown type {dtype!r}")
    if 8 * (end - first) != math.prod(shape) * _BITS[dtype]:
        raise ValueError(f"{key} has {end - first:,} bytes for a shape of {shape} {dtype}")
    name = _DTYPES.get(dtype, dtype.lower())
    return Tensor(file, key, tuple(shape), name, start + first)


def _check_cover(header: dict[str, Any], size: int) -> None:
    """Each byte after the header belongs to one tensor."""
    at = 0
    for first, end in sorted(entry["data_offsets"] for entry in header.values()):
        if first != at:
            raise ValueError("its tensors overlap, or leave gaps")
        at = end
    if at != size:
        raise ValueError(f"its tensors take {at:,} bytes, and {size:,} are there")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands in its header twice")
    return dict(pairs)


def _broken(file: File, reason: str) -> SourceError:
    return SourceError(f"{file.name} is not a whole safetensors file: {reason}")
