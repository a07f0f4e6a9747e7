"""The panels that a process keeps: by a budget of bytes, each loaded by one thread, some ahead."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

from geomsae.pairs.panels import Panel

LOADS_AT_ONCE = 2
"""Runs of panels that one process reads at a time: each holds copies of a chunk on the way."""

Load = Callable[[], list[Panel]]
"""Makes a run of panels."""


class PanelCache:
    """Runs of panels kept in one process by a budget of bytes, each loaded by one thread.

    What is in use stays alive whatever the budget; the least recently used goes first.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[Hashable, Future[list[Panel]]] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Semaphore(LOADS_AT_ONCE)

    def get(self, key: Hashable, load: Load, budget: int) -> list[Panel]:
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
        future, mine = self._claim(key)
        if mine:
            self._fill(key, future, load, budget)
        return future.result()

    def ahead(self, key: Hashable, load: Load, budget: int) -> None:
        """Have panels loaded that will be asked for next, while others are computed with."""
        future, mine = self._claim(key)
        if mine:
            self._reader.submit(self._fill, key, future, load, budget)

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._held.clear()

    @cached_property
    def _reader(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "geomsae-reader")

    def _claim(self, key: Hashable) -> tuple[Future[list[Panel]], bool]:
        """What will hold the panels under `key`, and whether the caller is the one to load them."""
        with self._lock:
            future = self._held.get(key)
            mine = future is None
            if future is None:
                future = self._held[key] = Future()
            self._held.move_to_end(key)
        return future, mine

    def _fill(
        self, key: Hashable, future: Future[list[Panel]], load: Load, budget: int
    ) -> None:
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
