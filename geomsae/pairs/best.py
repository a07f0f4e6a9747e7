"""Keeping the best: for each feature a short sorted list of partners, and one heap of pairs.

What is kept does not depend on the order in which it was offered: of two as good, the one with the
lower numbers is better. Merits are cosines for the most similar, and cosines with the other sign
for the most opposite.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.pairs.compiled import compiled


@compiled
def offer_partner(
    merit: NDArray[Any], partner: NDArray[np.int64], feature: int, value: Any, number: int
) -> None:
    """Put a partner into the sorted list of a feature, if it is good enough.

    Parameters
    ----------
    merit : ndarray, shape (k, features)
        Merits of the best partners so far, falling along the first axis; -inf where there is none.
    partner : ndarray, shape (k, features), int64
        Their numbers; -1 where there is none.
    feature : int
        Position of the feature in both.
    value, number : float, int
        The merit of what is offered, and its number.
    """
    at = merit.shape[0]
    while at > 0 and (
        value > merit[at - 1, feature]
        or (value == merit[at - 1, feature] and number < partner[at - 1, feature])
    ):
        at -= 1
    for rank in range(merit.shape[0] - 1, at, -1):
        merit[rank, feature] = merit[rank - 1, feature]
        partner[rank, feature] = partner[rank - 1, feature]
    if at < merit.shape[0]:
        merit[at, feature] = value
        partner[at, feature] = number


@compiled
def merge_partners(
    merit: NDArray[Any],
    partner: NDArray[np.int64],
    first: int,
    more_merit: NDArray[Any],
    more_partner: NDArray[np.int64],
) -> None:
    """Offer all partners of one table to another, whose features begin `first` before."""
    for feature in range(more_merit.shape[1]):
        for rank in range(more_merit.shape[0]):
            if more_partner[rank, feature] < 0:
                break
            offer_partner(
                merit,
                partner,
                first + feature,
                more_merit[rank, feature],
                more_partner[rank, feature],
            )


@compiled
def offer_pair(
    merit: NDArray[Any],
    pair: NDArray[np.int64],
    held: int,
    value: Any,
    a: int,
    b: int,
) -> int:
    """Put a pair into a heap whose root is the worst of it, if it is good enough.

    Parameters
    ----------
    merit : ndarray, shape (k,)
        Merits of the pairs held, in the order of a heap.
    pair : ndarray, shape (k, 2), int64
        Their two features.
    held : int
        How many there are.
    value, a, b : float, int, int
        The merit of what is offered, and its features.

    Returns
    -------
    int
        How many there are now.
    """
    room = merit.shape[0]
    if held < room:
        at = held
        while at > 0:
            above = (at - 1) // 2
            if not _better(merit[above], pair[above, 0], pair[above, 1], value, a, b):
                break
            merit[at] = merit[above]
            pair[at, 0], pair[at, 1] = pair[above, 0], pair[above, 1]
            at = above
        held += 1
    else:
        if room == 0 or not _better(value, a, b, merit[0], pair[0, 0], pair[0, 1]):
            return held
        at = 0
        while True:
            below = 2 * at + 1
            if below >= room:
                break
            other = below + 1
            if other < room and _better(
                merit[below],
                pair[below, 0],
                pair[below, 1],
                merit[other],
                pair[other, 0],
                pair[other, 1],
            ):
                below = other
            if not _better(value, a, b, merit[below], pair[below, 0], pair[below, 1]):
                break
            merit[at] = merit[below]
            pair[at, 0], pair[at, 1] = pair[below, 0], pair[below, 1]
            at = below
    merit[at] = value
    pair[at, 0] = a
    pair[at, 1] = b
    return held


@compiled
def _better(value: Any, a: int, b: int, than: Any, than_a: int, than_b: int) -> Any:
    """Whether one pair comes before another: by merit, then by its numbers."""
    if value != than:
        return value > than
    return a < than_a or (a == than_a and b < than_b)


@compiled
def merge_pairs(
    merit: NDArray[Any],
    pair: NDArray[np.int64],
    held: int,
    more_merit: NDArray[Any],
    more_pair: NDArray[np.int64],
    more_held: int,
) -> int:
    """Offer all pairs of one heap to another; returns how many that holds now."""
    for at in range(more_held):
        if more_pair[at, 0] >= 0:  # else it only held a place
            held = offer_pair(merit, pair, held, more_merit[at], more_pair[at, 0], more_pair[at, 1])
    return held
