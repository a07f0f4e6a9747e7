"""The bin rule: which bin a cosine falls into, and where the edges of the bins lie.

There is one rule, for every device and precision. ``bins`` equal bins cover [-1, 1]. Edge ``k``
is the double nearest to ``2 k / bins - 1``, so that with 2,000 bins every threshold with three
decimals is an edge. Bins are half-open, ``[left, right)``, but for the last one, which is closed;
a cosine that rounding has pushed outside [-1, 1] is counted in the bin at that end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomsae.errors import GeomsaeError, ThresholdError

DEFAULT_BINS = 2000
MAX_BINS = 1_000_000


def check_bins(bins: int) -> int:
    """Return `bins` if it is a number of bins that can be counted into.

    Raises
    ------
    GeomsaeError
        If it is not between 2 and 1,000,000.
    """
    if not 2 <= bins <= MAX_BINS:
        raise GeomsaeError(f"{bins} bins cannot be counted: use 2 to {MAX_BINS:,}")
    return int(bins)


def edges(bins: int = DEFAULT_BINS) -> NDArray[np.float64]:
    """The edges of equal bins on [-1, 1].

    Returns
    -------
    ndarray, shape (bins + 1,), float64
        Edge ``k`` is the double nearest to the rational ``(2 k - bins) / bins``: numerator and
        denominator are exact, and IEEE division rounds correctly.

    Examples
    --------
    >>> edges(4)
    array([-1. , -0.5,  0. ,  0.5,  1. ])
    >>> float(edges()[1100])
    0.1
    """
    k = np.arange(check_bins(bins) + 1, dtype=np.float64)
    return (2 * k - bins) / bins


def centres(bins: int = DEFAULT_BINS) -> NDArray[np.float64]:
    """The middle of each bin, shape (bins,), float64."""
    k = np.arange(check_bins(bins), dtype=np.float64)
    return (2 * k + 1 - bins) / bins


def tail_start(bins: int, threshold: float) -> int:
    """The first bin of the upper tail at `threshold`; the lower tail mirrors it.

    Parameters
    ----------
    bins : int
        Equal bins on [-1, 1].
    threshold : float
        An edge in [0, 1).

    Returns
    -------
    int
        The tail is made of the bins from this one up, and of those below ``bins`` minus it.

    Raises
    ------
    ThresholdError
        If no edge lies at `threshold`; the sentence names the nearest ones.

    Examples
    --------
    >>> tail_start(4, 0.5)
    3
    """
    if not 0 <= threshold < 1:
        raise ThresholdError(f"threshold {threshold:g} is not one: use 0 up to, but not, 1")
    start = int(np.abs(edges(bins) - threshold).argmin())
    if abs(edges(bins)[start] - threshold) > 1e-12:
        usable = edges(bins)[bins // 2 + bins % 2 : -1]
        near = [*usable[usable < threshold][-1:], *usable[usable > threshold][:1]]
        raise ThresholdError(
            f"threshold {threshold:g} lies inside a bin; the nearest edges: "
            + ", ".join(f"{edge:.6g}" for edge in near)
        )
    return start


def tail_bins(bins: int, threshold: float) -> NDArray[np.bool_]:
    """Mark the bins in the tails at `threshold`; see `tail_start`.

    Returns
    -------
    ndarray, shape (bins,), bool
        True for bins ``[left, right)`` with ``left >= threshold`` or ``right <= -threshold``.

    Examples
    --------
    >>> tail_bins(4, 0.5)
    array([ True, False, False,  True])
    """
    start = tail_start(bins, threshold)
    number = np.arange(bins)
    return (number >= start) | (number < bins - start)
