"""Computing what a store has no result of yet, one dictionary at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict

import numpy as np
import xarray as xr

import geomsae
from geomsae.ask import Ask, usual_thresholds
from geomsae.bins import DEFAULT_BINS
from geomsae.counting import Progress, check_device, count_whole, job_of, stored_decoder
from geomsae.errors import ConservationError, TakenError
from geomsae.features import features
from geomsae.histogram import histogram
from geomsae.pairs.budget import Job, bytes_read, plan_budget, plan_of, usual_memory
from geomsae.pairs.calibrate import pairs_per_second
from geomsae.pairs.schedule import crew
from geomsae.pairs.tally import Tally
from geomsae.store import Store
from geomsae.store.partial import Partial, partial

USUAL_NEIGHBOURS = 1
USUAL_PAIRS = 1000


def usual_ask(
    bins: int = DEFAULT_BINS,
    precision: str = "float32",
    thresholds: Iterable[float] | None = None,
    neighbours: int | None = None,
    pairs: int | None = None,
) -> Ask:
    """What a pass is asked unless told otherwise: degrees, nearest neighbours and extreme pairs."""
    return Ask(
        bins,
        precision,
        usual_thresholds(bins) if thresholds is None else tuple(thresholds),
        USUAL_NEIGHBOURS if neighbours is None else neighbours,
        USUAL_PAIRS if pairs is None else pairs,
    )


def missing_histograms(store: Store, ids: Iterable[str] | None, ask: Ask) -> list[str]:
    """The dictionaries, all or those named, of which the store does not know all that is asked."""
    chosen = list(store.decoders if ids is None else ids)
    return [id for id in chosen if _still_asked(store, id, ask) is not None]


def _still_asked(store: Store, id: str, ask: Ask) -> Ask | None:
    """What a pass has to be asked so that all is known; None if it is.

    What a pass told before and would be lost with its group is asked again.
    """
    counted = store.has_histogram(id, ask.bins, ask.precision)
    before = store.asked_before(id, ask.bins, ask.precision)
    both = ask if before is None else ask.joined(before)
    known = before or Ask(ask.bins, ask.precision)
    return None if counted and both == known else both


def compute_histograms(
    store: Store,
    ids: Iterable[str] | None = None,
    *,
    bins: int = DEFAULT_BINS,
    precision: str = "float32",
    thresholds: Iterable[float] | None = None,
    neighbours: int | None = None,
    pairs: int | None = None,
    device: str = "auto",
    memory: int | None = None,
    progress: Progress = lambda _: None,
) -> Iterator[str]:
    """Count the pairwise cosines of every dictionary that has no such histogram yet.

    Dask schedules the work: on a distributed client if this process has one, else on threads.
    The same pass tells about features and pairs. Each result is in the store, whole, before the
    next is begun; what is counted of a dictionary survives an interruption.

    Parameters
    ----------
    store : Store
        Where the decoders are and the results go.
    ids : iterable of str, optional
        The dictionaries; all of them by default.
    bins : int
        Number of equal bins on [-1, 1].
    precision : {"float32", "float64"}
        Arithmetic of the products.
    thresholds : iterable of float, optional
        Where the degrees of features are counted; 0.1, 0.2, 0.3 and 0.5 by default, as far as they
        are edges of the bins. Empty for none.
    neighbours : int, optional
        Nearest neighbours kept of each feature, the most opposite one beside them; 1 by default.
    pairs : int, optional
        Most similar, and most opposite pairs that are kept; 1,000 by default.
    device : {"auto", "cpu"}
        What multiplies.
    memory : int, optional
        Bytes that all processes of a machine keep to; half of what is free by default.
    progress : callable
        Told the pairs dealt with after each task.

    Returns
    -------
    iterator of str
        Computes as it goes: the id of each dictionary, once its results are in the store.

    Raises
    ------
    GeomsaeError
        If something cannot be asked, or the memory is too little.
    SelectionError
        If the store has no such dictionary.
    ConservationError
        If a count breaks a conservation law; nothing of it is kept.
    """
    ask = usual_ask(bins, precision, thresholds, neighbours, pairs)
    check_device(device)
    missing = missing_histograms(store, ids, ask)
    memory = usual_memory() if memory is None else memory
    for id in missing:  # refused before any work
        plan_budget(job_of(store, id), ask, memory, crew())
    return _compute(store, missing, ask, memory, progress)


def foresee(
    store: Store,
    ids: Iterable[str] | None,
    ask: Ask,
    memory: int | None = None,
    device: str = "auto",
) -> Iterator[dict[str, int | float | str]]:
    """What `compute_histograms` would do, dictionary by dictionary, before it does.

    How fast this machine, or a worker of the cluster, counts is tried for a second for each number
    of dimensions.

    Parameters
    ----------
    store : Store
        Where the decoders are.
    ids : iterable of str, optional
        The dictionaries; all of them by default.
    ask : Ask
        What would be found out.
    memory, device : int, str
        As `compute_histograms` takes them.

    Yields
    ------
    dict
        ``id``, ``n_features``, ``d_model``, ``pairs``, ``tasks``, ``threads`` (of each process),
        ``operations`` (floating-point, of the products), ``bytes_read`` (at most), ``bytes_held``
        (by all processes of a machine, at most) and ``seconds``.

    Raises
    ------
    GeomsaeError
        If the memory is too little, or there is no such device here.
    """
    check_device(device)
    memory = usual_memory() if memory is None else memory
    who = crew()
    rates: dict[int, float] = {}
    for id in missing_histograms(store, ids, ask):
        job = job_of(store, id)
        budget = plan_budget(job, ask, memory, who)
        rate = rates.get(job.d) or pairs_per_second(job.d, ask, budget.threads, who)
        rates[job.d] = rate
        pairs = job.n * (job.n - 1) // 2
        yield {
            "id": id,
            "n_features": job.n,
            "d_model": job.d,
            "pairs": pairs,
            "tasks": len(plan_of(job)),
            "threads": budget.threads,
            "operations": 2 * pairs * job.d,
            "bytes_read": bytes_read(job, budget, who.processes),
            "bytes_held": budget.total,
            "seconds": pairs / rate,
        }


def _compute(
    store: Store, missing: list[str], ask: Ask, memory: int, progress: Progress
) -> Iterator[str]:
    for id in missing:
        while (wanted := _still_asked(store, id, ask)) is not None:
            source = {"id": id, "sha256": store.attributes(id)["sha256"], **asdict(wanted)}
            with partial(store.hierarchy, version=geomsae.__version__, **source) as so_far:
                if _still_asked(store, id, ask) == wanted:  # else another run was first
                    _count_into(store, id, wanted, memory, so_far, progress)
        yield id


def _count_into(
    store: Store, id: str, ask: Ask, memory: int, so_far: Partial, progress: Progress
) -> None:
    """Count one dictionary, and put what came out into the store."""
    job = job_of(store, id)
    budget = plan_budget(job, ask, memory, crew())
    decoder = stored_decoder(store, id, ask, budget)
    whole = count_whole(decoder, None, ask, budget, so_far, progress)
    n_valid = int(np.count_nonzero(store.norms(id)))
    n_pairs = n_valid * (n_valid - 1) // 2
    if not whole.count.sum() == whole.n_pairs == n_pairs:
        so_far.remove()
        raise ConservationError(
            f"{whole.count.sum():,} pairs of {id} were counted of {n_pairs:,}: "
            "the result was thrown away"
        )
    _keep(store, id, ask, job, whole, histogram(whole.count, n_pairs, job.n - n_valid, {}))


def _keep(store: Store, id: str, ask: Ask, job: Job, whole: Tally, counted: xr.Dataset) -> None:
    made = {"device": "cpu", "sha256": store.attributes(id)["sha256"]}
    with suppress(TakenError):  # counted before, or by another run meanwhile
        store.add_histogram(id, counted, {"precision": ask.precision, **made})
    if ask.keeps:
        found = whole.found()
        labelled = features(ask, job.n, None, lambda variable: found[variable.name])
        store.add_features(id, ask, labelled, made)
