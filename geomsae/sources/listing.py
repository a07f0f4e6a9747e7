"""What files a folder, a file or a repository of the Hub has, and how each one is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from geomsae.errors import SourceError
from geomsae.sources.file import File, LocalFile
from geomsae.sources.npy import npy_tensors, npz_tensors
from geomsae.sources.pt import pt_tensors
from geomsae.sources.safetensors import tensors as safetensors_tensors
from geomsae.sources.tensor import Matrix

PYTORCH = (".pt", ".pth")
"""What PyTorch saves, of which no part can be read without the rest."""

READERS: Mapping[str, Callable[[File], Sequence[Matrix]]] = {
    ".safetensors": safetensors_tensors,
    ".npz": npz_tensors,
    ".npy": npy_tensors,
    **dict.fromkeys(PYTORCH, pt_tensors),
}
"""The file formats, by suffix. To add one, add its reader."""

_LARGEST_TEXT = 1 << 20


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a place: those that may hold decoders, and those that tell about them.

    Parameters
    ----------
    name : str
        Name of the folder or repository.
    sizes : mapping of str to int
        Bytes of each file, by its path in there.
    file : callable
        Gives one of them.
    origin : callable
        Where one file comes from, for the record.
    only : str
        Path of the one file that is meant, if it is one.
    """

    name: str
    sizes: Mapping[str, int]
    file: Callable[[str], File]
    origin: Callable[[str], Mapping[str, str | int]]
    only: str = ""

    @property
    def decoders(self) -> list[str]:
        """Paths of the files that may hold decoders.

        Raises
        ------
        SourceError
            If there are none.
        """
        if self.only:
            return [self.only]
        found = [path for path in self.sizes if PurePosixPath(path).suffix in READERS]
        if not found:
            raise SourceError(f"{self.name} has no file of the formats {', '.join(READERS)}")
        return found

    def text(self, path: str) -> str:
        """What a small file says.

        Raises
        ------
        SourceError
            If it is not small, or not text.
        """
        if self.sizes[path] > _LARGEST_TEXT:
            raise SourceError(f"{path} of {self.name} is too large to be read as text")
        with self.file(path).open() as stream:
            try:
                return stream.read().decode()
            except UnicodeDecodeError as error:
                raise SourceError(f"{path} of {self.name} is no text") from error


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
    found = sorted(place.rglob("*")) if place.is_dir() else sorted(root.iterdir())

    def origin(path: str) -> Mapping[str, str | int]:
        stat = (root / path).stat()
        return {
            "path": str(root / path),
            "file_size": stat.st_size,
            "file_mtime_ns": stat.st_mtime_ns,
        }

    sizes = {p.relative_to(root).as_posix(): p.stat().st_size for p in found if p.is_file()}
    name = str(place) if place.is_dir() else root.name
    only = "" if place.is_dir() else place.name
    return Listing(name, sizes, lambda path: LocalFile(root / path), origin, only)


def headers(file: File) -> Sequence[Matrix]:
    """Every tensor of a file, from its headers.

    Raises
    ------
    SourceError
        If the file is broken, or holds nothing.
    """
    tensors = READERS[PurePosixPath(file.name).suffix](file)
    if not tensors:
        raise SourceError(f"{file.name} holds no tensors")
    return tensors
