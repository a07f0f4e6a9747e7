"""Groups of features that hang together: what the most similar pairs are parts of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geomsae.ask import MOST_PAIRS
from geomsae.errors import SelectionError

SIGNS = {"similar": ("similar",), "both": ("similar", "opposite")}
"""Which pairs join two features: those with a cosine so high, or also those with one so low."""


def groups(
    pairs: xr.Dataset,
    threshold: float,
    n_features: int | None = None,
    *,
    sign: str = "similar",
) -> xr.Dataset:
    """Connected groups of features: each is joined to another by a cosine of at least `threshold`.

    The features are the nodes of a graph, the pairs its edges, and a group is a component of two
    features or more. Two features of a group need not be similar to each other: a chain of pairs
    joins them (single linkage), so that ``n_pairs`` tells a chain from a cluster.

    Parameters
    ----------
    pairs : Dataset, dims (pair, member)
        The most extreme pairs of one dictionary, as `Store.pairs` gives them, or
        `geomsae.cosine_histogram` with `pairs`.
    threshold : float
        In (0, 1]; it need not lie on an edge of the bins.
    n_features : int, optional
        Features of the dictionary; then ``share_grouped`` is told, too.
    sign : {"similar", "both"}
        Whether a pair joins its features by its cosine, or by its |cosine|.

    Returns
    -------
    Dataset, dims (group, member)
        The groups, the largest first, and of equal size the one with the most extreme pair:
        ``size`` (group) int64, its features; ``n_pairs`` (group) int64, its pairs beyond the
        threshold, between size - 1 and size (size - 1) / 2; ``largest_cosine`` (group), float64,
        the cosine of its most similar pair, or, of both signs, the largest |cosine|. In long form
        ``feature`` (member) int64, the number of each feature that is in a group, rising within a
        group, with ``group_of`` (member) int64, its group, as a coordinate. ``share_grouped`` ()
        float64, the share of features in any group. The scalar coordinates of `pairs` stay.

    Raises
    ------
    SelectionError
        If the pairs that are kept do not reach below the threshold, so that some may be missing;
        if there are none; or if the threshold, the sign or the number of features cannot be.

    Notes
    -----
    Exact, or refused: the last of the kept pairs must lie below the threshold, or they must be all
    that there are. Components are found in time linear in the pairs (Pearce 2005, as SciPy does).

    Examples
    --------
    >>> import geomsae
    >>> w = np.array([[1, 0, 0], [9, 1, 0], [0, 0, 1], [8, 2, 0], [0, 1, 0], [0, 1, 9]])
    >>> found = groups(geomsae.cosine_histogram(w, pairs=100), 0.9, 6)
    >>> found["size"].values, found["feature"].values, found["group_of"].values
    (array([3, 2]), array([0, 1, 3, 2, 5]), array([0, 0, 0, 1, 1]))
    >>> found["share_grouped"].item()
    0.8333333333333334
    """
    if not 0 < threshold <= 1:
        raise SelectionError(f"no group is joined by a cosine of {threshold:g}: say 0 to 1")
    if sign not in SIGNS:
        raise SelectionError(f"sign {sign!r} is not one of {', '.join(SIGNS)}")
    edges, merit = _joining(pairs, threshold, SIGNS[sign])
    if n_features is not None and edges.size and edges.max() >= n_features:
        raise SelectionError(
            f"the pairs name feature {edges.max()}, and {n_features:,} features end before it"
        )
    numbers, component = _components(edges)
    of_pair = component[np.searchsorted(numbers, edges[:, 0])]
    size = np.bincount(component)
    n_pairs = np.bincount(of_pair, minlength=size.size)
    largest = np.zeros(size.size)
    np.maximum.at(largest, of_pair, merit)
    order = np.lexsort((-largest, -size))
    group_of = np.argsort(order)[component]  # the place of each component in that order
    by_group = np.argsort(group_of, kind="stable")
    meaning = "largest |cosine| in the group" if sign == "both" else "largest cosine in the group"
    found: dict[str, Any] = {
        "size": ("group", size[order], {"long_name": "features in the group"}),
        "n_pairs": ("group", n_pairs[order], {"long_name": "pairs that join them"}),
        "largest_cosine": ("group", largest[order], {"long_name": meaning}),
        "feature": ("member", numbers[by_group], {"long_name": "number of the feature"}),
    }
    if n_features is not None:
        about = {"long_name": "share of features in a group", "units": "1"}
        found["share_grouped"] = ((), numbers.size / max(n_features, 1), about)
    coords: dict[Any, Any] = {name: c for name, c in pairs.coords.items() if c.ndim == 0}
    coords["group"] = ("group", np.arange(size.size), {"long_name": "0 for the largest"})
    coords["group_of"] = ("member", group_of[by_group], {"long_name": "group of the feature"})
    return xr.Dataset(found, coords, {"threshold": float(threshold), "sign": sign})


def _joining(
    pairs: xr.Dataset, threshold: float, ends: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pairs beyond the threshold, shape (n, 2), and how far each is out."""
    names = [f"top_{end}{part}" for end in ends for part in ("", "_cosine")]
    if not set(names) <= set(pairs):
        raise SelectionError(
            f"there is no {' or '.join(names)} to group by: keep pairs with "
            "'geomsae histogram --pairs 1000'"
        )
    kept = pairs[names].compute()
    edges, merits = [], []
    for end in ends:
        pair = kept[f"top_{end}"].values
        merit = np.abs if end == "opposite" else np.asarray
        cosine = kept[f"top_{end}_cosine"].values.astype(np.float64)
        there = ~np.isnan(cosine)
        if (pair[there, 0] >= pair[there, 1]).any():
            raise SelectionError(
                "features of two dictionaries have no groups: give the pairs of one with itself"
            )
        far = (cosine >= threshold) if end == "similar" else (cosine <= -threshold)
        if far.all():
            raise SelectionError(_too_few(end, cosine, threshold))
        edges.append(pair[far])
        merits.append(merit(cosine[far]))
    return np.concatenate(edges), np.concatenate(merits)


def _too_few(end: str, cosine: NDArray[np.float64], threshold: float) -> str:
    """Why the kept pairs cannot say which features are joined, and the ways out."""
    if not cosine.size:
        return "no pairs are kept: keep some with 'geomsae histogram --pairs 1000'"
    beyond = threshold if end == "similar" else -threshold
    ways = []
    if cosine.size < MOST_PAIRS:
        more = min(10 * cosine.size, MOST_PAIRS)
        ways.append(f"keep more with 'geomsae histogram --pairs {more}'")
    last = math.ceil(np.abs(cosine).min() * 1e4) / 1e4
    if last < 1:
        ways.append(f"ask for groups above {last:g}")
    return (
        f"all of the {cosine.size:,} most {end} pairs that are kept reach {beyond:g}, and others "
        f"may: {', or '.join(ways) or 'no more of them can be kept'}"
    )


def _components(edges: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the features that any pair joins, rising, and the component of each."""
    numbers, ends = np.unique(edges, return_inverse=True)
    ends = ends.reshape(edges.shape)
    joined = coo_array(
        (np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(numbers.size,) * 2
    )
    _, component = connected_components(joined, directed=False)
    return numbers, component.astype(np.int64)
