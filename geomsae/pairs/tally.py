"""The tally of some of the pairs: counts by bin, and what was asked about features and pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.ask import Ask
from geomsae.features import OTHER
from geomsae.pairs.best import merge_pairs, merge_partners

Merits = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Floors:
    """How good a partner or a pair has to be, at least, to be among the best in the end.

    They are what super-tiles that were counted before in this process have found, and spare later
    ones what would be thrown away. Nothing that comes out depends on them.

    Parameters
    ----------
    sides : tuple of two ndarrays, shape (2, features), of the precision
        For the features on each side, merits of the last nearest neighbour and of the most opposite
        feature; the same array twice where all pairs within a dictionary are meant.
    extremes : ndarray, shape (2,), of the precision
        Merits of the last of the most similar, and of the most opposite pairs.
    """

    sides: tuple[Merits, Merits]
    extremes: Merits

    @classmethod
    def none(cls, ask: Ask, n: int, m: int | None = None) -> Floors:
        """Anything may still be among the best."""
        rows = np.full((2, n if ask.neighbours else 0), -np.inf, ask.dtype)
        cols = rows if m is None else np.full((2, m if ask.neighbours else 0), -np.inf, rows.dtype)
        return cls((rows, cols), np.full(2, -np.inf, ask.dtype))

    def begin(self, tally: Tally) -> None:
        """Fill the lists of an empty tally with nobodies that are just not good enough."""
        for floor, side in zip(self.sides, (tally.rows, tally.cols), strict=True):
            if len(side.near):
                below = np.nextafter(floor, -np.inf)[
                    :, side.first : side.first + side.near.shape[1]
                ]
                side.near[:], side.far[:] = below
        tally.extremes.merit[:] = np.nextafter(self.extremes, -np.inf)[:, None]
        known = ~np.isinf(self.extremes)
        tally.extremes.held[known] = tally.extremes.merit.shape[1]

    def rise(self, tally: Tally) -> None:
        """Learn from a tally that was begun with these and is full now."""
        for floor, side in zip(self.sides, (tally.rows, tally.cols), strict=True):
            if len(side.near):
                mine = floor[:, side.first : side.first + side.near.shape[1]]
                np.maximum(mine, (side.near[-1], side.far[-1]), out=mine)
        if tally.extremes.merit.size:
            full = tally.extremes.held == tally.extremes.merit.shape[1]
            least = np.where(full, tally.extremes.merit[:, 0], -np.inf)
            np.maximum(self.extremes, least, out=self.extremes)


@dataclass(frozen=True, slots=True)
class Side:
    """What a tally says about the features on one side of its pairs.

    Parameters
    ----------
    first : int
        Number of the first feature.
    degree : ndarray, shape (thresholds, features), int32
        Pairs of each feature in the tails at each threshold.
    near, far : ndarray, shape (k, features) and (1 or 0, features), of the precision
        Cosines of the nearest neighbours, falling, and the negative of the cosine of the most
        opposite one; -inf where there is none.
    near_partner, far_partner : ndarray, shapes as theirs, int64
        Who they are; -1 where there is none.
    """

    first: int
    degree: NDArray[np.int32]
    near: Merits
    near_partner: NDArray[np.int64]
    far: Merits
    far_partner: NDArray[np.int64]

    @classmethod
    def empty(cls, ask: Ask, first: int, n: int) -> Side:
        """Nothing said yet about `n` features."""
        near, far = (ask.neighbours, n), (min(ask.neighbours, 1), n)
        return cls(
            first,
            np.zeros((len(ask.thresholds), n), np.int32),
            np.full(near, -np.inf, ask.dtype),
            np.full(near, -1, np.int64),
            np.full(far, -np.inf, ask.dtype),
            np.full(far, -1, np.int64),
        )

    def absorb(self, part: Side) -> None:
        """Take in what was found about some of these features among other pairs."""
        at = part.first - self.first
        self.degree[:, at : at + part.degree.shape[1]] += part.degree
        merge_partners(self.near, self.near_partner, at, part.near, part.near_partner)
        merge_partners(self.far, self.far_partner, at, part.far, part.far_partner)

    def found(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Degrees and partners by the names of `geomsae.features.variables`, features first."""
        said: dict[str, NDArray[Any]] = {f"{prefix}degree": self.degree.T.astype(np.int64)}
        if len(self.near):
            said[f"{prefix}nearest"] = self.near_partner.T
            said[f"{prefix}nearest_cosine"] = _cosine(self.near.T, 1)
            said[f"{prefix}opposite"] = self.far_partner[0]
            said[f"{prefix}opposite_cosine"] = _cosine(self.far[0], -1)
        return said


