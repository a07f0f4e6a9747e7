"""Tensors in the files that PyTorch saves, which are pickles: read by PyTorch, weights only."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.errors import SourceError
from geomsae.sources.file import File

_WRAPPERS = ("state_dict", "model_state_dict")
"""Keys under which the tensors themselves are found."""


_DEEPEST = 8
"""Dictionaries in dictionaries that are looked into."""


@dataclass(frozen=True, slots=True)
class LoadedTensor:
    """A tensor that PyTorch maps into memory.

    Parameters
    ----------
    file : File
        The file.
    key : str
        Name of the tensor in the file.
    values : torch.Tensor
        Its elements, on the CPU.
    """

    file: File
    key: str
    values: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.values.shape)

    @property
    def dtype(self) -> str:
        """Name of the element type."""
        return str(self.values.dtype).removeprefix("torch.")

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return f"tensor {self.key!r} of {self.file.name}"

    @property
    def span(self) -> str:
        """Not known: PyTorch does not tell where in the file it lies."""
        return ""

    def rows(
        self,
        block: int,
        *,
        transpose: bool = False,
        first: int = 0,
        keep: Path | None = None,  # noqa: ARG002 - the Hub's cache keeps the file
    ) -> Iterator[NDArray[np.float32]]:
        """Stream the rows, or the columns as rows, from `first` on, as float32."""
        values = self.values.T if transpose else self.values
        for start in range(first, len(values), block):
            yield np.ascontiguousarray(values[start : start + block].float().numpy())


def pt_tensors(file: File) -> list[LoadedTensor]:
    """Every tensor of a ``.pt`` or ``.pth`` file.

    Raises
    ------
    SourceError
        If PyTorch is not installed, or the file holds more than tensors, or is broken.
    """
    try:
        import torch
    except ImportError as error:
        raise SourceError(
            f"{file.name} is a PyTorch file: pip install 'geomsae[torch]' to read it"
        ) from error
    path = file.whole()
    try:
        with path.open("rb") as stream:
            zipped = stream.read(2) == b"PK"  # what older versions saved cannot be mapped
        loaded = torch.load(path, map_location="cpu", mmap=zipped, weights_only=True)
    except pickle.UnpicklingError as error:
        raise SourceError(
            f"{file.name} holds more than tensors, or is broken: loading it could run code of its "
            "author, so it is not read"
        ) from error
    except Exception as error:  # PyTorch lets out whatever its parsers raise on a broken file
        reason = (str(error).splitlines() or ["it breaks off"])[0]
        raise SourceError(f"{file.name} is not a whole PyTorch file: {reason}") from error
    return [
        LoadedTensor(file, key, values.detach().resolve_conj().resolve_neg())
        for key, values in _flat(loaded, torch.Tensor)
        if values.layout is torch.strided and values.device.type == "cpu" and not values.is_nested
    ]


def _flat(loaded: Any, kind: type, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The tensors in nested dictionaries, their keys joined by dots."""
    if isinstance(loaded, kind):
        yield key, loaded
    elif isinstance(loaded, dict) and depth < _DEEPEST:
        for name, value in loaded.items():
            inner = "" if not key and name in _WRAPPERS else str(name)
            joined = f"{key}.{inner}" if key and inner else key or inner
            yield from _flat(value, kind, joined, depth + 1)
