"""Arrays in ``.npy`` and ``.npz`` files: a short header, then the bytes of the array.

Headers are parsed by NumPy without unpickling anything; arrays of Python objects are never read.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from geomsae.errors import SourceError
from geomsae.sources.tensor import FLOATS, Tensor

_LOCAL_HEADER = struct.Struct("<26xHH")


def npy_tensors(path: Path) -> list[Tensor]:
    """The one array of a ``.npy`` file.

    Raises
    ------
    SourceError
        If the file is not npy, or is shorter than its header says.
    """
    with path.open("rb") as file, _explained(path, "npy"):
        tensor = _tensor(file, path, key="", start=0)
    if tensor.dtype in FLOATS and tensor.offset + tensor.nbytes > path.stat().st_size:
        raise SourceError(f"{path} ends early: the file is cut short, fetch it again")
    return [tensor]


def npz_tensors(path: Path) -> list[Tensor]:
    """Every array of an ``.npz`` file, stored or deflated.

    Raises
    ------
    SourceError
        If the file is not a zip of npy arrays, or a member is shorter than its header says.
    """
    found = []
    with (
        path.open("rb") as file,
        _explained(path, "npz"),
        zipfile.ZipFile(path) as archive,
    ):
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                continue
            key = info.filename.removesuffix(".npy")
            with archive.open(info) as member:
                stored = info.compress_type == zipfile.ZIP_STORED
                start = _data_start(file, info) if stored else 0
                tensor = _tensor(member, path, key, start, "" if stored else info.filename)
                length = member.tell()
            if tensor.dtype in FLOATS and length + tensor.nbytes > info.file_size:
                raise ValueError(f"{key} is larger than the file holds")
            if stored and tensor.dtype in FLOATS and length + tensor.nbytes == info.file_size:
                file.seek(start)
                tensor = replace(tensor, crcs=(info.CRC, zlib.crc32(file.read(length))))
            found.append(tensor)
    return found


@contextmanager
def _explained(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a broken file makes the readers raise into one sentence.

    NumPy parses headers as Python literals, and lets out what its parser raises.
    """
    try:
        yield
    except (
        EOFError,
        NotImplementedError,
        RuntimeError,
        SyntaxError,
        TypeError,
        ValueError,
        lzma.LZMAError,
        struct.error,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = (str(error).splitlines() or ["it breaks off"])[0]
        raise SourceError(f"{path} is not a whole {kind} file: {reason}") from error


def _data_start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin; its own header may be longer than the directory's."""
    file.seek(info.header_offset)
    name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)


def _tensor(file: IO[bytes], path: Path, key: str, start: int, member: str = "") -> Tensor:
    version = np.lib.format.read_magic(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"npy version {version[0]}.{version[1]} is not for plain arrays")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"its shape is {shape}")
    return Tensor(
        path, key, shape, dtype.name, start + file.tell(), dtype.byteorder, fortran, member
    )
