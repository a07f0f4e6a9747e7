"""Verifying a store: every chunk against its checksum, every result against its decoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from geomsae.bins import edges, tail_bins
from geomsae.errors import GeomsaeError
from geomsae.store import Store
from geomsae.store.decoders import row_norms
from geomsae.store.histograms import checksum
from geomsae.store.layout import features_path, histogram_path

COSINE_ERROR = 2e-6
"""How far a counted cosine may be from the exact one, by the rule that counts keep to."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was verified of one part of a dictionary.

    Parameters
    ----------
    id : str
        The dictionary.
    part : str
        ``decoder``, or the name of a group of results.
    problem : str
        What is wrong with it; empty where nothing is.
    """

    id: str
    part: str
    problem: str


@dataclass(frozen=True, slots=True)
class Moments:
    """What the laws need to know about the unit rows of a decoder, in float64.

    Parameters
    ----------
    n_directed, n_excluded : int
        Rows with and without a direction.
    sum_of_cosines, sum_of_squares : float
        Over all unordered pairs: (|s|^2 - n) / 2 with s the sum of the unit rows, and
        (|U^T U|_F^2 - n) / 2 with U the matrix of them.
    """

    n_directed: int
    n_excluded: int
    sum_of_cosines: float
    sum_of_squares: float


def verify(
    store: Store,
    ids: Iterable[str] | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Iterator[Finding]:
    """Read everything that a store holds about dictionaries, and check it.

    Parameters
    ----------
    store : Store
        The store.
    ids : iterable of str, optional
        The dictionaries; all of them by default.
    progress : callable
        Told the rows of decoders that were just read.

    Yields
    ------
    Finding
        For the decoder of each dictionary, and for each of its results.

    Raises
    ------
    SelectionError
        If the store has no such dictionary.
    """
    chosen = list(store.decoders if ids is None else ids)
    for id in chosen:
        store.attributes(id)
    for id in chosen:
        try:
            moments: Moments | None = _read_decoder(store, id, progress)
            problem = ""
        except _Failures as error:
            moments, problem = None, _sentence(error)
        yield Finding(id, "decoder", problem)
        for kind, check in (("histogram", _check_histogram), ("features", _check_features)):
            for path, known in store.hierarchy.complete(kind, f"{id}/results"):
                try:
                    check(store, id, known, moments)
                    problem = ""
                except _Failures as error:
                    problem = _sentence(error)
                yield Finding(id, path.rpartition("/")[2], problem)


_Failures = (GeomsaeError, OSError, ValueError, KeyError, RuntimeError)


class _BrokenError(GeomsaeError):
    """Something is not as it has to be."""


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _read_decoder(store: Store, id: str, progress: Callable[[int], object]) -> Moments:
    """Read all rows of a decoder, compare them with what is recorded, and sum them up."""
    known = store.attributes(id)
    weights: Any = zarr.open_array(store.hierarchy.zarr_store(), path=f"{id}/W_dec", mode="r")
    if weights.shape != (known["n_features"], known["d_model"]):
        raise _BrokenError(f"W_dec is {weights.shape}, not what the attributes of its group say")
    norms = store.norms(id)
    digest = hashlib.sha256()
    total = np.zeros(weights.shape[1])
    gram = np.zeros((weights.shape[1], weights.shape[1]))
    for first in range(0, weights.shape[0], weights.chunks[0]):
        block = np.ascontiguousarray(weights[first : first + weights.chunks[0]], np.float32)
        digest.update(block.data)
        mine = norms[first : first + len(block)]
        if not np.array_equal(row_norms(block), mine):
            raise _BrokenError(f"norm is not that of the rows from {first:,}")
        unit = block / np.where(mine > 0, mine, 1)[:, None]
        total += unit.sum(axis=0)
        gram += unit.T @ unit
        progress(len(block))
    if digest.hexdigest() != known["sha256"]:
        raise _BrokenError(
            "the values of W_dec are not those that were written: their sha256 differs"
        )
    n = int(np.count_nonzero(norms))
    squares = (float(np.sum(gram**2)) - n) / 2
    return Moments(n, norms.size - n, (float(total @ total) - n) / 2, squares)


def _check_histogram(store: Store, id: str, known: dict[str, Any], moments: Moments | None) -> None:
    """Hold a histogram against its checksum, and against the laws that its decoder implies."""
    path = histogram_path(id, known["bins"], known["precision"])
    opened = _open(store, path)
    count = opened["count"].values
    _compare_checksums({"count": count}, {"count": known["count_sha256"]})
    edge = edges(known["bins"])
    for name, expected in (("cosine_left", edge[:-1]), ("cosine_right", edge[1:])):
        if not np.array_equal(opened[name].values, expected):
            raise _BrokenError(f"{name} is not that of {known['bins']:,} equal bins")
    if known["sha256"] != store.attributes(id)["sha256"]:
        raise _BrokenError("it was counted of other values than the decoder has")
    if (count < 0).any() or count.sum() != known["n_pairs"]:
        raise _BrokenError(
            f"the counts add up to {count.sum():,}, not to {known['n_pairs']:,} pairs"
        )
    if moments is None:
        return
    pairs = moments.n_directed * (moments.n_directed - 1) // 2
    if (known["n_pairs"], known["n_excluded"]) != (pairs, moments.n_excluded):
        raise _BrokenError(
            f"{known['n_pairs']:,} pairs were counted, and its decoder has {pairs:,}"
        )
    left, right = edge[:-1] - COSINE_ERROR, edge[1:] + COSINE_ERROR
    _check_between("cosines", moments.sum_of_cosines, count @ left, count @ right)
    ends = np.sort([np.abs(left), np.abs(right)], axis=0)
    least = np.where(left * right < 0, 0, ends[0])
    _check_between(
        "squared cosines", moments.sum_of_squares, count @ least**2, count @ ends[1] ** 2
    )


def _check_between(what: str, exact: float, least: Any, most: Any) -> None:
    if not least <= exact <= most:
        raise _BrokenError(
            f"its {what} add up to between {least:.9g} and {most:.9g}, and those of its decoder to "
            f"{exact:.9g}"
        )


def _check_features(store: Store, id: str, known: dict[str, Any], moments: Moments | None) -> None:
    """Hold what is known about features and pairs against checksums, counts and rows."""
    opened = _open(store, features_path(id, known["bins"], known["precision"]))
    _compare_checksums(
        {str(name): values.values for name, values in opened.variables.items()},
        known["array_sha256"],
    )
    if known["sha256"] != store.attributes(id)["sha256"]:
        raise _BrokenError("it was found among other values than the decoder has")
    counted = histogram_path(id, known["bins"], known["precision"])
    if "degree" in opened and store.hierarchy.attributes(counted) is not None:
        count = _open(store, counted)["count"].values
        for number, threshold in enumerate(known["thresholds"]):
            twice = 2 * count[tail_bins(count.size, threshold)].sum()
            degrees = opened["degree"].values[:, number].sum()
            if degrees != twice:
                raise _BrokenError(
                    f"degrees at {threshold:g} add up to {degrees:,}, and each of {twice // 2:,} "
                    "pairs in the tails has two ends"
                )
    if moments is not None:
        for end in ("similar", "opposite"):
            if f"top_{end}" in opened:
                _check_pairs(
                    store, id, opened[f"top_{end}"].values, opened[f"top_{end}_cosine"].values
                )


def _check_pairs(store: Store, id: str, pairs: NDArray[np.int64], cosines: NDArray[Any]) -> None:
    """Compute the cosines of pairs of rows anew, in float64."""
    there = pairs[:, 0] >= 0
    needed, place = np.unique(pairs[there], return_inverse=True)
    if not needed.size:
        return
    rows = store.decoder(id).isel(feature=needed).values.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    first, second = place.reshape(-1, 2).T
    exact = np.einsum("ij,ij->i", rows[first], rows[second])
    off = np.abs(exact - cosines[there]).max()
    if off > COSINE_ERROR:
        raise _BrokenError(f"the cosine of a pair is {off:.2g} away from that of its rows")


def _open(store: Store, path: str) -> xr.Dataset:
    opened: xr.Dataset = xr.open_zarr(
        store.hierarchy.zarr_store(), group=path, chunks=None, consolidated=False, decode_cf=False
    ).load()
    return opened


def _compare_checksums(arrays: dict[str, NDArray[Any]], expected: dict[str, str]) -> None:
    if set(expected) - set(arrays):
        raise _BrokenError(f"{min(set(expected) - set(arrays))} is missing")
    for name, digest in expected.items():
        if checksum(arrays[name]) != digest:
            raise _BrokenError(f"{name} is not what was written: its sha256 differs")
