"""Who is at what in a store elsewhere: objects that say it, and that no human has to clear away.

No kernel lets go of an object when its owner dies. So an owner writes its claim anew every `BEAT`
seconds, and what has not changed for `DEAD` seconds, by the clock of who waits, is taken over.
To take over is to make the next object in a row, ``NAME.0``, ``NAME.1``, ..., of which the highest
counts: however many wait, only one can make it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from geomsae.errors import StoreError
from geomsae.sources.interrupt import pause
from geomsae.store.elsewhere import answering, writing
from geomsae.store.locks import Holder, OnWait

BEAT = 10.0
"""Seconds between two signs of life."""

DEAD = 60.0
"""Seconds without one after which an owner is taken for dead."""

LOOK_AGAIN = 2.0
"""Seconds between two looks at a claim that somebody has."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims that lie beside one store.

    Parameters
    ----------
    fs : fsspec filesystem
        Where the store lies.
    folder : str
        Path of the folder of claims.
    location : str
        The store, as a user calls it.
    """

    fs: Any
    folder: str
    location: str

    @contextmanager
    def held(
        self, name: str, me: Holder, on_wait: OnWait, dead: Holder | None = None
    ) -> Iterator[Callable[[], bool]]:
        """Claim something, and let go of it at the end.

        Parameters
        ----------
        name : str
            What, as the name of a file.
        me : Holder
            Who claims it.
        on_wait : callable
            Told who has it, if somebody does.
        dead : Holder, optional
            Whose claim can be taken over at once.

        Yields
        ------
        callable
            Whether it is still held: whoever is cut off for long loses it.
        """
        number = self._take(name, me, on_wait, dead)
        over = threading.Event()
        beating = threading.Thread(target=self._beat, args=(name, number, me, over), daemon=True)
        beating.start()
        try:
            yield lambda: self._is_mine(name, number, me)
        finally:
            over.set()
            beating.join()
            with suppress(OSError, StoreError):
                self._remove(name, number, me)

    def _take(self, name: str, me: Holder, on_wait: OnWait, dead: Holder | None) -> int:
        """Make the next claim as soon as nobody living has the one before; returns its number."""
        seen, seen_at, told = (-1, b""), 0.0, False
        while True:
            now = time.monotonic()
            number = self._highest(name)
            text = self._read(name, number) if number >= 0 else b""
            if (number, text) != seen:
                seen, seen_at = (number, text), now
            other = Holder.from_json(text.partition(b"\n")[0])
            gone = now - seen_at > DEAD or (dead and other and other.token == dead.token)
            if number < 0 or gone:
                if self._make(name, number + 1, me):
                    return number + 1
            else:
                if other and not told:
                    on_wait(other)
                    told = True
                pause(LOOK_AGAIN)

    def _highest(self, name: str) -> int:
        """The number of the claim that counts; -1 where there is none."""
        with answering(self.location), suppress(FileNotFoundError):
            found = self.fs.ls(self.folder, detail=False)
            numbers = [path.rpartition(f"/{name}.")[2] for path in found if f"/{name}." in path]
            return max(map(int, numbers), default=-1)
        return -1

    def _read(self, name: str, number: int) -> bytes:
        with answering(self.location), suppress(FileNotFoundError):
            return bytes(self.fs.cat_file(self._at(name, number)))
        return b""

    def _make(self, name: str, number: int, me: Holder) -> bool:
        """Make a claim, unless somebody else just did."""
        with writing(self.location), suppress(FileExistsError):
            self.fs.pipe_file(self._at(name, number), me.to_json().encode(), mode="create")
            return True
        return False

    def _beat(self, name: str, number: int, me: Holder, over: threading.Event) -> None:
        """Give signs of life; one that does not arrive is followed by the next."""
        beats = 0
        while not over.wait(BEAT):
            beats += 1
            with suppress(OSError, StoreError), answering(self.location):
                if self._is_mine(name, number, me):
                    text = f"{me.to_json()}\n{beats}"
                    self.fs.pipe_file(self._at(name, number), text.encode())

    def _is_mine(self, name: str, number: int, me: Holder) -> bool:
        """Whether a claim that was made is still there, and counts."""
        text = self._read(name, number).partition(b"\n")[0]
        return Holder.from_json(text) == me and self._highest(name) == number

    def _remove(self, name: str, number: int, me: Holder) -> None:
        """Remove a claim and those that it took over, the one that counts last."""
        if not self._is_mine(name, number, me):
            return
        for older in range(number + 1):
            with answering(self.location), suppress(FileNotFoundError):
                self.fs.rm_file(self._at(name, older))

    def _at(self, name: str, number: int) -> str:
        return f"{self.folder}/{name}.{number}"
