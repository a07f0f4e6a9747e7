"""The workers of a cluster: who is there, what they have, and whether they fit this process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import geomsae
from geomsae.errors import GeomsaeError

if TYPE_CHECKING:
    from geomsae.store.hierarchy import Hierarchy

Client = Any
"""A client of distributed, which is imported only where there is one."""

SECONDS_TO_ANSWER = 30.0
"""How long a worker, or the scheduler, may take to answer a question."""

_SECONDS_TO_APPEAR = 5.0
"""How long a file may take to appear on another machine of a shared file system."""

_SAME = ("geomsae", "distributed", "numpy", "numba")
"""Packages of one version everywhere: the first cuts the tiles, the second carries the tasks, the
others round. Which Python or Zarr a worker has makes no difference to what it counts."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker has.

    Parameters
    ----------
    threads : int
        Its threads.
    gpu : bool
        Whether it has a GPU that geomsae can use.
    offers_gpu : bool
        Whether it was started with ``--resources GPU=...``, so that Dask gives it no two tasks for
        one GPU.
    """

    threads: int
    gpu: bool = False
    offers_gpu: bool = False


_known: WeakKeyDictionary[Client, dict[str, tuple[bool, bool]]] = WeakKeyDictionary()


def cluster_client() -> Client | None:
    """The distributed client of this process, if it has one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def gpu_here() -> bool:
    """Whether this process has a GPU that geomsae can use."""
    try:
        from geomsae.pairs import gpu
    except ImportError:
        return False
    return bool(gpu.available())


def who_may(client: Client, device: str) -> dict[str, Worker]:
    """The workers that have a device, by address.

    Parameters
    ----------
    client : Client
        Of their cluster.
    device : {"cpu", "gpu"}
        Every worker has the first. Of the second each worker is asked once.

    Raises
    ------
    GeomsaeError
        If the scheduler does not answer.
    """
    threads = _threads(client)
    if device != "gpu":
        return {address: Worker(number) for address, number in threads.items()}
    known = _known.setdefault(client, {})
    new = [address for address in threads if address not in known]
    for address, answer in ask(client, _abilities, workers=new).items():
        known[address] = (False, False) if isinstance(answer, BaseException) else answer
    return {
        address: Worker(number, *known[address])
        for address, number in threads.items()
        if known[address][0]
    }


def check_crew(hierarchy: Hierarchy, device: str = "cpu") -> None:
    """Refuse a cluster whose workers cannot do the work, or would do it differently.

    Each worker is asked for its versions, and to read from where the store lies what was put there
    for it a moment ago. Without a cluster there is nothing to refuse.

    Parameters
    ----------
    hierarchy : Hierarchy
        The store.
    device : {"cpu", "gpu"}
        What will multiply.

    Raises
    ------
    GeomsaeError
        Naming a worker that does not fit, and what to do; or if none has the device.
    """
    client = cluster_client()
    if client is None:
        return
    there = list(_threads(client))
    _check_versions(client, there)
    _check_store(client, there, hierarchy)
    if device == "gpu" and there and not who_may(client, "gpu"):
        raise no_gpu(client)


def no_gpu(client: Client) -> GeomsaeError:
    """The sentence for a cluster that has no GPU."""
    return GeomsaeError(
        "no worker of the cluster has a GPU: start one with 'CUDA_VISIBLE_DEVICES=0 dask worker "
        f"{client.scheduler.address} --nthreads 1 --resources GPU=1', or use --device cpu"
    )


