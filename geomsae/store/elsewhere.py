"""Stores that are no folder of this machine: how they are reached, and what to say if they are not.

Everything goes through fsspec, without its memory of listings: other machines write here as well.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import fsspec
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore

from geomsae.errors import GeomsaeError, StoreError, UnreachableError

_OPTIONS = {"use_listings_cache": False}

_FIRST_ANSWER = 10.0
"""Seconds within which a store has to answer when it is opened."""

_READ_ONLY = {"hf", "http", "https"}

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""What brings the package that a kind of address needs."""

_SECRET = re.compile(r"://[^/@:]*:(?!\d+(/|$))[^@]*@")
"""A password in an address, which may hold slashes; a port is none."""

_ABSENT = (
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)
"""What says only that something is there, or is not."""

_CREDENTIALS = re.compile(
    r"credentials|unauthori[sz]ed|forbidden|access denied|expired|\b40[13]\b", re.IGNORECASE
)
"""What a refusal says of whom it refuses, in the words of several providers."""


def reach(location: str) -> tuple[Any, str]:
    """The filesystem that an address speaks of, and the path in it.

    Raises
    ------
    StoreError
        If there is no such kind of filesystem, or its package is not here, or the address holds a
        password.
    """
    protocol = location.partition("://")[0]
    if _SECRET.search(location):
        raise StoreError(
            f"an address of {protocol}:// holds a password, which would end up where addresses are "
            "shown: leave it out, and give it in the environment or in a file of the provider"
        )
    try:
        fs, root = fsspec.core.url_to_fs(location, **({} if is_here(location) else _OPTIONS))
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        how = f"pip install 'geomsae[{extra}]'" if extra else str(error)
        raise StoreError(f"{location} needs a package that is not here: {how}") from error
    except ValueError as error:
        raise StoreError(f"no store can be opened at {location}: {error}") from error
    return fs, root


def is_here(location: str) -> bool:
    """Whether an address is that of a folder of this machine."""
    return "://" not in location or location.startswith(("file://", "local://"))


def exists(fs: Any, root: str, location: str) -> bool:
    """Whether anything is there, asked of a filesystem for the first time."""
    patience = {"timeout": _FIRST_ANSWER} if fs.async_impl else {}
    with answering(location):
        return bool(fs.exists(root, **patience))


def check_writable(fs: Any, root: str, location: str) -> None:
    """Refuse to write where that cannot be, before any work.

    Raises
    ------
    StoreError
        If the address is read-only, or is a whole bucket, which has nothing beside it.
    """
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if protocols & _READ_ONLY:
        raise StoreError(
            f"{location} can only be read: write to a folder, or to s3:// or gs://, and copy it "
            "there"
        )
    if "/" not in root.rstrip("/"):
        raise StoreError(
            f"{location} leaves no place beside the store: name a folder in it, such as 'store'"
        )


@contextmanager
def answering(location: str) -> Iterator[None]:
    """Turn whatever a filesystem elsewhere raises into one sentence.

    That something is there, or is not, stays what it is, and so does what this machine says.

    Raises
    ------
    UnreachableError
        If it does not answer.
    StoreError
        If it refuses.
    """
    try:
        yield
    except (GeomsaeError, *_ABSENT):
        raise
    except NotImplementedError as error:
        raise StoreError(f"{location} can only be read: write to another store") from error
    except Exception as error:
        if is_here(location):
            raise
        said = " ".join(str(error).split()) or "no answer in time"
        if isinstance(error, PermissionError) or _CREDENTIALS.search(said):
            raise StoreError(
                f"{location} refuses this user ({said}): its credentials are taken from the "
                "environment and the files of the provider, set those that may use it"
            ) from error
        raise UnreachableError(
            f"{location} does not answer ({said}): what was finished is kept, look at the address "
            "and the network, and run again"
        ) from error


@contextmanager
def writing(location: str) -> Iterator[None]:
    """Do as `answering` does, where what is not there is the place to write to.

    Raises
    ------
    UnreachableError, StoreError
        As `answering` does, and if there is no such bucket.
    """
    try:
        with answering(location):
            yield
    except FileNotFoundError as error:
        raise StoreError(
            f"nothing can be written to {location} ({error}): make the bucket first"
        ) from error


class Elsewhere(FsspecStore):
    """A Zarr store through fsspec, to be read, whose failures are sentences."""

    location = "the store"

    @classmethod
    def at(cls, location: str) -> Elsewhere:
        """The store at an address."""
        opened: Any = cls.from_url(location, storage_options=_OPTIONS, read_only=True)
        opened.location = location
        return cast(Elsewhere, opened)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of an object, or a range of them; None where there is none."""
        with answering(self.location):
            return await super().get(key, prototype, byte_range)

    async def exists(self, key: str) -> bool:
        """Whether there is an object."""
        with answering(self.location):
            return await super().exists(key)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names directly below a folder."""
        with answering(self.location):
            async for name in super().list_dir(prefix):
                yield name
