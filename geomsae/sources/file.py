"""A file that is read in pieces, wherever it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol


class File(Protocol):
    """What a reader of a format needs of a file, here or on the Hub."""

    @property
    def name(self) -> str:
        """What to call it in a sentence."""

    @property
    def size(self) -> int:
        """Its bytes."""

    @property
    def remote(self) -> bool:
        """Whether each seek costs an answer from elsewhere."""

    def open(self) -> IO[bytes]:
        """Open it for reading; the stream can seek."""

    def whole(self) -> Path:
        """Where all of it lies on this machine, brought here if it has to be."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine.

    Parameters
    ----------
    path : Path
        Where it lies.
    """

    path: Path
    remote = False

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.path.stat().st_size

    def open(self) -> IO[bytes]:
        """Open it for reading."""
        return self.path.open("rb")

    def whole(self) -> Path:
        """Where it lies."""
        return self.path
