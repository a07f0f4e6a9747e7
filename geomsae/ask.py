"""What is asked of one pass over the pairs: the histogram, and what else the same pass can tell."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geomsae.bins import DEFAULT_BINS, check_bins, edges, tail_start
from geomsae.errors import GeomsaeError

PRECISIONS = ("float32", "float64", "fp16x3", "tf32")
"""Arithmetic of the products.

``float32``, and ``float64`` as the reference to check it with. On a GPU also ``fp16x3``, as close
as float32 by three products of float16 halves on the tensor cores, and ``tf32``, whose factors are
rounded to 10 bits: a quick look that does not keep to the accuracy of the others."""

_COSINE_ERRORS = {"tf32": 1e-3}

USUAL_THRESHOLDS = (0.1, 0.2, 0.3, 0.5)
"""Where degrees are counted unless told otherwise."""

MOST_NEIGHBOURS = 1000
MOST_PAIRS = 1_000_000


def cosine_error(precision: str) -> float:
    """How far a cosine may be off in a precision, at most: the rule that counts keep to."""
    return _COSINE_ERRORS.get(precision, 2e-6)


@dataclass(frozen=True, slots=True)
class Ask:
    """What one pass over the pairs is asked for.

    Parameters
    ----------
    bins : int
        Equal bins on [-1, 1] of the histogram.
    precision : {"float32", "float64", "fp16x3", "tf32"}
        Arithmetic of the products.
    thresholds : tuple of float
        For each feature, its degree at each of these is counted: its pairs whose cosine is at
        least the threshold, or below minus it. Each lies on an edge of the bins, in (0, 1).
    neighbours : int
        For each feature, so many nearest neighbours are kept, and the most opposite one; 0 for
        neither.
    pairs : int
        So many of the most similar and of the most opposite pairs are kept.

    Raises
    ------
    GeomsaeError
        If something cannot be asked; the sentence says what can.
    """

    bins: int = DEFAULT_BINS
    precision: str = "float32"
    thresholds: tuple[float, ...] = ()
    neighbours: int = 0
    pairs: int = 0

    def __post_init__(self) -> None:
        check_bins(self.bins)
        if self.precision not in PRECISIONS:
            raise GeomsaeError(
                f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}"
            )
        if not 0 <= self.neighbours <= MOST_NEIGHBOURS:
            raise GeomsaeError(
                f"{self.neighbours:,} neighbours of a feature cannot be kept: "
                f"ask for 0 to {MOST_NEIGHBOURS:,}"
            )
        if not 0 <= self.pairs <= MOST_PAIRS:
            raise GeomsaeError(f"{self.pairs:,} pairs cannot be kept: ask for 0 to {MOST_PAIRS:,}")
        if list(self.thresholds) != sorted(set(self.thresholds)) or 0.0 in self.thresholds:
            raise GeomsaeError(
                "degrees are counted at thresholds above 0, each once, in rising order"
            )
        self.tail_starts()

    @property
    def dtype(self) -> str:
        """The type of the cosines: ``float32`` or ``float64``."""
        return "float64" if self.precision == "float64" else "float32"

    @property
    def keeps(self) -> bool:
        """Whether anything is asked beside the histogram."""
        return bool(self.thresholds or self.neighbours or self.pairs)

    def joined(self, other: Ask) -> Ask:
        """Both asks in one, of the same bins and precision."""
        return replace(
            self,
            thresholds=tuple(sorted({*self.thresholds, *other.thresholds})),
            neighbours=max(self.neighbours, other.neighbours),
            pairs=max(self.pairs, other.pairs),
        )

    def tail_starts(self) -> NDArray[np.int32]:
        """The first bin of the upper tail at each threshold, int32.

        Degrees compare numbers of bins, so that they agree with the histogram to the last pair.
        """
        return np.array([tail_start(self.bins, t) for t in self.thresholds], np.int32)


def usual_thresholds(bins: int) -> tuple[float, ...]:
    """Those of `USUAL_THRESHOLDS` that lie on an edge of so many bins.

    Examples
    --------
    >>> usual_thresholds(2000), usual_thresholds(8)
    ((0.1, 0.2, 0.3, 0.5), (0.5,))
    """
    on_edge = np.abs(edges(bins)[:, None] - USUAL_THRESHOLDS).min(axis=0) < 1e-12
    return tuple(t for t, there in zip(USUAL_THRESHOLDS, on_edge, strict=True) if there)
