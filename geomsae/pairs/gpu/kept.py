"""What a tally says about features, while it lies on a card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.ask import Ask
from geomsae.pairs.gpu.launch import LEVELS_AT_ONCE
from geomsae.pairs.tally import Side


@dataclass(frozen=True, slots=True)
class DeviceSide:
    """The features on one side of the pairs.

    Parameters
    ----------
    side : Side
        The same on the host: where it begins, and where it is brought back to.
    levels : tuple of arrays, shape (thresholds, features), int32
        For some of the thresholds each, pairs of a feature that reach so many of them, less one.
    lists : tuple of four arrays
        Merits and partners of the nearest, shape (features, k), falling, and of the most opposite,
        shape (features, 1).
    """

    side: Side
    levels: tuple[Any, ...]
    lists: tuple[Any, ...]

    @classmethod
    def of(cls, side: Side) -> DeviceSide:
        """Bring what is known on the host to the card."""
        import cupy

        thresholds, n = side.degree.shape
        levels = tuple(
            cupy.zeros((min(LEVELS_AT_ONCE, thresholds - first), n), np.int32)
            for first in range(0, max(thresholds, 1), LEVELS_AT_ONCE)
        )
        lists = tuple(cupy.asarray(np.ascontiguousarray(part.T)) for part in _lists(side))
        return cls(side, levels, lists)

    def bring_back(self) -> None:
        """Write what is known on the card to the host."""
        for group, level in enumerate(self.levels):
            # Who reaches a threshold reaches those below it.
            reached = np.cumsum(level.get()[::-1], axis=0)[::-1]
            first = group * LEVELS_AT_ONCE
            self.side.degree[first : first + len(reached)] += reached.astype(np.int32)
        for part, known in zip(_lists(self.side), self.lists, strict=True):
            part[...] = known.get().T


def _lists(side: Side) -> tuple[NDArray[Any], ...]:
    return side.near, side.near_partner, side.far, side.far_partner


def starts_of(ask: Ask) -> tuple[Any, ...]:
    """The first bins of the tails, on the card, some thresholds at a time, be it none."""
    import cupy

    starts = ask.tail_starts()
    return tuple(
        cupy.asarray(starts[first : first + LEVELS_AT_ONCE])
        for first in range(0, max(len(starts), 1), LEVELS_AT_ONCE)
    )
