"""Leaving when a user, or the system, asks for it: soon, with a sentence, and nothing half done."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = "interrupted: what was finished is kept, run again to go on"

_SECONDS_TO_LEAVE = 1.2
"""How long what is under way may take to be put away."""

_asked = threading.Event()
_told = threading.Event()


@contextmanager
def leaving_when_asked() -> Iterator[None]:
    """Let ``SIGINT`` and ``SIGTERM`` end this process within two seconds, and with a sentence.

    Both interrupt the block, once. Whoever catches that puts away what is under way, as after any
    failure; if it takes too long (a link that hangs, a library that swallows the interruption),
    the process ends without: the store is such that no moment is a bad one.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    threading.Thread(target=_leave_in_time, args=(reader,), daemon=True).start()
    signal.signal(signal.SIGINT, _leave)
    # Passed on, so that it waits wherever an interruption by the user does.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        _told.set()
        if _asked.is_set():  # nobody waits for threads that are at their tile, or their part
            sys.stderr.flush()
            os._exit(1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done, and the process about to end
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def was_interrupted() -> bool:
    """Whether this process was asked to leave."""
    return _asked.is_set()


def _leave(_: int, __: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is leaving
    _asked.set()
    raise KeyboardInterrupt


def _leave_in_time(signals: int) -> None:
    """End the process from another thread, whatever the first one is at, if it takes too long.

    Parameters
    ----------
    signals : int
        Where a byte is read for each signal, even while the first thread cannot be interrupted.
    """
    while os.read(signals, 1)[0] not in (signal.SIGINT, signal.SIGTERM):
        pass
    time.sleep(_SECONDS_TO_LEAVE)
    if not _told.is_set():
        os.write(2, f"\nError: {INTERRUPTED}\n".encode())
    os._exit(1)
