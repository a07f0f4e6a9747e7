"""A tensor as it lies in a file, and how its rows stream out as float32."""

from __future__ import annotations

import lzma
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geomsae.errors import SourceError
from geomsae.sources.file import File

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""The element types that a decoder may be stored in."""

_COPY_BYTES = 1 << 22


def itemsize(dtype: str) -> int:
    """Bytes of one element of one of the types in `FLOATS`."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


class Matrix(Protocol):
    """A tensor of any format: what it is called and shaped, and its rows if it has two sides."""

    @property
    def file(self) -> File:
        """The file that holds it."""

    @property
    def key(self) -> str:
        """Its name in the file; empty for a file that holds just one."""

    @property
    def name(self) -> str:
        """What to call it in a sentence."""

    @property
    def span(self) -> str:
        """The bytes of the file that it takes, both ends included; empty if they are not known."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, as stored."""

    @property
    def dtype(self) -> str:
        """Name of its element type."""

    def rows(
        self, block: int, *, transpose: bool = False, first: int = 0, keep: Path | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Stream the rows, or the columns as rows, from `first` on, as float32."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor lies: everything known from headers, before a value is read.

    Parameters
    ----------
    file : File
        The file.
    key : str
        Name of the tensor in the file; empty for a file that holds just one.
    shape : tuple of int
        Logical shape.
    dtype : str
        Name of the element type; ``bfloat16`` where NumPy has none.
    offset : int
        Bytes before the first element: from the start of the file, or of the unpacked `member`.
    order : str
        NumPy's byte-order character of the elements.
    fortran : bool
        Whether the first index runs fastest.
    member : str
        Name of the deflated zip member that holds the tensor; empty where it lies plain.
    crcs : tuple of int, optional
        CRC-32 of a plain zip member, and of the header in it, where they are known.
    """

    file: File
    key: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    order: Literal["<", ">", "=", "|"] = "<"
    fortran: bool = False
    member: str = ""
    crcs: tuple[int, int] | None = None

    @property
    def itemsize(self) -> int:
        """Bytes of one element, of one of the types in `FLOATS`."""
        return itemsize(self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return int(np.prod(self.shape, dtype=object)) * self.itemsize

    @property
    def span(self) -> str:
        """The bytes of the file that it takes, both ends included; empty if it is deflated."""
        return "" if self.member else f"{self.offset}-{self.offset + self.nbytes - 1}"

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return f"tensor {self.key!r} of {self.file.name}" if self.key else self.file.name

    def rows(
        self, block: int, *, transpose: bool = False, first: int = 0, keep: Path | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Stream the rows of a 2-D tensor.

        Parameters
        ----------
        block : int
            Rows of each array yielded; the last may have fewer.
        transpose : bool
            Stream the columns instead, as rows.
        first : int
            The row to begin with. The checksum of a zip is only compared if it is the first.
        keep : Path, optional
            Where bytes that have to be brought here before the first row may lie, so that another
            run goes on with them.

        Yields
        ------
        ndarray, shape (at most block, row length), float32
            No more than one of them is held, nor more than twice its bytes.

        Raises
        ------
        SourceError
            If the file ends before the tensor does, or is damaged.
        """
        lies_transposed = transpose != self.fortran
        count, length = self.shape[::-1] if transpose else self.shape
        with self._open(scattered=lies_transposed, keep=keep) as (stream, start):
            if lies_transposed:
                self._check(stream, start)
            else:
                stream.seek(start + first * length * self.itemsize)
            crc = self.crcs[1] if self.crcs else 0
            for row in range(first, count, block):
                height = min(block, count - row)
                if lies_transposed:
                    yield self._gather(stream, start, row, height, count, length)
                    continue
                data = self._read(stream, height * length)
                if self.crcs and first == 0:
                    crc = zlib.crc32(data, crc)
                    if row + height == count and crc != self.crcs[0]:
                        raise self._damaged()
                yield self._floats(data).reshape(height, length)

    @contextmanager
    def _open(self, *, scattered: bool, keep: Path | None) -> Iterator[tuple[IO[bytes], int]]:
        """The bytes of the tensor as a file that can seek, and where in it they begin.

        What would be inflated anew, or asked for anew, at every seek is brought here once.
        """
        with self.file.open() as stream:
            if not self.member and not (scattered and self.file.remote):
                yield stream, self.offset
                return
            if self.member:
                with tempfile.TemporaryFile() as spool:
                    self._inflate(stream, spool)
                    yield spool, 0
            else:
                with keep.open("a+b") if keep else tempfile.TemporaryFile() as spool:
                    had = spool.seek(0, os.SEEK_END)
                    stream.seek(self.offset + had)
                    self._copy(stream, spool, self.nbytes - had)
                    yield spool, 0

    def _inflate(self, stream: IO[bytes], spool: IO[bytes]) -> None:
        try:
            with zipfile.ZipFile(stream) as archive, archive.open(self.member) as packed:
                packed.read(self.offset)
                self._copy(packed, spool, self.nbytes)
                if packed.read(1):
                    raise self._damaged()
        except (zlib.error, lzma.LZMAError, zipfile.BadZipFile, EOFError) as error:
            raise self._damaged() from error

    @staticmethod
    def _copy(stream: IO[bytes], spool: IO[bytes], left: int) -> None:
        """Bring the bytes of the tensor, and no more of them than its header says."""
        while left > 0 and (piece := stream.read(min(_COPY_BYTES, left))):
            spool.write(piece)
            spool.flush()
            left -= len(piece)

    def _check(self, stream: IO[bytes], start: int) -> None:
        """Read everything once, where it will not be read in order, and compare its checksum."""
        if not self.crcs:
            return
        stream.seek(start)
        crc = self.crcs[1]
        for first in range(0, self.nbytes, _COPY_BYTES):
            crc = zlib.crc32(stream.read(min(_COPY_BYTES, self.nbytes - first)), crc)
        if crc != self.crcs[0]:
            raise self._damaged()

    def _damaged(self) -> SourceError:
        return SourceError(f"{self.name} is damaged: its checksum is wrong, fetch the file again")

    def _gather(
        self, stream: IO[bytes], start: int, first: int, height: int, count: int, length: int
    ) -> NDArray[np.float32]:
        """Rows that lie as columns: one piece of each stored row, put together."""
        out = np.empty((height, length), np.float32)
        for column in range(length):
            stream.seek(start + (column * count + first) * self.itemsize)
            out[:, column] = self._floats(self._read(stream, height))
        return out

    def _read(self, stream: IO[bytes], elements: int) -> bytes:
        wanted = elements * self.itemsize
        data = stream.read(wanted)
        if len(data) < wanted:
            raise SourceError(f"{self.name} ends early: the file is cut short, fetch it again")
        return data

    def _floats(self, data: bytes) -> NDArray[np.float32]:
        if self.dtype == "bfloat16":
            # A bfloat16 is the upper half of a float32, so the shift is exact.
            upper = np.frombuffer(data, "<u2").astype(np.uint32)
            return (upper << np.uint32(16)).view(np.float32)
        stored = np.frombuffer(data, np.dtype(self.dtype).newbyteorder(self.order))
        # What overflows becomes infinite and is then reported, as what is not a number is.
        with np.errstate(over="ignore", invalid="ignore"):
            return stored.astype(np.float32, copy=False)
