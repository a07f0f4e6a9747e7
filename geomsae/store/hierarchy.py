"""Where a store lies, and how a group gets into it: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import fsspec
import zarr
from fsspec.implementations.local import LocalFileSystem

from geomsae.dictionary import RESULTS
from geomsae.errors import LinkError, StoreError, TakenError
from geomsae.store.layout import COMPLETE, FORMAT, KIND

_METADATA = "zarr.json"

_REPLACED = "_replaced"

_KEPT = "kept-"
_KEPT_SECONDS = 7 * 24 * 3600


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
        try:
            self.fs, self.root = fsspec.core.url_to_fs(os.path.expanduser(self.location))
        except (ImportError, ValueError) as error:
            raise StoreError(f"no store can be opened at {self.location}: {error}") from error
        self.is_local = isinstance(self.fs, LocalFileSystem)
        self._check(create)

    @property
    def address(self) -> str:
        """Where it lies, said so that any process on any folder finds it."""
        return str(self.root) if self.is_local else self.location

    def _check(self, create: bool) -> None:
        if not self.fs.exists(self.root):
            if create:
                return
            raise StoreError(
                f"there is no store at {self.location}: 'geomsae convert' makes one, "
                "--store names another"
            )
        if not self.fs.isdir(self.root):
            raise StoreError(f"{self.location} is a file, not a store")
        attributes = self.attributes("")
        if attributes is None:
            if self.fs.ls(self.root, detail=False):
                raise StoreError(f"{self.location} is a folder of something else, not a store")
        elif attributes.get(KIND) != "store":
            raise StoreError(f"{self.location} is a Zarr hierarchy, but not a store of geomsae")
        elif attributes.get("format", 0) > FORMAT:
            raise StoreError(
                f"{self.location} has format {attributes['format']}, and this geomsae reads up to "
                f"{FORMAT}: upgrade geomsae"
            )

    def zarr_store(self) -> Any:
        """The hierarchy as a read-only Zarr store."""
        if self.is_local:
            return zarr.storage.LocalStore(self.root, read_only=True)
        return zarr.storage.FsspecStore.from_url(self.location, read_only=True)

    def attributes(self, path: str) -> dict[str, Any] | None:
        """The attributes of the group at `path`; None where there is no group."""
        try:
            metadata = json.loads(self.fs.cat_file(self._at(path, _METADATA)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(
                f"{self._at(path, _METADATA)} is damaged: move {self._at(path)} away, "
                "then convert or compute it again"
            ) from error
        if metadata.get("node_type") != "group":
            return None
        found: dict[str, Any] = metadata.get("attributes", {})
        return found

    def groups(self, path: str) -> Iterator[str]:
        """Names of the folders directly below the group at `path`, sorted."""
        with contextlib.suppress(FileNotFoundError):
            for entry in sorted(self.fs.ls(self._at(path), detail=True), key=lambda e: e["name"]):
                if entry["type"] == "directory":
                    yield PurePosixPath(entry["name"]).name

    def complete(self, kind: str, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """Every finished group of a kind at or below `path`, with its attributes.

        Arrays are not looked into, nor are results when decoders are asked for.
        """
        attributes = self.attributes(path)
        if attributes is None:
            return
        if attributes.get(KIND) == kind and attributes.get("status") == COMPLETE:
            yield path, attributes
        for name in self.groups(path):
            if kind != "decoder" or name != RESULTS:
                yield from self.complete(kind, f"{path}/{name}" if path else name)

    @contextlib.contextmanager
    def staging(
        self,
        source: str = "",
        keep_after: tuple[type[BaseException], ...] = (KeyboardInterrupt, LinkError),
    ) -> Iterator[Path]:
        """A folder beside the hierarchy to build groups in; `commit` moves them, all or nothing.

        What a killed process left there is removed by the next one.

        Parameters
        ----------
        source : str
            What is built, if it is worth to be gone on with: then the folder of an interrupted run
            is found again as it was, within a week.
        keep_after : tuple of exceptions
            What counts as an interruption.
        """
        if not self.is_local:
            raise StoreError(f"{self.location} can only be read: write to a local store")
        work = Path(f"{self.root.rstrip('/')}-work")
        _remove_abandoned(work)
        name = hashlib.sha256(source.encode()).hexdigest()[:32] if source else uuid.uuid4().hex
        stage = work / f"{_KEPT if source else ''}{name}"
        try:
            with _held(stage.with_suffix(".lock")):
                keep = False
                try:
                    stage.mkdir(exist_ok=bool(source))
                    os.utime(stage)
                    yield stage
                except keep_after:
                    keep = bool(source)
                    raise
                finally:
                    if not keep:
                        shutil.rmtree(stage, ignore_errors=True)
        finally:
            with contextlib.suppress(OSError):
                work.rmdir()  # empty, unless another process works here

    def commit(self, stage: Path, replaced: str = "") -> None:
        """Move everything in `stage` into the hierarchy.

        Parameters
        ----------
        stage : Path
            As `staging` gave it.
        replaced : str
            A group that makes room first, if it is there: between the two moves there is none.

        Raises
        ------
        TakenError
            If one of its arrays is there already; then nothing of that dictionary is moved.
        """
        root = Path(self.root)
        if not (root / _METADATA).exists():
            root.mkdir(parents=True, exist_ok=True)
            attributes = {KIND: "store", "format": FORMAT}
            metadata = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            _replace(root / _METADATA, json.dumps(metadata, indent=2), stage)
        if replaced and (root / replaced).exists():
            (root / replaced).rename(stage / _REPLACED)
        for child in sorted(path for path in stage.iterdir() if path.is_dir()):
            if child.name != _REPLACED:
                _graft(child, root / child.name)

    def _at(self, *parts: str) -> str:
        return "/".join([self.root.rstrip("/"), *(part for part in parts if part)])


def _graft(source: Path, target: Path) -> None:
    """Move a subtree of groups under a target that may be there in part.

    The highest folder that is new is renamed as a whole, so that everything below it appears at
    once; where a group is there already, its metadata is replaced last.
    """
    try:
        source.rename(target)
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    metadata = json.loads((source / _METADATA).read_text())
    if metadata["node_type"] == "array":
        raise TakenError(f"{target} is there already: another run was first")
    for child in sorted(path for path in source.iterdir() if path.is_dir()):
        _graft(child, target / child.name)
    if metadata.get("attributes"):
        (source / _METADATA).replace(target / _METADATA)


def _replace(path: Path, text: str, stage: Path) -> None:
    written = stage / f"{path.name}.new"
    written.write_text(text)
    written.replace(path)


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold a lock file, which is removed at the end; the kernel lets go of it on any death."""
    while True:
        with contextlib.ExitStack() as opened:
            try:
                lock.parent.mkdir(parents=True, exist_ok=True)
                file = opened.enter_context(lock.open("w"))
            except (FileExistsError, FileNotFoundError):
                if lock.parent.is_file():
                    raise
                continue  # another thread or process just removed the empty folder
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(lock, file):
                opened.callback(lock.unlink, missing_ok=True)
                yield
                return


def _is_at(path: Path, file: IO[str]) -> bool:
    """Whether an open file is still there: who held it may have removed it meanwhile."""
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _remove_abandoned(work: Path) -> None:
    """Remove the folders whose process is gone, but for what another run may go on with."""
    for lock in work.glob("*.lock"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not lock.name.startswith(_KEPT):
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
    for folder in work.glob(f"{_KEPT}*"):
        with contextlib.suppress(FileNotFoundError):
            old = time.time() - folder.stat().st_mtime > _KEPT_SECONDS
            if old and not folder.with_suffix(".lock").exists():
                shutil.rmtree(folder, ignore_errors=True)
