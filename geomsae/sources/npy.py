"""Arrays in ``.npy`` and ``.npz`` files: a short header, then the bytes of the array.

Headers are parsed by NumPy without unpickling anything; arrays of Python objects are never read.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from geomsae.errors import SourceError
from geomsae.sources.tensor import Tensor

_LOCAL_HEADER = struct.Struct("<26xHH")


def npy_tensors(path: Path) -> list[Tensor]:
    """The one array of a ``.npy`` file.

    Raises
    ------
    SourceError
        If the file is not npy, or is shorter than its header says.
    """
    try:
        with path.open("rb") as file:
            tensor = _tensor(file, path, key="", start=0)
    except (ValueError, EOFError) as error:
        raise SourceError(f"{path} is not a whole npy file: {error}") from error
    if tensor.offset + tensor.nbytes > path.stat().st_size:
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
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            for info in archive.infolist():
                if not info.filename.endswith(".npy"):
                    continue
                key = info.filename.removesuffix(".npy")
                with archive.open(info) as member:
                    if info.compress_type == zipfile.ZIP_STORED:
                        tensor = _tensor(member, path, key, _data_start(file, info))
                    else:
                        tensor = _tensor(member, path, key, 0, info.filename)
                    if member.tell() + tensor.nbytes > info.file_size:
                        raise SourceError(f"{tensor.name} is larger than the file holds")
                found.append(tensor)
    except (ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} is not a whole npz file: {error}") from error
    return found


def _data_start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin; its own header may be longer than the directory's."""
    file.seek(info.header_offset)
    name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)


def _tensor(file: IO[bytes], path: Path, key: str, start: int, member: str = "") -> Tensor:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"npy version {version[0]}.{version[1]} is not one for plain arrays")
    return Tensor(
        path, key, shape, dtype.name, start + file.tell(), dtype.byteorder, fortran, member
    )
