"""A tensor as it lies in a file, and how its rows stream out as float32."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from geomsae.errors import SourceError

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""The element types that a decoder may be stored in."""

_COPY_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor lies: everything known from headers, before a value is read.

    Parameters
    ----------
    path : Path
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
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    order: Literal["<", ">", "=", "|"] = "<"
    fortran: bool = False
    member: str = ""

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return 2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return int(np.prod(self.shape, dtype=object)) * self.itemsize

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return f"tensor {self.key!r} of {self.path}" if self.key else str(self.path)

    def rows(self, block: int, *, transpose: bool = False) -> Iterator[NDArray[np.float32]]:
        """Stream the rows of a 2-D tensor.

        Parameters
        ----------
        block : int
            Rows of each array yielded; the last may have fewer.
        transpose : bool
            Stream the columns instead, as rows.

        Yields
        ------
        ndarray, shape (at most block, row length), float32
            No more than one of them is held, nor more than twice its bytes.

        Raises
        ------
        SourceError
            If the file ends before the tensor does.
        """
        lies_transposed = transpose != self.fortran
        count, length = self.shape[::-1] if transpose else self.shape
        with self._open() as (stream, start):
            if not lies_transposed:
                stream.seek(start)
            for first in range(0, count, block):
                height = min(block, count - first)
                if lies_transposed:
                    yield self._gather(stream, start, first, height, count, length)
                else:
                    yield self._floats(self._read(stream, height * length)).reshape(height, length)

    @contextmanager
    def _open(self) -> Iterator[tuple[IO[bytes], int]]:
        """The bytes of the tensor as a file that can seek, and where in it they begin."""
        if not self.member:
            with self.path.open("rb") as plain:
                yield plain, self.offset
            return
        # A deflated member is unpacked once, beside nothing of the user's: seeking inside it
        # would inflate it again from its start each time.
        with (
            zipfile.ZipFile(self.path) as archive,
            archive.open(self.member) as packed,
            tempfile.TemporaryFile() as spool,
        ):
            packed.read(self.offset)
            left = self.nbytes
            while left and (piece := packed.read(min(left, _COPY_BYTES))):
                spool.write(piece)
                left -= len(piece)
            spool.flush()
            yield spool, 0

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
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is reported as such
            return stored.astype(np.float32, copy=False)
