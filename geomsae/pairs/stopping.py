"""Stopping early, and doing nothing by half: what an interruption may cut off, and what not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_thread = threading.local()


def heeding(stopped: threading.Event, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in this thread, to be left between two tiles once an event is set.

    Parameters
    ----------
    stopped : Event
        Set by whoever waits for the result, when nobody waits any longer.
    function : callable
        What to run; it asks `check_stop` whenever it can be left.
    *arguments
        What it is given.
    """
    _thread.stopped = stopped
    try:
        return function(*arguments)
    finally:
        del _thread.stopped


def check_stop() -> None:
    """Leave, if nobody waits for what this thread computes.

    Raises
    ------
    KeyboardInterrupt
        If so.
    """
    stopped: threading.Event | None = getattr(_thread, "stopped", None)
    if stopped is not None and stopped.is_set():
        raise KeyboardInterrupt


@contextmanager
def unbroken() -> Iterator[None]:
    """Hold an interruption by the user back until the end of the block.

    A result that is added by half would be added again when the work goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where interruptions never arrive
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(came[0])
