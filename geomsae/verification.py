"""Verifying a store: every chunk against its checksum, every result against its decoder."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.ask import cosine_error
from geomsae.bins import centres, edges, tail_bins
from geomsae.errors import DamagedError, GeomsaeError
from geomsae.store import Store
from geomsae.store.decoders import row_norms
from geomsae.store.elsewhere import answering
from geomsae.store.guard import open_array
from geomsae.store.histograms import checksum
from geomsae.store.layout import histogram_path
from geomsae.store.survey import DECODER, FEATURES, HISTOGRAM, Place, Survey


@dataclass(frozen=True, slots=True)
class Finding:
    """What was verified of one part of a store.

    Parameters
    ----------
    id : str
        The dictionary; for what several lie in, its path, and ``/`` for the store itself.
    part : str
        ``decoder``, the name of a group of results, or of what does not belong there.
    problem : str
        What is wrong with it; empty where nothing is.
    place : Place
        Where it lies, and what it is.
    """

    id: str
    part: str
    problem: str
    place: Place

    @property
    def unguarded(self) -> bool:
        """Whether its metadata, written before there were digests, was held against none."""
        return self.place.unguarded


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
    places: Iterable[Place] | None = None,
) -> Iterator[Finding]:
    """Read everything that a store holds about dictionaries, and check it.

    The catalogue is not believed: folders are walked, so that what has vanished from it is found.

    Parameters
    ----------
    store : Store
        The store.
    ids : iterable of str, optional
        The dictionaries; all of them by default, and whatever else lies in the store.
    progress : callable
        Told the rows of decoders that were just read.
    places : iterable of Place, optional
        What `look_around` gave for these.

    Yields
    ------
    Finding
        For the decoder of each dictionary, for each of its results, and for what else is wrong.

    Raises
    ------
    SelectionError
        If the store has no such dictionary.
    """
    sound = _Sound()
    for place in look_around(store, ids) if places is None else places:
        if place.kind == DECODER:
            sound = _Sound()
        problem = place.problem
        if not problem:
            try:
                _check(store, place, sound, progress)
            except Exception as error:  # metadata that nothing guards may break any reader
                if not _is_damage(error):
                    raise
                problem = " ".join(str(error).split()) or type(error).__name__
        yield Finding(place.id, place.part, problem, place)


def look_around(store: Store, ids: Iterable[str] | None = None) -> list[Place]:
    """What lies in a store: the parts of dictionaries, and what is wrong with all around them.

    Raises
    ------
    SelectionError
        If the store has no such dictionary.
    """
    with answering(store.location):
        places = list(Survey(store.hierarchy.fs, store.hierarchy.root).places())
    if ids is None:
        return places
    chosen = set(ids)
    for id in chosen - {place.id for place in places}:
        store.attributes(id)  # which says what there is
    above = {"/".join(id.split("/")[:depth]) for id in chosen for depth in range(id.count("/") + 1)}
    return [p for p in places if p.id in chosen or (p.problem and p.path in above)]


def _is_damage(error: Exception) -> bool:
    """Whether an error speaks of what was read, and not of what kept it from being read."""
    if isinstance(error, GeomsaeError):
        return isinstance(error, DamagedError)
    if isinstance(error, OSError):
        return isinstance(error, FileNotFoundError) or error.errno == errno.EIO
    return not isinstance(error, MemoryError)


@dataclass(slots=True)
class _Sound:
    """What was found to be as it has to be of the dictionary at hand, to hold the rest against."""

    decoder: Place | None = None
    moments: Moments | None = None
    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)


def _check(store: Store, place: Place, sound: _Sound, progress: Callable[[int], object]) -> None:
    """Check the values of a place whose metadata is as it has to be."""
    if place.kind == DECODER:
        sound.moments = _read_decoder(store, place, progress)
        sound.decoder = place
    elif place.kind == HISTOGRAM:
        sound.counts[place.path] = _check_histogram(store, place, sound.moments)
    elif place.kind == FEATURES:
        _check_features(store, place, sound)


def _read_decoder(store: Store, place: Place, progress: Callable[[int], object]) -> Moments:
    """Read all rows of a decoder, compare them with what is recorded, and sum them up."""
    known = place.attributes
    weights: Any = open_array(store.hierarchy, place.path, "W_dec", known)
    if weights.shape != (known["n_features"], known["d_model"]):
        raise DamagedError(f"W_dec is {weights.shape}, not what the attributes of its group say")
    norms = _read(store, place, "norm")
    digest = hashlib.sha256()
    total = np.zeros(weights.shape[1])
    gram = np.zeros((weights.shape[1], weights.shape[1]))
    for first in range(0, weights.shape[0], weights.chunks[0]):
        block = np.ascontiguousarray(weights[first : first + weights.chunks[0]], np.float32)
        digest.update(block.data)
        mine = norms[first : first + len(block)]
        if not np.array_equal(row_norms(block), mine):
            raise DamagedError(f"norm is not that of the rows from {first:,}")
        unit = block / np.where(mine > 0, mine, 1)[:, None]
        total += unit.sum(axis=0)
        gram += unit.T @ unit
        progress(len(block))
    if digest.hexdigest() != known["sha256"]:
        raise DamagedError(
            "the values of W_dec are not those that were written: their sha256 differs"
        )
    n = int(np.count_nonzero(norms))
    squares = (float(np.sum(gram**2)) - n) / 2
    return Moments(n, norms.size - n, (float(total @ total) - n) / 2, squares)


def _check_histogram(store: Store, place: Place, moments: Moments | None) -> NDArray[np.int64]:
    """Hold a histogram against its checksum, and against the laws that its decoder implies.

    Returns
    -------
    ndarray, shape (bins,), int64
        The counts.
    """
    known = place.attributes
    count = _read(store, place, "count")
    _compare_checksums({"count": count}, {"count": known["count_sha256"]})
    edge = edges(known["bins"])
    for name, expected in (
        ("cosine", centres(known["bins"])),
        ("cosine_left", edge[:-1]),
        ("cosine_right", edge[1:]),
    ):
        if not np.array_equal(_read(store, place, name), expected):
            raise DamagedError(f"{name} is not that of {known['bins']:,} equal bins")
    if (count < 0).any() or count.sum() != known["n_pairs"]:
        raise DamagedError(
            f"the counts add up to {count.sum():,}, not to {known['n_pairs']:,} pairs"
        )
    if moments is not None:
        _check_laws(known, count, moments)
    return count


def _check_laws(known: dict[str, Any], count: NDArray[np.int64], moments: Moments) -> None:
    """Hold counts against the pairs, the cosines and the squared cosines of a decoder."""
    edge = edges(known["bins"])
    pairs = moments.n_directed * (moments.n_directed - 1) // 2
    if (known["n_pairs"], known["n_excluded"]) != (pairs, moments.n_excluded):
        raise DamagedError(
            f"{known['n_pairs']:,} pairs were counted, and its decoder has {pairs:,}"
        )
    error = cosine_error(known["precision"])
    left, right = edge[:-1] - error, edge[1:] + error
    _check_between("cosines", moments.sum_of_cosines, count @ left, count @ right)
    ends = np.sort([np.abs(left), np.abs(right)], axis=0)
    least = np.where(left * right < 0, 0, ends[0])
    _check_between(
        "squared cosines", moments.sum_of_squares, count @ least**2, count @ ends[1] ** 2
    )


def _check_between(what: str, exact: float, least: Any, most: Any) -> None:
    if not least <= exact <= most:
        raise DamagedError(
            f"its {what} add up to between {least:.9g} and {most:.9g}, and those of its decoder to "
            f"{exact:.9g}"
        )


def _check_features(store: Store, place: Place, sound: _Sound) -> None:
    """Hold what is known about features and pairs against checksums, counts and rows."""
    known = place.attributes
    values = {name: _read(store, place, name) for name in known["array_sha256"]}
    _compare_checksums(values, known["array_sha256"])
    count = sound.counts.get(histogram_path(place.id, known["bins"], known["precision"]))
    if "degree" in values and count is not None:
        _check_degrees(values["degree"], known["thresholds"], count)
    if sound.decoder is None:
        return
    error = cosine_error(known["precision"])
    for end in ("similar", "opposite"):
        if f"top_{end}" in values:
            pairs, cosines = values[f"top_{end}"], values[f"top_{end}_cosine"]
            _check_pairs(store, sound.decoder, pairs, cosines, error)


def _check_degrees(
    degree: NDArray[np.int64], thresholds: list[float], count: NDArray[np.int64]
) -> None:
    """Hold the degrees of features against the counts."""
    for number, threshold in enumerate(thresholds):
        twice = 2 * count[tail_bins(count.size, threshold)].sum()
        degrees = degree[:, number].sum()
        if degrees != twice:
            raise DamagedError(
                f"degrees at {threshold:g} add up to {degrees:,}, and each of {twice // 2:,} "
                "pairs in the tails has two ends"
            )


def _check_pairs(
    store: Store, decoder: Place, pairs: NDArray[np.int64], cosines: NDArray[Any], error: float
) -> None:
    """Compute the cosines of pairs of rows anew, in float64."""
    there = pairs[:, 0] >= 0
    needed, place = np.unique(pairs[there], return_inverse=True)
    if not needed.size:
        return
    weights: Any = open_array(store.hierarchy, decoder.path, "W_dec", decoder.attributes)
    rows = weights.oindex[needed].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    first, second = place.reshape(-1, 2).T
    exact = np.einsum("ij,ij->i", rows[first], rows[second])
    off = np.abs(exact - cosines[there]).max()
    if off > error:
        raise DamagedError(f"the cosine of a pair is {off:.2g} away from that of its rows")


def _read(store: Store, place: Place, name: str) -> NDArray[Any]:
    """All values of an array of a group."""
    array = open_array(store.hierarchy, place.path, name, place.attributes)
    return np.asarray(array[...])


def _compare_checksums(arrays: dict[str, NDArray[Any]], expected: dict[str, str]) -> None:
    for name, digest in expected.items():
        if checksum(arrays[name]) != digest:
            raise DamagedError(f"{name} is not what was written: its sha256 differs")
