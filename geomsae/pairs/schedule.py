"""Handing tasks to Dask: a cluster where there is one, else the threads of this machine."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.config
import dask.threaded
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.system import CPU_COUNT

from geomsae.pairs.cluster import run_on
from geomsae.pairs.stopping import heeding, unbroken
from geomsae.pairs.workers import cluster_client, gpu_here, who_may


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


def crew(device: str = "cpu") -> Crew:
    """Who would count now: the workers of this process's cluster, or its own threads.

    Parameters
    ----------
    device : {"cpu", "gpu"}
        What multiplies: on a cluster, those that have it count.
    """
    client = cluster_client()
    if client is None:
        single = _configured() in ("sync", "synchronous", "single-threaded")
        return Crew(1 if single else dask.config.get("num_workers", None) or CPU_COUNT)
    workers = who_may(client, device)
    threads = {address: 1 if device == "gpu" else w.threads for address, w in workers.items()}
    if threads and all(address.startswith("inproc://") for address in threads):
        return Crew(sum(threads.values()))
    machines = Counter(address.rpartition(":")[0] for address in threads)
    most = max(machines.values(), default=1)
    return Crew(max(threads.values(), default=1), most, here=False, teams=max(len(threads), 1))


def devices() -> set[str]:
    """What could multiply now: ``cpu``, and ``gpu`` if this machine or a worker has one."""
    client = cluster_client()
    gpu = gpu_here() if client is None else bool(who_may(client, "gpu"))
    return {"cpu", "gpu"} if gpu else {"cpu"}


def run(
    function: Callable[..., Any],
    tasks: Iterable[tuple[Any, ...]],
    on_result: Callable[[Any], None],
    threads: int | None = None,
    device: str = "cpu",
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
        Called with each result, in this thread, in the order in which they finish. A user's
        interruption waits until it is through.
    threads : int, optional
        Threads of this process to use, where it is this process that works.
    device : {"cpu", "gpu"}
        What the function needs: on a cluster, a worker without it is given none of the tasks, and
        one with a GPU does one of them at a time.
    """

    def hand_over(result: Any) -> None:
        with unbroken():
            on_result(result)

    client = cluster_client()
    if client is not None:
        run_on(client, function, iter(tasks), hand_over, device)
    else:
        _run_here(function, list(tasks), hand_over, threads)


def _configured() -> Any:
    """The scheduler of Dask's configuration; threads, where a client that is gone had set it."""
    scheduler = dask.config.get("scheduler", "threads")
    return "threads" if scheduler == "dask.distributed" else scheduler


def _run_here(
    function: Callable[..., Any],
    tasks: list[tuple[Any, ...]],
    on_result: Callable[[Any], None],
    threads: int | None,
) -> None:
    """Have Dask run tasks in this process, or as its configuration says."""
    get = get_scheduler(scheduler=_configured())
    stopped = threading.Event()
    if get is dask.threaded.get:
        function = partial(heeding, stopped, function)
    # Of tasks that are equally urgent Dask runs the one with the last key first, so that keys count
    # down: what one task has read, the next ones use, and the small tasks come last.
    graph = {
        f"geomsae-{left:08d}": (function, *arguments)
        for left, arguments in zip(range(len(tasks), 0, -1), tasks, strict=True)
    }

    def finished(key: Any, result: Any, _: Any, state: Any, *__: Any) -> None:
        if key in graph:
            on_result(result)
            state["cache"][key] = None  # or Dask would keep all of them to the end

    options = {} if threads is None else {"num_workers": threads}
    try:
        with Callback(posttask=finished):
            get(graph, list(graph), **options)
    except BaseException:
        stopped.set()  # nobody waits for the tasks that are under way
        raise
