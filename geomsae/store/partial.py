"""What is counted so far of one dictionary: kept beside it, so that it survives a kill.

It is no group of the hierarchy, and nobody takes it for a result.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.store.hierarchy import Hierarchy
from geomsae.store.locks import OnWait, in_silence, leave

_FILE = "so_far.npz"
_SOURCE = "source"

Arrays = dict[str, NDArray[Any]]


class Partial:
    """A file of arrays that is whole or not there, and belongs to one piece of work alone.

    Parameters
    ----------
    folder : Path
        Where it lies.
    source : str
        What the work is.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self._file = folder / _FILE
        self._source = np.frombuffer(source.encode(), np.uint8)

    def load(self) -> Arrays | None:
        """What an interrupted run left; None where there is nothing, or nothing whole."""
        try:
            with self._file.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                found = {name: kept[name] for name in kept.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, zipfile.BadZipFile):
            self.remove()
            return None
        if not np.array_equal(found.pop(_SOURCE, np.empty(0)), self._source):
            return None
        return found

    def save(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep arrays in the place of what was kept before."""
        written = self._file.with_suffix(".new")
        with written.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_SOURCE: self._source, **arrays})
            file.flush()
            os.fsync(file.fileno())
        written.replace(self._file)

    def remove(self) -> None:
        """Forget what was kept."""
        self._file.unlink(missing_ok=True)


@contextlib.contextmanager
def partial(
    hierarchy: Hierarchy,
    what: str,
    on_wait: OnWait = in_silence,
    *,
    shared: bool = True,
    **source: Any,
) -> Iterator[Partial]:
    """Hold the only right to a piece of work, and what an interrupted run left of it.

    Whoever comes second waits until the first is done. At the end what was kept is removed; after
    an error it stays, for a week.

    Parameters
    ----------
    hierarchy : Hierarchy
        The store.
    what : str
        The work in words, for whoever waits: ``counts gpt/pt/layer_0``.
    on_wait : callable
        Told who is at it already, if somebody is; to raise is to go away instead.
    shared : bool
        Whether the store is to have the result, so that no other machine should be at it either.
    **source
        What the work is, in plain values.
    """
    named = _named(source)
    with hierarchy.staging(
        named, (BaseException,), what=what, on_wait=on_wait, shared=shared
    ) as folder:
        yield Partial(folder, named)


def put_away(hierarchy: Hierarchy, **source: Any) -> None:
    """Remove what was kept of a piece of work that is done.

    Raises
    ------
    BusyError
        If somebody is at it.
    """
    if hierarchy.keeps(_named(source)):
        with hierarchy.staging(_named(source), on_wait=leave):
            pass


def _named(source: dict[str, Any]) -> str:
    return f"count {json.dumps(source, sort_keys=True)}"
