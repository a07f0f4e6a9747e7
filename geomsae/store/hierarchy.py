"""Where a store lies, and how a group gets into it: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import zarr
from fsspec.implementations.local import LocalFileSystem

from geomsae.dictionary import RESULTS
from geomsae.errors import LinkError, StoreError, TakenError, UnreachableError
from geomsae.store.claims import Claims
from geomsae.store.elsewhere import Elsewhere, answering, check_writable, exists, reach
from geomsae.store.layout import COMPLETE, FORMAT, KIND
from geomsae.store.locks import Holder, OnWait, held, in_silence
from geomsae.store.staging import KEPT, METADATA, cache_folder, folder, remove_abandoned, take_in
from geomsae.store.upload import Upload, finished_group

_OR = "; if it was one, 'geomsae verify --repair' with this --store mends it"
"""What else a folder may be that does not say that it is a store."""

_WALKERS = 16
"""Groups that are looked at at a time where every look has far to go."""


class Hierarchy:
    """The Zarr hierarchy of one store, at a local path or an fsspec URL.

    Parameters
    ----------
    location : str or Path
        Where it lies.
    create : bool
        Whether a missing store is an empty one, to be made by the first commit.

    Raises
    ------
    StoreError
        If there is no store, or something else, or one of a later format.
    """

    def __init__(self, location: str | Path, *, create: bool = False) -> None:
        self.location = str(location)
        self.fs, self.root = reach(os.path.expanduser(self.location))
        self.is_local = isinstance(self.fs, LocalFileSystem)
        self._check(create)

    @property
    def address(self) -> str:
        """Where it lies, said so that any process on any folder finds it."""
        return str(self.root) if self.is_local else self.location

    def _check(self, create: bool) -> None:
        self._is_new = not exists(self.fs, self.root, self.location)
        if self._is_new:
            if create:
                return
            raise StoreError(
                f"there is no store at {self.location}: 'geomsae convert' makes one, "
                "--store names another"
            )
        with answering(self.location):
            if not self.fs.isdir(self.root):
                raise StoreError(f"{self.location} is a file, not a store")
        attributes = self.attributes("")
        if attributes is None:
            self._is_new = True
            if self._entries(""):
                raise StoreError(f"{self.location} is a folder of something else, not a store{_OR}")
        elif attributes.get(KIND) != "store":
            raise StoreError(
                f"{self.location} is a Zarr hierarchy, but not a store of geomsae{_OR}"
            )
        elif attributes.get("format", 0) > FORMAT:
            raise StoreError(
                f"{self.location} has format {attributes['format']}, and this geomsae reads up to "
                f"{FORMAT}: upgrade geomsae"
            )

    def zarr_store(self) -> Any:
        """The hierarchy as a read-only Zarr store."""
        if self.is_local:
            return zarr.storage.LocalStore(self.root, read_only=True)
        return Elsewhere.at(self.location)

    def attributes(self, path: str) -> dict[str, Any] | None:
        """The attributes of the group at `path`; None where there is no group."""
        try:
            with answering(self.location):
                content = self.fs.cat_file(self._at(path, METADATA))
        except FileNotFoundError:
            return None
        try:
            metadata = json.loads(content)
            if metadata["node_type"] == "array":
                return None
            if metadata["node_type"] != "group":
                raise ValueError("neither an array nor a group")
            found: dict[str, Any] = {**metadata.get("attributes", {})}
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{self._at(path, METADATA)} is damaged: 'geomsae verify --repair --store "
                f"{self.location}' sets it aside, then convert or compute it again"
            ) from error
        return found

    def groups(self, path: str) -> Iterator[str]:
        """Names of the folders directly below the group at `path`, sorted."""
        for entry in sorted(self._entries(path), key=lambda entry: str(entry["name"])):
            if entry["type"] == "directory":
                yield PurePosixPath(entry["name"]).name

    def complete(self, kind: str, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """Every finished group of a kind at or below `path`, with its attributes.

        Arrays are not looked into, nor are results when decoders are asked for.
        """
        for at, attributes, _ in self.walk(path, into_results=kind != "decoder"):
            if attributes.get(KIND) == kind and attributes.get("status") == COMPLETE:
                yield at, attributes

    def walk(
        self, path: str = "", *, into_results: bool = True
    ) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        """Every group at or below `path`: its path, its attributes, the names of folders in it."""
        level = [path]
        with ThreadPoolExecutor(_WALKERS) as pool:
            several = map if self.is_local else pool.map
            while level:
                below = []
                for at, attributes, names in several(self._look, level):
                    yield at, attributes, names
                    names = [name for name in names if into_results or name != RESULTS]
                    below += [f"{at}/{name}" if at else name for name in names]
                level = below
        if not self._is_new and self.attributes("") is None:
            raise self._gone()  # or what was not seen would pass for what is not there

    @property
    def work(self) -> Path:
        """The local folder of unfinished work and locks: beside the store, or in the user's cache.

        What there was for a store elsewhere is found again by its address.
        """
        if self.is_local:
            return Path(f"{self._at()}-work")
        return cache_folder() / f"{_digest(self.address)}-work"

    def keeps(self, source: str) -> bool:
        """Whether there is something of an interrupted run, or of one that goes on."""
        name = f"{KEPT}{_digest(source)}"
        return any((self.work / place).exists() for place in (name, f"{name}.lock"))

    @contextmanager
    def staging(
        self,
        source: str = "",
        keep_after: tuple[type[BaseException], ...] = (
            KeyboardInterrupt,
            LinkError,
            UnreachableError,
        ),
        *,
        what: str = "",
        on_wait: OnWait = in_silence,
        shared: bool = True,
    ) -> Iterator[Path]:
        """A local folder to build groups in; `commit` brings them into the store, all or nothing.

        What a killed process left there is removed by the next one.

        Parameters
        ----------
        source : str
            What is built, if it is worth to be gone on with: then the folder of an interrupted run
            is found again as it was, within a week, and no two runs have it at once.
        keep_after : tuple of exceptions
            What counts as an interruption.
        what : str
            What is done here, for others who would do the same: ``counts gpt/pt/layer_0``.
        on_wait : callable
            Told who is at it already, if somebody is; to raise is to go away instead.
        shared : bool
            Whether it is for the store, so that it must be possible to write there, and no other
            machine should do the same.
        """
        if shared and not self.is_local:
            check_writable(self.fs, self.root, self.location)
        remove_abandoned(self.work)
        name = f"{KEPT}{_digest(source)}" if source else uuid.uuid4().hex
        everywhere = shared and bool(source)
        with (
            self._alone(name, what, on_wait, everywhere=everywhere),
            folder(self.work / name, keep_after) as stage,
        ):
            yield stage

    def commit(self, stage: Path, replaced: str = "", on_wait: OnWait = in_silence) -> None:
        """Bring everything in `stage` into the hierarchy: one finished group.

        Parameters
        ----------
        stage : Path
            As `staging` gave it.
        replaced : str
            A group that makes room first, if it is there: for a moment there is none.
        on_wait : callable
            Told who is bringing the same group, if somebody is.

        Raises
        ------
        TakenError
            If the group is there already; then nothing of it is brought.
        """
        metadata = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {KIND: "store", "format": FORMAT},
        }
        root = json.dumps(metadata, indent=2).encode()
        if self.is_local:
            if self._is_new:
                _make(Path(self.root) / METADATA, root, stage)
                self._is_new = False
            elif not (Path(self.root) / METADATA).exists():
                raise self._gone()
            take_in(stage, Path(self.root), replaced)
            return
        upload = Upload(self.fs, self._at(), self.location)
        path = finished_group(stage)
        name = f"{KEPT}{_digest(f'write {path}')}"
        with self._alone(name, f"writes {path}", on_wait, everywhere=True) as still_mine:
            if path != replaced:
                self.check_free(path)
            if self._is_new:
                upload.create(METADATA, root)
                self._is_new = False
            elif self.attributes("") is None:
                raise self._gone()
            upload.bring(stage, path, still_mine, replace=path == replaced)

    def _gone(self) -> StoreError:
        """The sentence for a store that was here: it is not made anew without what it held."""
        return StoreError(
            f"the store at {self.location} is gone: what was counted of a dictionary is kept, put "
            "the store back and run again"
        )

    def check_free(self, path: str) -> None:
        """Refuse to make a group that is finished already.

        Raises
        ------
        TakenError
            If it is.
        """
        there = self.attributes(path)
        if there and there.get("status") == COMPLETE:
            raise TakenError(f"{path} is there already: another run was first")

    @contextmanager
    def _alone(
        self, name: str, what: str, on_wait: OnWait, *, everywhere: bool
    ) -> Iterator[Callable[[], bool]]:
        """Be the only one at something: on this machine, or wherever the store is reached from.

        Yields
        ------
        callable
            Whether that is still so.
        """
        me = Holder.me(what)
        try:
            with held(self.work / f"{name}.lock", me, on_wait) as dead:
                if self.is_local or not everywhere:
                    yield lambda: True
                    return
                claims = Claims(self.fs, f"{self._at()}-work", self.location)
                with claims.held(name, me, on_wait, dead) as still_mine:
                    yield still_mine
        finally:
            with suppress(OSError):
                self.work.rmdir()  # empty, unless another process works here

    def _look(self, path: str) -> tuple[str, dict[str, Any], list[str]]:
        """A path with the attributes of its group and the folders in it; nothing if it is none."""
        attributes = self.attributes(path)
        return path, attributes or {}, [] if attributes is None else list(self.groups(path))

    def _entries(self, path: str) -> list[dict[str, Any]]:
        with answering(self.location), suppress(FileNotFoundError):
            return list(self.fs.ls(self._at(path), detail=True))
        return []

    def _at(self, *parts: str) -> str:
        return "/".join([self.root.rstrip("/"), *(part for part in parts if part)])


def _digest(words: str) -> str:
    """A name for what has too many words for one."""
    return hashlib.sha256(words.encode()).hexdigest()[:32]


def _make(path: Path, content: bytes, stage: Path) -> None:
    """Write a file that is not there, at once."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    written = stage / f"{path.name}.new"
    written.write_bytes(content)
    written.replace(path)
