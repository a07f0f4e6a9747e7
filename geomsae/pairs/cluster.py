"""Tasks on a cluster: a few at a time for each worker, whoever joins, leaves, hangs or dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from statistics import median
from typing import Any

from geomsae.errors import GeomsaeError
from geomsae.pairs.workers import Client, Worker, lost_scheduler, no_gpu, who_may

Future = Any
"""A future of distributed, which is imported only where there is a client."""

_WINDOW = 4
"""Tasks per worker thread that a cluster is given at a time."""

SECONDS_BETWEEN_LOOKS = 1.0
"""How often it is looked who joined or left, and what is late."""

SECONDS_WITHOUT_WORKERS = 30.0
"""How long no worker may be there before the run is given up: one that died may be replaced."""

PATIENCE = 15.0
"""Seconds that a task may always take to come back."""

_LATE = 5
"""A task is late when it takes so many times as long as they usually do, and more than patience."""

_one_by_one = threading.Lock()


def run_on(
    client: Client,
    function: Callable[..., Any],
    tasks: Iterator[tuple[Any, ...]],
    on_result: Callable[[Any], None],
    device: str,
) -> None:
    """Run a function over many arguments on the workers of a cluster that have a device.

    A task that does not come back while others do is given to another worker as well, and the first
    answer counts; a worker that dies has its tasks given to others by the scheduler.

    Parameters
    ----------
    client : Client
        Of the cluster.
    function : callable
        What to run; whoever runs it, the result must be the same.
    tasks : iterator of tuple
        Its arguments, each set a task.
    on_result : callable
        Called with each result.
    device : {"cpu", "gpu"}
        What it needs.

    Raises
    ------
    GeomsaeError
        If a task fails, no worker is left, or the scheduler is lost; what is under way is let go.
    """
    flights = _Flights(client, function, device)
    try:
        flights.look()
        waiting = next(tasks, None)
        while waiting is not None or flights.under_way:
            while waiting is not None and flights.has_room():
                flights.add(waiting)
                waiting = next(tasks, None)
            result = flights.next()
            if result is not None:
                on_result(result[0])
    finally:
        flights.let_go()


@dataclass(slots=True)
class _Task:
    """A task that has not come back."""

    arguments: tuple[Any, ...]
    since: float = field(default_factory=time.monotonic)
    tries: list[Future] = field(default_factory=list)
    bound: bool = False
    """Whether only some workers may do it."""


class _Flights:
    """The tasks of one run that are on a cluster, and what is known about it."""

    def __init__(self, client: Client, function: Callable[..., Any], device: str) -> None:
        self._client = client
        self._what = (_alone, function) if device == "gpu" else (function,)
        self._device = device
        self._workers: dict[str, Worker] = {}
        self._everyone = True  # has the device
        self._looked = self._saw_workers = time.monotonic()
        self._came: SimpleQueue[Future] = SimpleQueue()
        self._took: list[float] = []
        self._tasks: dict[str, _Task] = {}  # by the key of each try
        self.under_way = 0

    def look(self) -> None:
        """See who is there now, and give what is late to another worker as well."""
        self._looked = time.monotonic()
        self._workers = who_may(self._client, self._device)
        self._everyone = self._device == "cpu" or len(self._workers) == len(
            who_may(self._client, "cpu")
        )
        if self._workers:
            self._saw_workers = self._looked
            self._chase()
        elif self._looked - self._saw_workers > SECONDS_WITHOUT_WORKERS:
            raise (
                no_gpu(self._client)
                if self._device == "gpu"
                else GeomsaeError(
                    "the cluster has no workers: what was finished is kept, start some with "
                    f"'dask worker {self._client.scheduler.address}' and run again"
                )
            )

    def has_room(self) -> bool:
        """Whether the cluster may be given a task more."""
        alone = self._device == "gpu"
        threads = sum(1 if alone else worker.threads for worker in self._workers.values())
        return self.under_way < _WINDOW * threads

    def add(self, arguments: tuple[Any, ...]) -> None:
        """Give the cluster a task."""
        self.under_way += 1
        self._give(_Task(arguments))

    def next(self) -> tuple[Any] | None:
        """The result of a task that came back; None if none did for a while."""
        if time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
            self.look()
        try:
            future = self._came.get(timeout=SECONDS_BETWEEN_LOOKS)
        except Empty:
            return None
        task = self._tasks.get(future.key)
        if task is None:  # another worker was faster
            return None
        with _told(self._client):
            try:
                result = future.result(timeout=PATIENCE)
            except TimeoutError:
                if future.status == "error":
                    raise
                task.since = 0.0  # the worker hangs with the result in its hands
                return None
        self._took.append(time.monotonic() - task.since)
        self._forget(task)
        return (result,)

    def let_go(self) -> None:
        """Want nothing of what is under way any longer."""
        while self._tasks:
            self._forget(next(iter(self._tasks.values())))

    def _give(self, task: _Task, workers: list[str] | None = None) -> None:
        """Let a worker try a task: one of those named, or any that has the device."""
        if workers is None and not self._everyone:
            workers = list(self._workers)
        offered = workers is not None and all(self._workers[w].offers_gpu for w in workers)
        with _told(self._client):
            future = self._client.submit(
                *self._what,
                *task.arguments,
                pure=False,
                workers=workers,
                resources={"GPU": 1} if offered and self._device == "gpu" else None,
            )
        task.since = time.monotonic()
        task.bound = workers is not None
        task.tries.append(future)
        self._tasks[future.key] = task
        future.add_done_callback(self._came.put)

    def _chase(self) -> None:
        """Give tasks that are late to workers that do not have them."""
        now = time.monotonic()
        bound = max(PATIENCE, _LATE * median(self._took[-100:])) if self._took else PATIENCE
        late = {id(t): t for t in self._tasks.values() if now - t.since > bound}
        if not late or not self._took:
            return
        with _told(self._client):
            computing = self._client.processing()
            holding = self._client.who_has([f for task in late.values() for f in task.tries])
        for task in late.values():
            keys = {future.key for future in task.tries}
            at = {worker for worker, its in computing.items() if keys & set(its)}
            at.update(*(holding.get(key, ()) for key in keys))
            others = [worker for worker in self._workers if worker not in at]
            if others and (at or task.bound):  # else it waits for its turn
                self._give(task, others)

    def _forget(self, task: _Task) -> None:
        self.under_way -= 1
        for future in task.tries:
            self._tasks.pop(future.key, None)
            future.release()


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run on a worker: a function that no other thread runs at the same time."""
    with _one_by_one:
        return function(*arguments)


@contextmanager
def _told(client: Client) -> Iterator[None]:
    """Say in one sentence what went wrong on a cluster."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        yield
    except GeomsaeError:
        raise
    except KilledWorker as error:
        raise GeomsaeError(
            f"{error.allowed_failures + 1} workers died at the same piece of work, the last of "
            f"them {error.last_worker.address}: look into its log; it may need more memory"
        ) from error
    except Exception as error:
        if isinstance(error, CancelledError) or client.status != "running":
            raise lost_scheduler() from error
        raise GeomsaeError(
            f"a worker of the cluster failed ({type(error).__name__}: {error}): what was finished "
            "is kept, look into its log"
        ) from error
