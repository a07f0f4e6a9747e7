"""Computing what a store has no result of yet, one dictionary at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import numpy as np
import xarray as xr

from geomsae.bins import DEFAULT_BINS, check_bins
from geomsae.errors import ConservationError, GeomsaeError, TakenError
from geomsae.histogram import histogram
from geomsae.pairs.cosine import check_precision
from geomsae.pairs.count import Counted
from geomsae.pairs.plan import plan_triangle
from geomsae.pairs.schedule import run
from geomsae.pairs.stored import StoredDecoder, count_stored, forget
from geomsae.store import Store

Progress = Callable[[int], object]
"""Told how many pairs were just dealt with."""


def missing_histograms(
    store: Store,
    ids: Iterable[str] | None = None,
    *,
    bins: int = DEFAULT_BINS,
    precision: str = "float32",
) -> list[str]:
    """The dictionaries, all or those named, that have no such histogram in the store yet."""
    chosen = list(store.decoders if ids is None else ids)
    return [id for id in chosen if not store.has_histogram(id, bins, precision)]


def compute_histograms(
    store: Store,
    ids: Iterable[str] | None = None,
    *,
    bins: int = DEFAULT_BINS,
    precision: str = "float32",
    device: str = "auto",
    progress: Progress = lambda _: None,
) -> Iterator[str]:
    """Count the pairwise cosines of every dictionary that has no such histogram yet.

    Dask schedules the work: on a distributed client if this process has one, else on threads.
    Each histogram is in the store, whole, before the next is begun.

    Parameters
    ----------
    store : Store
        Where the decoders are and the histograms go.
    ids : iterable of str, optional
        The dictionaries; all of them by default.
    bins : int
        Number of equal bins on [-1, 1].
    precision : {"float32", "float64"}
        Arithmetic of the products.
    device : {"auto", "cpu"}
        What multiplies.
    progress : callable
        Told the pairs dealt with after each task.

    Returns
    -------
    iterator of str
        Computes as it goes: the id of each dictionary, once its histogram is in the store.

    Raises
    ------
    GeomsaeError
        If there is no such precision or device here.
    SelectionError
        If the store has no such dictionary.
    ConservationError
        If a count breaks a conservation law; nothing of it is kept.
    """
    check_bins(bins)
    check_precision(precision)
    if device not in ("auto", "cpu"):
        raise GeomsaeError(f"pairs cannot be counted on {device!r} yet: use auto or cpu")
    missing = missing_histograms(store, ids, bins=bins, precision=precision)
    return _compute(store, missing, bins, precision, progress)


def _compute(
    store: Store, missing: list[str], bins: int, precision: str, progress: Progress
) -> Iterator[str]:
    for id in missing:
        sha256 = store.attributes(id)["sha256"]
        decoder = StoredDecoder(store.hierarchy.address, id, sha256, precision)
        dataset = _count(store, decoder, bins, progress)
        made = {"precision": precision, "device": "cpu", "sha256": sha256}
        with suppress(TakenError):  # another run was first, with the same counts
            store.add_histogram(id, dataset, made)
        yield id


def _count(store: Store, decoder: StoredDecoder, bins: int, progress: Progress) -> xr.Dataset:
    """The histogram of one dictionary."""
    norms = store.norms(decoder.id)
    n_valid = int(np.count_nonzero(norms))
    count = np.zeros(bins, np.int64)

    def add(part: Counted) -> None:
        count[:] += part.count
        progress(part.covered)

    try:
        run(count_stored, [(decoder, tile, bins) for tile in plan_triangle(norms.size)], add)
    finally:
        forget()
    n_pairs = n_valid * (n_valid - 1) // 2
    if count.sum() != n_pairs:
        raise ConservationError(
            f"{count.sum():,} pairs of {decoder.id} were counted of {n_pairs:,}: "
            "the result was thrown away"
        )
    return histogram(count, n_pairs, norms.size - n_valid, {})
