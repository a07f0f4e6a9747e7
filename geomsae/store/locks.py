"""Who is at what on this machine: lock files that say it, and that the kernel opens on any death.

On a folder that several machines share over a network it depends on the file system whether the
others see the lock: NFS since version 4 and most cluster file systems do.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from geomsae.errors import BusyError
from geomsae.sources.interrupt import pause

LOOK_AGAIN = 0.2
"""Seconds between two looks at a lock that somebody holds."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A run that is at something.

    Parameters
    ----------
    what : str
        What it does, as a verb and its object: ``counts gpt/pt/layer_0``.
    process : int
        Its number on its machine.
    host : str
        Its machine.
    since : float
        When it began, in seconds of the epoch.
    token : str
        What tells this from any other time that anybody was at anything.
    """

    what: str
    process: int
    host: str
    since: float
    token: str

    @classmethod
    def me(cls, what: str) -> Holder:
        """The running process, from now on."""
        return cls(what, os.getpid(), socket.gethostname(), time.time(), uuid.uuid4().hex)

    @classmethod
    def from_json(cls, text: str | bytes) -> Holder | None:
        """What `to_json` wrote; None where it was not all written."""
        with suppress(ValueError, TypeError):
            return cls(**json.loads(text))
        return None

    def to_json(self) -> str:
        """All of it as one line."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        began = time.strftime("%H:%M", time.localtime(self.since))
        return f"process {self.process} on {self.host}, which {self.what} since {began}"


OnWait = Callable[[Holder], object]
"""Told once who is waited for; to raise is to go away instead."""


def in_silence(_: Holder) -> None:
    """Wait."""


def leave(other: Holder) -> None:
    """Go away.

    Raises
    ------
    BusyError
        Always.
    """
    raise BusyError(f"{other}: run again when that is done")


@contextmanager
def held(lock: Path, holder: Holder, on_wait: OnWait) -> Iterator[Holder | None]:
    """Hold a lock file, which is removed at the end.

    Parameters
    ----------
    lock : Path
        Where it lies. Folders above it are made.
    holder : Holder
        What to write into it.
    on_wait : callable
        Told who holds it, if somebody does.

    Yields
    ------
    Holder or None
        Who died over it, if somebody did.
    """
    looks = 0
    while True:
        with ExitStack() as opened:
            try:
                lock.parent.mkdir(parents=True, exist_ok=True)
                file = opened.enter_context(lock.open("a+"))
            except (FileExistsError, FileNotFoundError):
                if lock.parent.is_file():
                    raise
                continue  # another thread or process just removed the empty folder
            if not _taken(file):
                looks += 1
                if looks == 2 and (other := _read(file)):  # at the first, somebody may only look
                    on_wait(other)
                pause(LOOK_AGAIN)
            elif _is_at(lock, file):
                opened.callback(lock.unlink, missing_ok=True)
                yield _exchange(file, holder)
                return


@contextmanager
def held_if_abandoned(lock: Path) -> Iterator[bool]:
    """Hold a lock that is there and that nobody holds; yields whether it is so."""
    try:
        file = lock.open("r+")
    except FileNotFoundError:
        yield False
        return
    with file:
        yield _taken(file) and _is_at(lock, file)


def _taken(file: IO[str]) -> bool:
    """Lock an open file, until it is closed, unless somebody has it."""
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _is_at(path: Path, file: IO[str]) -> bool:
    """Whether an open file is still there: who held it may have removed it meanwhile."""
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _read(file: IO[str]) -> Holder | None:
    file.seek(0)
    return Holder.from_json(file.read())


def _exchange(file: IO[str], holder: Holder) -> Holder | None:
    """Write who holds a lock, and tell who did before."""
    before = _read(file)
    file.truncate(0)
    file.write(holder.to_json())
    file.flush()
    return before
