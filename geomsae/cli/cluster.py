"""Connecting to a Dask cluster that is there already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geomsae.errors import GeomsaeError


@contextmanager
def connected(scheduler: str) -> Iterator[None]:
    """Be a client of the cluster at an address, or of the one that a scheduler file names.

    Raises
    ------
    GeomsaeError
        If nobody answers there, or no worker is connected to it.
    """
    from distributed import Client

    try:
        if Path(scheduler).exists():
            client = Client(scheduler_file=scheduler, timeout=5)
        else:
            client = Client(scheduler, timeout=5)
    except (OSError, ValueError, TypeError) as error:
        raise GeomsaeError(
            f"no Dask scheduler answers at {scheduler}: start one with 'dask scheduler', or leave "
            "--scheduler out to use this machine"
        ) from error
    with client:
        if not client.nthreads():
            raise GeomsaeError(
                f"the cluster at {scheduler} has no workers: start some with "
                f"'dask worker {scheduler}'"
            )
        yield
