"""How groups get into a store where nothing can be renamed: whole, because the last object decides.

First come the groups that a new one lies in, and a word that it is unfinished; then the chunks of
its arrays, then what makes them arrays, and last the metadata of the group itself, which says that
it is finished. Who reads in between, or after a kill, finds a group that says it is unfinished, and
is warned by Zarr of chunks that are no array yet; an array that is shown is whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from geomsae.errors import TakenError
from geomsae.store.elsewhere import answering, writing
from geomsae.store.layout import UNFINISHED
from geomsae.store.staging import METADATA

_AT_ONCE = 4
"""Files that travel at a time. Each is held in memory."""


_UNFINISHED = {
    "zarr_format": 3,
    "node_type": "group",
    "attributes": {"status": UNFINISHED},
}


def finished_group(stage: Path) -> str:
    """Path of the one group in `stage` that says what it is."""
    (found,) = (
        file.parent.relative_to(stage).as_posix()
        for file in stage.rglob(METADATA)
        if (metadata := json.loads(file.read_bytes()))["node_type"] == "group"
        and metadata.get("attributes")
    )
    return found


@dataclass(frozen=True, slots=True)
class Upload:
    """Files on their way from this machine into a store elsewhere.

    Parameters
    ----------
    fs : fsspec filesystem
        Where the store lies.
    root : str
        Its path there, without a slash at the end.
    location : str
        The store, as a user calls it.
    """

    fs: Any
    root: str
    location: str

    def create(self, path: str, content: bytes) -> None:
        """Write a file, unless it is there."""
        at = self._at(path)
        with writing(self.location), suppress(FileExistsError):
            if not self.fs.exists(at):  # not all services know how to make only what is new
                self.fs.pipe_file(at, content, mode="create")

    def bring(
        self, stage: Path, path: str, still_mine: Callable[[], bool], *, replace: bool = False
    ) -> None:
        """Bring a group there.

        Parameters
        ----------
        stage : Path
            Where it was built, with the groups above it.
        path : str
            The group.
        still_mine : callable
            Whether nobody else was given the right to it meanwhile.
        replace : bool
            Whether all that lies there makes room. Else only the places of its arrays are cleared,
            where a killed process may have left something.

        Raises
        ------
        TakenError
            If somebody was given it; then the group does not appear.
        UnreachableError
            If the store stops answering.
        """
        for above in reversed(PurePosixPath(path).parents[:-1]):
            name = f"{above}/{METADATA}"
            self.create(name, (stage / name).read_bytes())
        group = stage / path
        arrays = [file.parent.name for file in group.glob(f"*/{METADATA}")]
        with writing(self.location):
            self.fs.pipe_file(self._at(path, METADATA), json.dumps(_UNFINISHED).encode())
        for name in self._folders(path):
            if replace or name in arrays:
                self._remove(f"{path}/{name}")
        self._put(stage, [f for name in arrays for f in (group / name).rglob("*") if _is_chunk(f)])
        self._put(stage, [group / name / METADATA for name in arrays])
        if not still_mine():
            raise TakenError(f"{path} was taken over by another run, which writes it")
        self._put(stage, [group / METADATA])

    def _folders(self, path: str) -> list[str]:
        with answering(self.location):
            found = self.fs.ls(self._at(path), detail=True)
        return [PurePosixPath(e["name"]).name for e in found if e["type"] == "directory"]

    def _remove(self, path: str) -> None:
        """Remove an array or what was to be one: first what says that it is."""
        with answering(self.location), suppress(FileNotFoundError):
            self.fs.rm_file(self._at(path, METADATA))
        with answering(self.location), suppress(FileNotFoundError):
            self.fs.rm(self._at(path), recursive=True)

    def _put(self, stage: Path, files: list[Path]) -> None:
        """Bring files, several at a time; the first that fails stops the others."""

        def put(file: Path) -> None:
            with writing(self.location):
                self.fs.put_file(str(file), self._at(file.relative_to(stage).as_posix()))

        with ThreadPoolExecutor(min(_AT_ONCE, len(files))) as pool:
            try:
                list(pool.map(put, files))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _at(self, *parts: str) -> str:
        return "/".join((self.root, *parts))


def _is_chunk(file: Path) -> bool:
    return file.name != METADATA and file.is_file()
