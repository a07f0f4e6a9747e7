"""Tensors in a ``.safetensors`` file: a JSON header, then the bytes of each tensor."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from geomsae.errors import SourceError
from geomsae.sources.tensor import Tensor

_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


def tensors(path: Path) -> list[Tensor]:
    """Every tensor in the file, from its header alone.

    Raises
    ------
    SourceError
        If the file is not safetensors, or its header disagrees with its size.
    """
    try:
        # The library checks the header against the file; it cannot say where the bytes lie, nor
        # read bfloat16 without another package.
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (SafetensorError, ValueError) as error:
        raise SourceError(f"{path} is not a whole safetensors file: {error}") from error
    header.pop("__metadata__", None)
    return [
        Tensor(
            path,
            key,
            tuple(entry["shape"]),
            _DTYPES.get(entry["dtype"], entry["dtype"].lower()),
            8 + length + entry["data_offsets"][0],
        )
        for key, entry in header.items()
    ]
