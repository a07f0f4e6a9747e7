"""What files a folder, a file or a repository of the Hub has, and how each one is had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from geomsae.errors import SourceError
from geomsae.sources.npy import npy_tensors, npz_tensors
from geomsae.sources.safetensors import tensors as safetensors_tensors
from geomsae.sources.tensor import Tensor

READERS: Mapping[str, Callable[[Path], list[Tensor]]] = {
    ".safetensors": safetensors_tensors,
    ".npz": npz_tensors,
    ".npy": npy_tensors,
}
"""The file formats, by suffix. To add one, add its reader."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that may hold decoders.

    Parameters
    ----------
    name : str
        Name of the folder or repository.
    sizes : mapping of str to int
        Bytes of each file, by its path in there.
    fetch : callable
        Brings one file to this machine and says where it lies.
    origin : callable
        Where one file comes from, for the record.
    """

    name: str
    sizes: Mapping[str, int]
    fetch: Callable[[str], Path]
    origin: Callable[[str], Mapping[str, str | int]]


def local_listing(place: Path) -> Listing:
    """List a file, or a folder and all folders in it.

    Raises
    ------
    SourceError
        If there is no such file, or its format is not one of `READERS`.
    """
    place = place.absolute()  # but not resolved: the Hub's cache is made of links
    if not place.exists():
        raise SourceError(f"there is no file or folder {place}")
    root = place if place.is_dir() else place.parent
    if place.is_file() and place.suffix not in READERS:
        raise SourceError(f"{place} is not one of the formats {', '.join(READERS)}")
    found = sorted(place.rglob("*")) if place.is_dir() else [place]
    files = [path for path in found if path.suffix in READERS and path.is_file()]
    if not files:
        raise SourceError(f"{place} has no file of the formats {', '.join(READERS)}")

    def origin(path: str) -> Mapping[str, str | int]:
        stat = (root / path).stat()
        return {
            "path": str(root / path),
            "file_size": stat.st_size,
            "file_mtime_ns": stat.st_mtime_ns,
        }

    sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in files}
    return Listing(root.name, sizes, lambda path: root / path, origin)


def headers(path: Path) -> list[Tensor]:
    """Every tensor of a file, from its headers.

    Raises
    ------
    SourceError
        If the file is broken, or holds nothing.
    """
    tensors = READERS[path.suffix](path)
    if not tensors:
        raise SourceError(f"{path} holds no tensors")
    return tensors
