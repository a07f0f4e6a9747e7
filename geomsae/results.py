"""Computing what a store has no result of yet, one dictionary at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict

import numpy as np
import xarray as xr

import geomsae
from geomsae.ask import Ask, usual_thresholds
from geomsae.bins import DEFAULT_BINS
from geomsae.errors import ConservationError, GeomsaeError, TakenError
from geomsae.features import features
from geomsae.histogram import histogram
from geomsae.pairs.budget import Budget, Job, bytes_read, plan_budget, usual_memory
from geomsae.pairs.calibrate import pairs_per_second
from geomsae.pairs.plan import TILE, SuperTile, plan_triangle
from geomsae.pairs.schedule import crew, run
from geomsae.pairs.stored import StoredDecoder, count_stored, forget
from geomsae.pairs.tally import Tally
from geomsae.store import Store
from geomsae.store.layout import chunk_rows
from geomsae.store.partial import Partial, partial

SECONDS_BETWEEN_KEEPING = 30.0
"""How often what is counted so far of a dictionary is kept: so much work a kill may cost."""

USUAL_NEIGHBOURS = 1
USUAL_PAIRS = 1000

Progress = Callable[[int], object]
"""Told how many pairs were just dealt with."""


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
    if device not in ("auto", "cpu"):
        raise GeomsaeError(f"pairs cannot be counted on {device!r} yet: use auto or cpu")
    missing = missing_histograms(store, ids, ask)
    memory = usual_memory() if memory is None else memory
    for id in missing:  # refused before any work
        plan_budget(job_of(store, id), ask, memory, crew())
    return _compute(store, missing, ask, memory, progress)


def foresee(
    store: Store, ids: Iterable[str] | None, ask: Ask, memory: int | None = None
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
    memory : int, optional
        As `compute_histograms` takes it.

    Yields
    ------
    dict
        ``id``, ``n_features``, ``d_model``, ``pairs``, ``tasks``, ``threads`` (of each process),
        ``operations`` (floating-point, of the products), ``bytes_read`` (at most), ``bytes_held``
        (by all processes of a machine, at most) and ``seconds``.

    Raises
    ------
    GeomsaeError
        If the memory is too little.
    """
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
            "tasks": len(plan_triangle(job.n)),
            "threads": budget.threads,
            "operations": 2 * pairs * job.d,
            "bytes_read": bytes_read(job, budget, ask.precision, who.processes),
            "bytes_held": budget.total,
            "seconds": pairs / rate,
        }


def job_of(store: Store, id: str) -> Job:
    """A dictionary of a store as a job: its shape, and how many rows are read at a time."""
    known = store.attributes(id)
    n, d = known["n_features"], known["d_model"]
    return Job(n, d, max(TILE, chunk_rows(n, d) // TILE * TILE))


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
    sha256 = store.attributes(id)["sha256"]
    decoder = StoredDecoder(
        store.hierarchy.address, id, sha256, job.n, job.run, ask.precision, budget.panel_bytes
    )
    whole = _count(decoder, ask, job, budget, so_far, progress)
    n_valid = int(np.count_nonzero(store.norms(id)))
    n_pairs = n_valid * (n_valid - 1) // 2
    if not whole.count.sum() == whole.n_pairs == n_pairs:
        so_far.remove()
        raise ConservationError(
            f"{whole.count.sum():,} pairs of {id} were counted of {n_pairs:,}: "
            "the result was thrown away"
        )
    _keep(store, id, ask, job, whole, histogram(whole.count, n_pairs, job.n - n_valid, {}))


def _keep(
    store: Store, id: str, ask: Ask, job: Job, whole: Tally, counted: xr.Dataset
) -> None:
    made = {"device": "cpu", "sha256": store.attributes(id)["sha256"]}
    with suppress(TakenError):  # counted before, or by another run meanwhile
        store.add_histogram(id, counted, {"precision": ask.precision, **made})
    if ask.keeps:
        found = whole.found()
        labelled = features(ask, job.n, None, lambda variable: found[variable.name])
        store.add_features(id, ask, labelled, made)


def _count(
    decoder: StoredDecoder,
    ask: Ask,
    job: Job,
    budget: Budget,
    so_far: Partial,
    progress: Progress,
) -> Tally:
    """Everything that was asked about one dictionary, from where an interrupted run got to."""
    plan = plan_triangle(job.n)
    whole = Tally.empty(ask, range(job.n))
    done = _go_on(whole, so_far, len(plan))
    progress(whole.covered)
    left = [number for number in range(len(plan)) if not done[number]]
    all_fit = budget.panel_bytes >= job.runs * job.run_bytes(ask.precision)
    kept_at = time.monotonic()

    def add(result: tuple[int, Tally]) -> None:
        nonlocal kept_at
        number, part = result
        whole.absorb(part)
        done[number] = True
        progress(part.covered)
        if time.monotonic() - kept_at > SECONDS_BETWEEN_KEEPING:
            so_far.save({**whole.arrays(), _DONE: done})
            kept_at = time.monotonic()

    def task(position: int) -> tuple[int, StoredDecoder, SuperTile, Ask, int, SuperTile | None]:
        number = left[position]
        later = position + budget.threads
        then = plan[left[later]] if all_fit and later < len(left) else None
        return number, decoder, plan[number], ask, budget.held, then

    try:
        run(_numbered, map(task, range(len(left))), add, budget.threads)
    except BaseException:
        with suppress(OSError):  # the first error is the one to be told
            so_far.save({**whole.arrays(), _DONE: done})
        raise
    finally:
        forget()
    return whole


_DONE = "done"


def _go_on(whole: Tally, so_far: Partial, tasks: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Take in what an interrupted run counted; returns which tasks it had finished."""
    found = so_far.load()
    done = np.zeros(tasks, np.bool_)
    if found is not None and found[_DONE].shape == done.shape:
        done |= found.pop(_DONE)
        whole.restore(found)
    return done


def _numbered(
    number: int,
    decoder: StoredDecoder,
    super_tile: SuperTile,
    ask: Ask,
    held: int,
    then: SuperTile | None,
) -> tuple[int, Tally]:
    """Count a super-tile and say which it was."""
    return number, count_stored(decoder, super_tile, ask, held, then)

