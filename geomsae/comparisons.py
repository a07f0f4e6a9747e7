"""Comparing stored dictionaries where they lie, two at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr

from geomsae.analysis.comparison import MATCHED, summarise
from geomsae.ask import Ask
from geomsae.bins import DEFAULT_BINS
from geomsae.counting import Progress, Say, count_whole
from geomsae.dictionary import Dictionary
from geomsae.errors import ConservationError, DecoderError
from geomsae.features import OTHER, features
from geomsae.histogram import histogram
from geomsae.pairs.workers import check_crew
from geomsae.store import Store
from geomsae.store.partial import partial
from geomsae.work import Work, means


def compare_stored(
    store: Store,
    one: str,
    other: str,
    *,
    bins: int = DEFAULT_BINS,
    precision: str = "float32",
    thresholds: Iterable[float] = MATCHED,
    device: str = "auto",
    memory: int | None = None,
    device_memory: int | None = None,
    progress: Progress = lambda _: None,
    say: Say = lambda _: None,
) -> xr.Dataset:
    """Compare the directions of two dictionaries of a store, out of core.

    What `geomsae.compare` gives for two matrices, computed as `geomsae.compute_histograms` does:
    within a memory, on Dask, and gone on with after an interruption. Nothing is kept in the store.

    Parameters
    ----------
    store : Store
        Where the decoders are.
    one, other : str
        Their ids.
    bins : int
        Equal bins of the histogram.
    precision : {"float32", "float64", "fp16x3", "tf32"}
        Arithmetic of the products; the last two on a GPU.
    thresholds : iterable of float
        Cosines from which a feature counts as matched; each on an edge of the bins.
    device, memory, device_memory : str, int, int
        As `geomsae.compute_histograms` takes them.
    progress : callable
        Told the pairs dealt with after each task.
    say : callable
        Told what a user should know, a sentence at a time.

    Returns
    -------
    Dataset
        As `geomsae.compare` gives it, computed, with the labels of both dictionaries as scalar
        coordinates, those of the second beginning with ``other_``.

    Raises
    ------
    SelectionError
        If the store has no such dictionary.
    DecoderError
        If they are directions of different spaces.
    GeomsaeError
        If something cannot be asked, or the memory is too little.
    """
    ask = Ask(bins, precision, tuple(thresholds), neighbours=1)
    check_crew(store.hierarchy, device)
    by = means(device, precision, memory, device_memory)
    work = Work(store, (one, other), ask)
    jobs = work.jobs
    if jobs[0].d != jobs[1].d:
        raise DecoderError(
            f"{one} has {jobs[0].d:,} dimensions and {other} {jobs[1].d:,}: directions of "
            "different spaces have no cosine"
        )
    budget = by.budget(work)
    with partial(
        store.hierarchy,
        f"compares {one} with {other}",
        lambda busy: say(f"waiting for {busy}"),
        shared=False,
        **work.source(budget),
    ) as so_far:
        whole = count_whole(work, by, budget, so_far, progress, say)
        directed = [int(np.count_nonzero(store.norms(id))) for id in (one, other)]
        n_pairs = directed[0] * directed[1]
        if not whole.count.sum() == whole.n_pairs == n_pairs:
            so_far.remove()
            raise ConservationError(
                f"{whole.count.sum():,} pairs of {one} and {other} were counted of {n_pairs:,}: "
                "the result was thrown away"
            )
    excluded = jobs[0].n + jobs[1].n - sum(directed)
    found = whole.found()
    answers = features(ask, jobs[0].n, jobs[1].n, lambda variable: found[variable.name])
    labels = {**_labels(store, one, ""), **_labels(store, other, OTHER)}
    counted = histogram(whole.count, np.int64(n_pairs), np.int64(excluded), labels)
    return summarise(counted.merge(answers)).assign_attrs(precision=precision, device=budget.device)


def _labels(store: Store, id: str, prefix: str) -> dict[str, object]:
    """The id and the labels of a dictionary, as scalar coordinates."""
    labels = Dictionary.from_json(store.attributes(id)).coordinates()
    return {f"{prefix}{name}": value for name, value in {"dictionary": id, **labels}.items()}