@dataclass(frozen=True, slots=True)
class Extremes:
    """The most similar pairs of a tally, and the most opposite ones: two heaps.

    Parameters
    ----------
    merit : ndarray, shape (2, pairs), of the precision
        Cosines of the most similar, and negatives of those of the most opposite.
    pair : ndarray, shape (2, pairs, 2), int64
        The number of the row and of the column of each.
    held : ndarray, shape (2,), int64
        How many there are of each kind.
    """

    merit: Merits
    pair: NDArray[np.int64]
    held: NDArray[np.int64]

    @classmethod
    def empty(cls, ask: Ask) -> Extremes:
        """No pairs yet."""
        return cls(
            np.full((2, ask.pairs), -np.inf, ask.dtype),
            np.full((2, ask.pairs, 2), -1, np.int64),
            np.zeros(2, np.int64),
        )

    def absorb(self, part: Extremes) -> None:
        """Take in the extremes of other pairs."""
        for end in range(2):
            self.held[end] = merge_pairs(
                self.merit[end],
                self.pair[end],
                self.held[end],
                part.merit[end],
                part.pair[end],
                part.held[end],
            )

    def found(self, within: bool) -> dict[str, NDArray[Any]]:
        """The pairs of each kind and their cosines, the most extreme first.

        Parameters
        ----------
        within : bool
            Whether both features are of one dictionary: then the lower number comes first.
        """
        said: dict[str, NDArray[Any]] = {}
        for end, (name, sign) in enumerate((("similar", 1), ("opposite", -1))):
            pair = self.pair[end][:, ::-1] if within else self.pair[end]
            order = np.lexsort((pair[:, 1], pair[:, 0], -self.merit[end]))
            said[f"top_{name}"] = pair[order]
            said[f"top_{name}_cosine"] = _cosine(self.merit[end][order], sign)
        return said


@dataclass(slots=True)
class Tally:
    """What was found among some of the pairs.

    Parameters
    ----------
    count : ndarray, shape (bins,), int64
        Pairs in each bin, rows of zero norm left out.
    rows, cols : Side
        The features on each side; one and the same where all pairs within a dictionary are meant.
    extremes : Extremes
        The most similar and the most opposite pairs.
    n_pairs : int
        The sum of the counts.
    covered : int
        Pairs dealt with, rows of zero norm among them: the measure of progress.
    """

    count: NDArray[np.int64]
    rows: Side
    cols: Side
    extremes: Extremes
    n_pairs: int = 0
    covered: int = 0

    @classmethod
    def empty(cls, ask: Ask, rows: range, cols: range | None = None) -> Tally:
        """Nothing found yet among features with these numbers; without `cols`, on both sides."""
        side = Side.empty(ask, rows.start, len(rows))
        other = side if cols is None else Side.empty(ask, cols.start, len(cols))
        return cls(np.zeros(ask.bins, np.int64), side, other, Extremes.empty(ask))

    def absorb(self, part: Tally) -> None:
        """Take in what was found among other pairs of these features."""
        self.count += part.count
        self.rows.absorb(part.rows)
        if part.cols is not part.rows:
            self.cols.absorb(part.cols)
        self.extremes.absorb(part.extremes)
        self.n_pairs += part.n_pairs
        self.covered += part.covered

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it as named arrays, not copied: what `restore` takes."""
        named: dict[str, NDArray[Any]] = {
            "count": self.count,
            "totals": np.array([self.n_pairs, self.covered]),
        }
        parts: dict[str, Side | Extremes] = {"rows": self.rows, "cols": self.cols}
        parts["extremes"] = self.extremes
        for where, part in parts.items():
            for field in fields(part):
                if field.name != "first" and not (where == "cols" and self.cols is self.rows):
                    named[f"{where}.{field.name}"] = getattr(part, field.name)
        return named

    def restore(self, named: Mapping[str, NDArray[Any]]) -> None:
        """Become what another tally of the same features was when its arrays were taken."""
        for name, array in self.arrays().items():
            if name != "totals":
                array[...] = named[name]
        self.n_pairs, self.covered = (int(total) for total in named["totals"])

    def found(self) -> dict[str, NDArray[Any]]:
        """What was found beside the counts, by the names of `geomsae.features.variables`."""
        within = self.rows is self.cols
        others = {} if within else self.cols.found(OTHER)
        return {**self.rows.found(""), **others, **self.extremes.found(within)}


def _cosine(merit: Merits, sign: int) -> Merits:
    """Cosines from merits; NaN where there is nothing."""
    missing = merit.dtype.type(np.nan)
    return np.ascontiguousarray(np.where(np.isinf(merit), missing, merit * merit.dtype.type(sign)))
