"""Computing what a store has no result of yet, one dictionary at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from geomsae.ask import Ask, usual_thresholds
from geomsae.bins import DEFAULT_BINS
from geomsae.counting import Progress, Say, count_whole
from geomsae.errors import BusyError, ConservationError, GeomsaeError, TakenError
from geomsae.features import features
from geomsae.histogram import histogram
from geomsae.pairs.budget import bytes_read
from geomsae.pairs.calibrate import pairs_per_second
from geomsae.pairs.schedule import crew
from geomsae.pairs.tally import Tally
from geomsae.pairs.workers import check_crew
from geomsae.store import Store
from geomsae.store.locks import OnWait, leave
from geomsae.store.partial import Partial, partial, put_away
from geomsae.work import Means, Work, means

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
    device_memory: int | None = None,
    begin: Callable[[str], object] = lambda _: None,
    progress: Progress = lambda _: None,
    say: Say = lambda _: None,
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
    precision : {"float32", "float64", "fp16x3", "tf32"}
        Arithmetic of the products; the last two on a GPU.
    thresholds : iterable of float, optional
        Where the degrees of features are counted; 0.1, 0.2, 0.3 and 0.5 by default, as far as they
        are edges of the bins. Empty for none.
    neighbours : int, optional
        Nearest neighbours kept of each feature, the most opposite one beside them; 1 by default.
    pairs : int, optional
        Most similar, and most opposite pairs that are kept; 1,000 by default.
    device : {"auto", "cpu", "gpu"}
        What multiplies; a GPU where there is one, by default.
    memory : int, optional
        Bytes that all processes of a machine keep to; half of what is free by default.
    device_memory : int, optional
        Bytes that each process keeps to on its GPU; nine tenths of what is free by default.
    begin : callable
        Told the id of each dictionary that is begun.
    progress : callable
        Told the pairs dealt with after each task.
    say : callable
        Told what a user should know, a sentence at a time.

    Returns
    -------
    iterator of str
        Computes as it goes: the id of each dictionary, once its results are in the store. What
        other runs are at comes last.

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
    check_crew(store.hierarchy, device)
    by = means(device, precision, memory, device_memory)
    missing = missing_histograms(store, ids, ask)
    for id in missing:  # refused before any work
        by.budget(Work(store, (id,), ask))
    if store.hierarchy.work.exists():
        _put_away(store, set(store.decoders if ids is None else ids) - set(missing), ask, by)
    return _compute(store, missing, ask, by, begin, progress, say)


def foresee(
    store: Store,
    ids: Iterable[str] | None,
    ask: Ask,
    memory: int | None = None,
    device: str = "auto",
    device_memory: int | None = None,
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
    memory, device, device_memory : int, str, int
        As `compute_histograms` takes them.

    Yields
    ------
    dict
        ``id``, ``n_features``, ``d_model``, ``pairs``, ``tasks``, ``device``, ``threads`` (of each
        process), ``operations`` (floating-point, of the products), ``bytes_read`` (at most),
        ``bytes_held`` (by all processes of a machine, at most), ``device_bytes`` (by each process
        on its GPU) and ``seconds``.

    Raises
    ------
    GeomsaeError
        If the memory is too little, or there is no such device here.
    """
    by = means(device, ask.precision, memory, device_memory)
    who = crew(by.device)
    rates: dict[int, float] = {}
    for id in missing_histograms(store, ids, ask):
        work = Work(store, (id,), ask)
        (job,), budget = work.jobs, by.budget(work)
        rate = rates.get(job.d) or pairs_per_second(job.d, ask, budget, who)
        rates[job.d] = rate
        pairs = job.n * (job.n - 1) // 2
        yield {
            "id": id,
            "n_features": job.n,
            "d_model": job.d,
            "pairs": pairs,
            "tasks": len(work.plan(budget)),
            "device": budget.device,
            "threads": budget.threads,
            "operations": 2 * pairs * job.d,
            "bytes_read": bytes_read(job, budget, who.processes),
            "bytes_held": budget.total,
            "device_bytes": budget.device_bytes,
            "seconds": pairs / rate,
        }


def _compute(
    store: Store,
    missing: list[str],
    ask: Ask,
    by: Means,
    begin: Callable[[str], object],
    progress: Progress,
    say: Say,
) -> Iterator[str]:
    """Count what nobody is at, and then wait for what others were at."""

    def is_counted(id: str) -> bool:
        begin(id)
        try:
            _complete(store, id, ask, by, progress, say, leave)
        except BusyError:
            return False
        return True

    busy = []
    for id, counted in zip(missing, _at_once(is_counted, missing, by), strict=True):
        if counted:
            yield id
        else:
            busy.append(id)
    for id in busy:
        begin(id)
        _complete(store, id, ask, by, progress, say, lambda other: say(f"waiting for {other}"))
        yield id


def _at_once(function: Callable[[str], bool], ids: list[str], by: Means) -> Iterator[bool]:
    """Results of a function in the order of ids: one after another, or as many as there are GPUs.

    All processors share in one dictionary; for a GPU most are a single task.
    """
    teams = crew(by.device).teams if by.device == "gpu" else 1
    if teams == 1:
        yield from map(function, ids)
        return
    with ThreadPoolExecutor(teams) as pool:
        try:
            yield from pool.map(function, ids)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _complete(
    store: Store, id: str, ask: Ask, by: Means, progress: Progress, say: Say, on_wait: OnWait
) -> None:
    """Count a dictionary until the store knows all that is asked, unless another run did."""
    while (wanted := _still_asked(store, id, ask)) is not None:
        work = Work(store, (id,), wanted)
        budget = by.budget(work)
        with partial(store.hierarchy, f"counts {id}", on_wait, **work.source(budget)) as so_far:
            if _still_asked(store, id, ask) == wanted:  # else another run was first
                whole = count_whole(work, by, budget, so_far, progress, say)
                _keep(work, whole, budget.device, so_far)


def _put_away(store: Store, ids: Iterable[str], ask: Ask, by: Means) -> None:
    """Remove what a run has left that was killed when its results were in the store already."""
    for id in ids:
        known = store.asked_before(id, ask.bins, ask.precision) or Ask(ask.bins, ask.precision)
        work = Work(store, (id,), known)
        with suppress(GeomsaeError):  # one that is at it, or too little memory to know what it was
            put_away(store.hierarchy, **work.source(by.budget(work)))


def _keep(work: Work, whole: Tally, device: str, so_far: Partial) -> None:
    """Put what came out into the store, if it is all."""
    store, (id,), ask, (job,) = work.store, work.ids, work.ask, work.jobs
    n_valid = int(np.count_nonzero(store.norms(id)))
    n_pairs = n_valid * (n_valid - 1) // 2
    if not whole.count.sum() == whole.n_pairs == n_pairs:
        so_far.remove()
        raise ConservationError(
            f"{whole.count.sum():,} pairs of {id} were counted of {n_pairs:,}: "
            "the result was thrown away"
        )
    counted = histogram(whole.count, n_pairs, job.n - n_valid, {})
    made = {"device": device, "sha256": store.attributes(id)["sha256"]}
    with suppress(TakenError):  # counted before, or by another run meanwhile
        store.add_histogram(id, counted, {"precision": ask.precision, **made})
    if ask.keeps:
        found = whole.found()
        labelled = features(ask, job.n, None, lambda variable: found[variable.name])
        store.add_features(id, ask, labelled, made)
