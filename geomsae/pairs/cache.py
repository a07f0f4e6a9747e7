"""The panels that a process keeps: by a budget of bytes, each loaded by one thread, some ahead."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

from geomsae.pairs.kernel import TileRows

LOADS_AT_ONCE = 2
"""Runs of panels that processors have read at a time: each holds copies of a chunk on the way."""

Load = Callable[[], list[TileRows]]
"""Makes a run of panels."""


class PanelCache:
    """Runs of panels kept in one process by a budget of bytes, each loaded by one thread.

    What is in use stays alive whatever the budget; the least recently used goes first.

    Parameters
    ----------
    loads : int
        Runs that are read at a time.
    """

    def __init__(self, loads: int = LOADS_AT_ONCE) -> None:
        self._held: OrderedDict[Hashable, Future[list[TileRows]]] = OrderedDict()
        self._lock = threading.Lock()
        self._loads = loads
        self._loading = threading.Semaphore(loads)

    def get(self, key: Hashable, load: Load, budget: int) -> list[TileRows]:
        """The panels under `key`, loaded by the first thread that asks.

        Parameters
        ----------
        key : hashable
            What they are panels of.
        load : callable
            Makes them.
        budget : int
            Bytes to keep, these included.
        """
        future = self._wanted(key)
        self._fill(key, future, load, budget)
        return future.result()

    def ahead(self, key: Hashable, load: Load, budget: int) -> None:
        """Have panels loaded that will be asked for next, while others are computed with.

        Whoever asks for them before the reader comes to them loads them itself.
        """
        future = self._wanted(key)
        if not (future.running() or future.done()):
            self._reader.submit(self._fill, key, future, load, budget)

    def keep(self, keys: Iterable[Hashable]) -> None:
        """Say that some panels are in use: to forget them would free nothing."""
        with self._lock:
            for key in keys:
                if key in self._held:
                    self._held.move_to_end(key)

    def clear(self) -> Future[None]:
        """Let go of everything: the reader does, as it takes a while to give much memory back."""
        with self._lock:
            held, self._held = self._held, OrderedDict()
        return self._reader.submit(held.clear)

    @cached_property
    def _reader(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._loads - 1, "geomsae-reader")

    def _wanted(self, key: Hashable) -> Future[list[TileRows]]:
        """What holds the panels under `key`, or will."""
        with self._lock:
            future = self._held.setdefault(key, Future())
            self._held.move_to_end(key)
        return future

    def _fill(self, key: Hashable, future: Future[list[TileRows]], load: Load, budget: int) -> None:
        """Load panels, unless another thread does, or did."""
        with self._lock:
            if future.running() or future.done():
                return
            future.set_running_or_notify_cancel()
        try:
            with self._loading:
                future.set_result(load())
        except BaseException as error:
            with self._lock:
                self._held.pop(key, None)
            future.set_exception(error)
        self._forget_oldest(budget)

    def _forget_oldest(self, budget: int) -> None:
        with self._lock:
            ready = [
                (key, sum(panel.nbytes for panel in future.result()))
                for key, future in self._held.items()
                if future.done() and not future.exception()
            ]
            excess = sum(nbytes for _, nbytes in ready) - budget
            for key, nbytes in ready[:-1]:
                if excess <= 0:
                    return
                del self._held[key]
                excess -= nbytes
