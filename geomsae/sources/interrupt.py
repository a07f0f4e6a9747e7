"""Threads that read from afar, and how all of them stop when one of them fails or a user asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

_stopped = threading.Event()


@contextmanager
def reading_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that `pause` ends as soon as the block ends early, by whatever it is."""
    try:
        with ThreadPoolExecutor(count) as pool:
            try:
                yield pool
            except BaseException:
                _stopped.set()
                raise
    finally:
        _stopped.clear()


def pause(seconds: float = 0.0) -> None:
    """Wait, unless reading is to be stopped.

    Raises
    ------
    KeyboardInterrupt
        If it is.
    """
    if _stopped.wait(seconds):
        raise KeyboardInterrupt