def ask(
    client: Client, function: Callable[..., Any], *arguments: Any, workers: Iterable[str]
) -> dict[str, Any]:
    """Run a function on workers, beside their tasks; what each returns, or how it fails.

    Parameters
    ----------
    client : Client
        Of the cluster.
    function : callable
        What to run; workers find it by its name.
    *arguments
        What it is given.
    workers : iterable of str
        Their addresses. `TimeoutError` is the answer of one that gives none.
    """

    async def one(address: str) -> Any:
        asked = client.run(function, *arguments, workers=[address], on_error="return")
        try:
            answers = await asyncio.wait_for(asked, SECONDS_TO_ANSWER)
        except Exception as error:
            return error
        return answers.get(address, TimeoutError())

    async def everyone() -> dict[str, Any]:
        addresses = list(workers)
        return dict(zip(addresses, await asyncio.gather(*map(one, addresses)), strict=True))

    found: dict[str, Any] = client.sync(everyone)
    return found


def _threads(client: Client) -> dict[str, int]:
    """The workers that are there now, and the threads of each."""
    try:
        found: dict[str, int] = client.sync(
            client.scheduler.ncores, callback_timeout=SECONDS_TO_ANSWER
        )
    except (OSError, AttributeError, RuntimeError) as error:  # a closed client has no scheduler
        raise lost_scheduler() from error
    return found


def lost_scheduler() -> GeomsaeError:
    """The sentence for a scheduler that is gone."""
    return GeomsaeError(
        "the connection to the Dask scheduler is lost: what was finished is kept, run again when "
        "it is back, or without it"
    )


def _check_versions(client: Client, workers: list[str]) -> None:
    from distributed.versions import get_versions

    # What workers run is found by its name, which takes that they have it.
    _refuse_silent(ask(client, exec, "import geomsae.pairs.workers", workers=workers))
    here = get_versions(_SAME)["packages"]
    answers = ask(client, get_versions, list(_SAME), workers=workers)
    _refuse_silent(answers)
    for address, answer in answers.items():
        there = answer["packages"]
        for name in _SAME:
            if there[name] != here[name]:
                raise GeomsaeError(
                    f"the worker {address} has {name} {there[name]} and this process "
                    f"{here[name]}, so that counts would depend on who counts: install "
                    f"{name}=={here[name]} where it runs, and start it again"
                )


def _check_store(client: Client, workers: list[str], hierarchy: Hierarchy) -> None:
    if hierarchy.is_local:
        with hierarchy.staging() as stage:
            probe = stage / "probe"
            probe.write_text(uuid4().hex)
            answers = ask(client, _read, str(probe), workers=workers)
            expected = probe.read_bytes()
    else:
        metadata = f"{hierarchy.address.rstrip('/')}/zarr.json"
        answers = ask(client, _read, metadata, workers=workers)
        expected = _read_now(metadata)
    _refuse_silent(answers)
    for address, answer in answers.items():
        if answer != expected:
            raise GeomsaeError(
                f"the worker {address} does not see the store at {hierarchy.address}: put it where "
                "every worker finds it under the same name, or leave that worker out"
            )


def _refuse_silent(answers: Mapping[str, Any]) -> None:
    """Refuse a worker that gives no answer, or cannot for want of geomsae."""
    for address, answer in answers.items():
        if isinstance(answer, ImportError):
            raise GeomsaeError(
                f"the worker {address} cannot import geomsae ({answer}): install geomsae "
                f"{geomsae.__version__} where it runs, and start it again"
            ) from answer
        if isinstance(answer, BaseException):
            raise GeomsaeError(
                f"the worker {address} does not answer "
                f"({str(answer) or type(answer).__name__}): start it again, or leave it out"
            ) from answer


def _abilities(dask_worker: Any) -> tuple[bool, bool]:
    """Run on a worker: whether it has a GPU, and whether it offers one to Dask."""
    return gpu_here(), "GPU" in dask_worker.state.total_resources


async def _read(place: str) -> bytes | None:
    """Run on a worker: what lies at a path or URL; None where there is nothing, nor soon is."""
    for _ in range(int(_SECONDS_TO_APPEAR / 0.25)):
        try:
            return _read_now(place)
        except OSError:
            await asyncio.sleep(0.25)
    return None


def _read_now(place: str) -> bytes:
    import fsspec

    with fsspec.open(place, "rb") as file:
        found: bytes = file.read()
    return found
