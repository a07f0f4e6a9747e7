"""Connecting to a Dask cluster that is there already."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geomsae.errors import GeomsaeError

SECONDS_TO_CONNECT = 5
"""How long a scheduler may take to answer."""


def named_scheduler(scheduler: str | None) -> str | None:
    """The cluster to use: the one asked for, else the one that Dask's configuration names.

    ``DASK_SCHEDULER_ADDRESS`` is the usual way to name it there. A client that this process has
    already comes before the latter.
    """
    if scheduler is not None:
        return scheduler
    import dask.config

    from geomsae.pairs.workers import cluster_client

    configured = dask.config.get("scheduler-address", None)
    return configured if configured and cluster_client() is None else None


@contextmanager
def connected(scheduler: str) -> Iterator[None]:
    """Be a client of the cluster at an address, or of the one that a scheduler file names.

    Raises
    ------
    GeomsaeError
        If nobody answers there, or no worker comes to it.
    """
    from geomsae.cli.progress import say

    with _silenced(), _client(scheduler) as client:
        _wait_for_workers(client, scheduler)
        workers = client.nthreads()
        say(
            f"counting on the Dask cluster at {client.scheduler.address}: {len(workers)} workers, "
            f"{sum(workers.values())} threads"
        )
        yield


def _client(scheduler: str) -> Any:
    from distributed import Client

    named = "scheduler_file" if Path(scheduler).exists() else "address"
    try:
        return Client(**{named: scheduler}, timeout=SECONDS_TO_CONNECT)
    except Exception as error:  # of many kinds, by what is wrong with an address or a file
        raise GeomsaeError(
            f"no Dask scheduler answers at {scheduler}: start one with 'dask scheduler', or leave "
            "--scheduler and DASK_SCHEDULER_ADDRESS out to use this machine"
        ) from error


def _wait_for_workers(client: Any, scheduler: str) -> None:
    """Wait a little where no worker is there yet: they may be queueing for their machines."""
    from geomsae.cli.progress import say
    from geomsae.pairs.cluster import SECONDS_WITHOUT_WORKERS

    if client.nthreads():
        return
    say(
        f"the cluster at {scheduler} has no workers yet: waiting {SECONDS_WITHOUT_WORKERS:.0f} "
        "seconds for one"
    )
    try:
        client.wait_for_workers(1, timeout=SECONDS_WITHOUT_WORKERS)
    except TimeoutError as error:
        raise GeomsaeError(
            f"the cluster at {scheduler} has no workers: start some with "
            f"'dask worker {client.scheduler.address}'"
        ) from error


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep what Dask's client logs and warns of off stderr: a failure is told in one sentence."""
    # Tasks that a lost scheduler leaves behind complain when the process ends: for good, therefore.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed")
            yield
    finally:
        logging.disable(before)
