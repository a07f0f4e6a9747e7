"""Tensors in the files that PyTorch saves, which are pickles: read by PyTorch, weights only."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.errors import SourceError
from geomsae.sources.file import File

_WRAPPERS = ("state_dict", "model_state_dict")
"""Keys under which the tensors themselves are found."""


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

    def rows(
        self, block: int, *, transpose: bool = False, first: int = 0
    ) -> Iterator[NDArray[np.float32]]:
        """Stream the rows, or the columns as rows, from `first` on, as float32."""
        values = self.values.detach()
        values = values.T if transpose else values
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
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = (str(error).splitlines() or ["it breaks off"])[0]
        raise SourceError(f"{file.name} is not a whole PyTorch file: {reason}") from error
    return [LoadedTensor(file, key, values) for key, values in _flat(loaded, torch.Tensor)]


def _flat(loaded: Any, kind: type, key: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors in nested dictionaries, their keys joined by dots."""
    if isinstance(loaded, kind):
        yield key, loaded
    elif isinstance(loaded, dict):
        for name, value in loaded.items():
            inner = "" if not key and name in _WRAPPERS else str(name)
            yield from _flat(value, kind, f"{key}.{inner}" if key and inner else key or inner)
