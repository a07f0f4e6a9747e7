"""Where groups are built before a store shows them, and how a local store then takes them in."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geomsae.errors import TakenError
from geomsae.store.locks import held_if_abandoned

METADATA = "zarr.json"
"""The file that makes a folder a group or an array."""

KEPT = "kept-"
"""How the name of a folder begins that another run may go on with."""

KEPT_SECONDS = 7 * 24 * 3600
"""How long it may."""

_REPLACED = "_replaced"


def cache_folder() -> Path:
    """Where this user's programs keep what they can do without."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "geomsae"
    usual = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / usual / "geomsae"


@contextmanager
def folder(place: Path, keep_after: tuple[type[BaseException], ...]) -> Iterator[Path]:
    """Have a folder, as it was left; it is removed at the end, unless that was an interruption."""
    keep = False
    try:
        place.mkdir(exist_ok=True)
        os.utime(place)
        yield place
    except keep_after:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)


def remove_abandoned(work: Path) -> None:
    """Remove the folders and locks of dead processes, but for what another run may go on with.

    The locks tell it who died, so they stay as long as the folders do.
    """
    for path in _inside(work):
        place, lock = path.with_suffix(""), path.with_suffix(".lock")
        if place.name.startswith(KEPT) and not _is_old(path):
            continue
        if path == lock:
            with held_if_abandoned(lock) as abandoned:
                if abandoned:
                    shutil.rmtree(place, ignore_errors=True)
                    lock.unlink(missing_ok=True)
        elif not lock.exists():
            shutil.rmtree(place, ignore_errors=True)


def _inside(folder: Path) -> list[Path]:
    """What lies in a folder; nothing if it is gone, as another process or thread may remove it."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return list(folder.iterdir())
    return []


def _is_old(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > KEPT_SECONDS
    return False


def take_in(stage: Path, root: Path, replaced: str = "") -> None:
    """Move everything in `stage` under `root`: each finished group appears at once.

    Parameters
    ----------
    stage : Path
        A folder of groups, on the same disk.
    root : Path
        The hierarchy, which is there.
    replaced : str
        A group that makes room first, if it is there: between the two moves there is none.

    Raises
    ------
    TakenError
        If one of its arrays is there already; then nothing of that group is moved.
    """
    if replaced and (root / replaced).exists():
        (root / replaced).rename(stage / _REPLACED)
    for child in sorted(path for path in stage.iterdir() if path.is_dir()):
        if child.name != _REPLACED:
            _graft(child, root / child.name)


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
    metadata = json.loads((source / METADATA).read_text())
    if metadata["node_type"] == "array":
        raise TakenError(f"{target} is there already: another run was first")
    for child in sorted(path for path in source.iterdir() if path.is_dir()):
        _graft(child, target / child.name)
    if metadata.get("attributes"):
        (source / METADATA).replace(target / METADATA)
