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
from typing import IO

import numpy as np

from geomsae.errors import SourceError
from geomsae.sources.file import File
from geomsae.sources.tensor import FLOATS, Tensor

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 1

_MOST_DEFLATED = 1032
"""Bytes that one deflated byte can stand for, at most."""


def npy_tensors(file: File) -> list[Tensor]:
    """The one array of a ``.npy`` file.

    Raises
    ------
    SourceError
        If the file is not npy, or is shorter than its header says.
    """
    with file.open() as stream, _explained(file, "npy"):
        tensor = _tensor(stream, file, key="")
    if tensor.dtype in FLOATS and tensor.offset + tensor.nbytes > file.size:
        raise SourceError(f"{file.name} ends early: the file is cut short, fetch it again")
    return [tensor]


def npz_tensors(file: File) -> list[Tensor]:
    """Every array of an ``.npz`` file, stored or deflated.

    Raises
    ------
    SourceError
        If the file is not a zip of npy arrays, or a member is shorter than its header says.
    """
    found = []
    with (
        file.open() as stream,
        _explained(file, "npz"),
        zipfile.ZipFile(stream) as archive,
    ):
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                continue
            stored = info.compress_type == zipfile.ZIP_STORED
            read = _stored if stored else _packed
            tensor, length = read(archive, info, stream, file)
            if tensor.dtype in FLOATS and length + tensor.nbytes != info.file_size:
                raise ValueError(f"{tensor.key} does not have the bytes that its header says")
            found.append(tensor)
    return found


def _stored(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, stream: IO[bytes], file: File
) -> tuple[Tensor, int]:
    """A member that lies plain in the file, and the length of its header."""
    if info.flag_bits & _ENCRYPTED or info.compress_size != info.file_size:
        raise ValueError(f"{info.filename} is not stored plainly")
    start = _data_start(stream, info)
    if start + info.file_size > archive.start_dir:
        raise ValueError(f"{info.filename} runs into the directory")
    stream.seek(start)
    tensor = _tensor(stream, file, info.filename.removesuffix(".npy"))
    length = stream.tell() - start
    stream.seek(start)
    return replace(tensor, crcs=(info.CRC, zlib.crc32(stream.read(length)))), length


def _packed(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, _: IO[bytes], file: File
) -> tuple[Tensor, int]:
    """A member that has to be unpacked, and the length of its header."""
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    if deflated and info.file_size > _MOST_DEFLATED * info.compress_size:
        raise ValueError(f"{info.filename} claims more than deflate can pack into its bytes")
    with archive.open(info) as member:
        tensor = _tensor(member, file, info.filename.removesuffix(".npy"))
        return replace(tensor, member=info.filename), member.tell()


@contextmanager
def _explained(file: File, kind: str) -> Iterator[None]:
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
        raise SourceError(f"{file.name} is not a whole {kind} file: {reason}") from error


def _data_start(stream: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin; its own header may be longer than the directory's."""
    stream.seek(info.header_offset)
    signature, name, extra = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise ValueError(f"{info.filename} is not where the directory says")
    return info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)


def _tensor(stream: IO[bytes], file: File, key: str) -> Tensor:
    """What the header that begins here says; the offset is that of the elements in the stream."""
    version = np.lib.format.read_magic(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"npy version {version[0]}.{version[1]} is not for plain arrays")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"its shape is {shape}")
    return Tensor(file, key, shape, dtype.name, stream.tell(), dtype.byteorder, fortran)
