"""One BLAS thread for each worker thread: the fastest layout, and the same bits on all of them.

A product on two threads is cut in two, and rounds differently from one on a single thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import threadpoolctl

_lock = threading.Lock()
_users = 0
_before: list[int] = []


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Let each product run on the thread that asks for it, for as long as any thread is inside.

    Most libraries have one limit for the whole process: the first thread to enter remembers it,
    and the last one to leave restores it. Where each thread has its own, it is restored for each.
    """
    global _users
    with _lock:
        if _users == 0:
            _before[:] = [library.num_threads for library in _libraries()]
        _users += 1
        for library in _libraries():
            _set(library, 1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            for library, threads in zip(_libraries(), _before, strict=True):
                if _users == 0 or getattr(library, "threading_layer", "") == "openmp":
                    _set(library, threads)


@cache
def _libraries() -> list[Any]:
    """The BLAS libraries in this process."""
    found = threadpoolctl.ThreadpoolController().lib_controllers
    return [library for library in found if library.user_api == "blas"]


def _set(library: Any, threads: int) -> None:
    """Set the limit from whichever thread this is.

    Since version 3.8 threadpoolctl lets a single thread set the limits of OpenBLAS, and silently
    ignores all others until that one has let go.
    """
    let_go = getattr(library, "clear_controlling_thread", None)
    if let_go:
        let_go(force=True)
    library.set_num_threads(threads)
    if let_go:
        let_go(force=True)
