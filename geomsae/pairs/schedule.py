"""Handing tasks to Dask: a cluster where there is one, else the threads of this machine."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import dask.config
from dask.base import compute
from dask.callbacks import Callback
from dask.delayed import delayed

_WINDOW = 4
"""Tasks per worker thread that a cluster is given at a time."""


def run(
    function: Callable[..., Any],
    tasks: Iterable[tuple[Any, ...]],
    on_result: Callable[[Any], None],
) -> None:
    """Run a function over many arguments, and hand each result over as soon as it is there.

    A distributed client in this process is used; so is a scheduler set in Dask's configuration.
    Otherwise the work runs on threads, one for each processor.

    Parameters
    ----------
    function : callable
        What to run; it must travel to workers by pickle.
    tasks : iterable of tuple
        Its arguments, each set a task.
    on_result : callable
        Called with each result, in this thread, in the order in which they finish.
    """
    client = _client()
    if client is not None:
        for result in _on_cluster(client, function, iter(tasks)):
            on_result(result)
        return
    # Of tasks that are equally urgent Dask runs the one with the last key first, so that keys count
    # down: what one task has read, the next ones use, and the small tasks come last.
    run_id = uuid.uuid4().hex
    given = list(tasks)
    lazy = [
        delayed(function, pure=False)(*arguments, dask_key_name=f"geomsae-{run_id}-{left:08d}")
        for left, arguments in zip(range(len(given), 0, -1), given, strict=True)
    ]
    wanted = {task.key for task in lazy}

    def finished(key: Any, result: Any, *_: Any) -> None:
        if key in wanted:
            on_result(result)

    with Callback(posttask=finished):
        compute(*lazy, scheduler=dask.config.get("scheduler", "threads"), optimize_graph=False)


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
