"""Random directions as a dictionary: rows of standard normal entries, from a seed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geomsae.dictionary import Dictionary
from geomsae.errors import SourceError

MODEL = "random"
"""The model that random directions are filed under."""

_STREAM = 1024
"""Rows that share one stream of random numbers: part of the version, for it decides the rows."""

_NAME = re.compile(r"random:(\d+)x(\d+)")


@dataclass(frozen=True)
class RandomDecoder:
    """Directions drawn at random: the dictionary that knows nothing of any model.

    Rows have independent standard normal entries, so that their directions are uniform on the
    sphere. Row ``i`` depends on the seed, `d_model` and ``i`` alone: not on how many rows there
    are, nor on how they are read.

    Parameters
    ----------
    n_features, d_model : int
        Shape.
    seed : int
        Seed of the generator (PCG64, one stream for every 1,024 rows).

    Examples
    --------
    >>> RandomDecoder(3, 5, seed=7).labels.id
    'random/gaussian/3x5_seed_7'
    """

    n_features: int
    d_model: int
    seed: int = 0
    notes: tuple[str, ...] = field(default=(), init=False)
    remote: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.n_features < 1 or self.d_model < 1 or self.seed < 0:
            raise SourceError(
                "random directions need at least one row, one column, and a seed >= 0"
            )

    @classmethod
    def parse(cls, name: str, seed: int) -> RandomDecoder | None:
        """Read ``random:NxD``; None if `name` is not of that form."""
        match = _NAME.fullmatch(name)
        return cls(int(match[1]), int(match[2]), seed) if match else None

    @property
    def labels(self) -> Dictionary:
        """Filed under the model ``random``, its shape and seed as tag."""
        tag = f"{self.n_features}x{self.d_model}_seed_{self.seed}"
        return Dictionary(MODEL, "gaussian", tag=tag)

    @property
    def shape(self) -> tuple[int, int]:
        """(features, dimensions)."""
        return self.n_features, self.d_model

    @property
    def dtype(self) -> str:
        """What the values are drawn as."""
        return "float32"

    @property
    def provenance(self) -> Mapping[str, str | int]:
        """How to draw the same rows again."""
        return {"generator": "numpy PCG64 standard_normal", "seed": self.seed}

    def blocks(
        self,
        rows: int,
        first: int = 0,
        keep: Path | None = None,  # noqa: ARG002 - nothing is brought from anywhere
    ) -> Iterator[NDArray[np.float32]]:
        """Stream the rows from `first` on, `rows` at a time, float32."""
        for start in range(first, self.n_features, rows):
            yield self.read(start, min(start + rows, self.n_features))

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`, shape (stop - start, d_model), float32."""
        out = np.empty((stop - start, self.d_model), np.float32)
        for stream in range(start // _STREAM, -(-stop // _STREAM)):
            begin, end = stream * _STREAM, (stream + 1) * _STREAM
            seeds = np.random.SeedSequence(self.seed, spawn_key=(self.d_model, stream))
            drawn = np.random.Generator(np.random.PCG64(seeds)).standard_normal(
                (min(end, stop) - begin, self.d_model), np.float32
            )
            wanted = drawn[max(start - begin, 0) :]
            first = max(begin, start) - start
            out[first : first + len(wanted)] = wanted
        return out
