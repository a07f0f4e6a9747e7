"""Handing tasks to Dask: a cluster where there is one, else the threads of this machine."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import dask.config
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.system import CPU_COUNT

_WINDOW = 4
"""Tasks per worker thread that a cluster is given at a time."""


@dataclass(frozen=True, slots=True)
class Crew:
    """Who counts.

    Parameters
    ----------
    threads : int
        Threads of a process, of the one that has most of them.
    processes : int
        Processes of a machine that count, of the one that has most of them.
    here : bool
        Whether it is this process.
    teams : int
        Processes on all machines.
    """

    threads: int
    processes: int = 1
    here: bool = True
    teams: int = 1


def crew() -> Crew:
    """Who would count now: the workers of this process's cluster, or its own threads."""
    client = _client()
    if client is None:
        scheduler = dask.config.get("scheduler", "threads")
        single = scheduler in ("sync", "synchronous", "single-threaded")
        return Crew(1 if single else dask.config.get("num_workers", None) or CPU_COUNT)
    threads = client.nthreads()
    if threads and all(address.startswith("inproc://") for address in threads):
        return Crew(sum(threads.values()))
    machines = Counter(address.rpartition(":")[0] for address in threads)
    most = max(machines.values(), default=1)
    return Crew(max(threads.values(), default=1), most, here=False, teams=max(len(threads), 1))


def run(
    function: Callable[..., Any],
    tasks: Iterable[tuple[Any, ...]],
    on_result: Callable[[Any], None],
    threads: int | None = None,
) -> None:
    """Run a function over many arguments, and hand each result over as soon as it is there.

    A distributed client in this process is used; so is a scheduler set in Dask's configuration.
    Otherwise the work runs on threads, one for each processor. No result is kept.

    Parameters
    ----------
    function : callable
        What to run; it must travel to workers by pickle.
    tasks : iterable of tuple
        Its arguments, each set a task.
    on_result : callable
        Called with each result, in this thread, in the order in which they finish.
    threads : int, optional
        Threads of this process to use, where it is this process that works.
    """
    client = _client()
    if client is not None:
        for result in _on_cluster(client, function, iter(tasks)):
            on_result(result)
        return
    # Of tasks that are equally urgent Dask runs the one with the last key first, so that keys count
    # down: what one task has read, the next ones use, and the small tasks come last.
    given = list(tasks)
    graph = {
        f"geomsae-{left:08d}": (function, *arguments)
        for left, arguments in zip(range(len(given), 0, -1), given, strict=True)
    }

    def finished(key: Any, result: Any, _: Any, state: Any, *__: Any) -> None:
        if key in graph:
            on_result(result)
            state["cache"][key] = None  # or Dask would keep all of them to the end

    options = {} if threads is None else {"num_workers": threads}
    get = get_scheduler(scheduler=dask.config.get("scheduler", "threads"))
    with Callback(posttask=finished):
        get(graph, list(graph), **options)


def _client() -> Any:
    """The distributed client of this process, if it has one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def _on_cluster(
    client: Any, function: Callable[..., Any], tasks: Iterator[tuple[Any, ...]]
) -> Iterator[Any]:
    """Keep a bounded number of tasks at the scheduler, so that it is never flooded."""
    from distributed import as_completed

    window = _WINDOW * max(1, sum(client.nthreads().values()))
    first = [client.submit(function, *arguments, pure=False) for arguments in islice(tasks, window)]
    pending = as_completed(first)
    for future in pending:
        yield future.result()
        future.release()
        for arguments in islice(tasks, 1):
            pending.add(client.submit(function, *arguments, pure=False))
