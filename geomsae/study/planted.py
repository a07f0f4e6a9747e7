"""Planted decoders: made on the spot, with clusters of known size, so that the truth is known.

A planted model has 26 layers. In each of them some features come in groups around a common
direction, and the rest point anywhere. The share of features in groups rises and falls with the
layer, is lower in the tuned variant, and higher where the L0 is low. The files are laid out as
Gemma Scope's are, and take the same way into a store as real ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from geomsae.analysis import isotropic_tail
from geomsae.dictionary import Dictionary

MODEL = "planted"
SITE = "res"
D_MODEL = 2304
RANDOM_SET = "random:16384x2304"

_GROUPS = 64
"""Groups that there would be if every feature were in one."""

_LOADINGS = (0.25, 0.9)
"""How much of its group's direction the loosest and the tightest member of a group have."""

_OPPOSITE = 5
"""Every so many members of a group point away from its direction."""


@dataclass(frozen=True, slots=True)
class Plant:
    """One planted decoder.

    Parameters
    ----------
    variant : str
        ``pt`` or ``it``.
    layer : int
        From 0 to 25.
    width : str
        Published label.
    n_features : int
        Rows.
    l0 : int
        Nominal mean number of active features.
    """

    variant: str
    layer: int
    width: str
    n_features: int
    l0: int

    @property
    def labels(self) -> Dictionary:
        """Filed under the model ``planted``."""
        return Dictionary(
            MODEL, self.variant, SITE, self.layer, self.width, float(self.l0), str(self.l0)
        )

    @property
    def path(self) -> str:
        """Where it lies in its repository."""
        return f"layer_{self.layer}/width_{self.width}/average_l0_{self.l0}/params.npz"

    @property
    def n_groups(self) -> int:
        """Groups of features around a common direction."""
        hump = math.exp(-(((self.layer - 8) / 7) ** 2))
        clustered = (0.06 + 0.6 * hump) * (82 / self.l0) ** 0.5
        if self.variant == "it":
            clustered *= 0.6
        return max(1, round(_GROUPS * min(float(clustered), 1.0)))

    @property
    def group_size(self) -> int:
        """Features in a group."""
        return self.n_features // _GROUPS

    @property
    def loadings(self) -> NDArray[np.float64]:
        """Expected cosine of each member of a group with its direction, shape (group_size,)."""
        loadings = np.linspace(*_LOADINGS, self.group_size)
        loadings[::_OPPOSITE] *= -1
        return loadings

    def directions(self) -> NDArray[np.float32]:
        """Draw the decoder: unit rows, shape (n_features, D_MODEL), float32, in mixed order."""
        seeds = (self.layer, self.n_features, self.l0, *self.variant.encode())
        rng = np.random.default_rng(seeds)
        rows = rng.standard_normal((self.n_features, D_MODEL), np.float32)
        loadings = self.loadings.astype(np.float32)[:, None]
        for group in range(self.n_groups):
            members = rows[group * self.group_size : (group + 1) * self.group_size]
            members *= np.sqrt(1 - loadings**2)
            members += loadings * rng.standard_normal(D_MODEL, np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows[rng.permutation(self.n_features)]

    def tail_fraction(self, threshold: float) -> float:
        """The expected share of pairs in the tails.

        Two rows of one group are ``D_MODEL`` draws from a bivariate normal distribution whose
        correlation is the product of their loadings, and their cosine is the sample correlation
        about a known mean. Its inverse hyperbolic tangent is nearly normal, of variance 1/(d - 2)
        (Fisher 1921). Rows that share no group are isotropic to each other.
        """
        deviation = 1 / math.sqrt(D_MODEL - 2)
        products = np.outer(self.loadings, self.loadings)[np.tril_indices(self.group_size, -1)]
        centre, edge = np.arctanh(products), math.atanh(threshold)
        inside = ndtr((centre - edge) / deviation) + ndtr((-edge - centre) / deviation)
        pairs = self.n_features * (self.n_features - 1) / 2
        apart = pairs - self.n_groups * products.size
        tail = self.n_groups * inside.sum() + apart * isotropic_tail(D_MODEL, threshold)
        return float(tail / pairs)


def plants() -> list[Plant]:
    """Every planted decoder.

    26 layers of 2,048 features; three of them at four L0 each, and tuned as well; and one at the
    size of a real Gemma Scope layer.
    """
    layers = [Plant("pt", layer, "2k", 2048, 82) for layer in range(26)]
    probed = (5, 12, 20)
    sparser = [Plant("pt", layer, "2k", 2048, l0) for layer in probed for l0 in (22, 41, 176)]
    tuned = [Plant("it", layer, "2k", 2048, 82) for layer in probed]
    return [*layers, *sparser, *tuned, Plant("pt", 12, "16k", 16384, 82)]


def write_plants(folder: Path, chosen: Iterable[Plant]) -> Iterator[tuple[Plant, Path]]:
    """Write each planted decoder to a file of its own, as Gemma Scope's are laid out.

    Each file may be removed before the next is asked for.

    Yields
    ------
    Plant, Path
        What was written, and the folder that stands for its repository.
    """
    for plant in chosen:
        repository = folder / f"planted-scope-{plant.variant}-{SITE}"
        file = repository / plant.path
        file.parent.mkdir(parents=True, exist_ok=True)
        weights = plant.directions()
        zeros = np.zeros(len(weights), np.float32)
        np.savez(
            file, W_dec=weights, b_dec=np.zeros(D_MODEL, np.float32), b_enc=zeros, threshold=zeros
        )
        yield plant, repository


def planted_tails(threshold: float) -> dict[str, tuple[float, float, str]]:
    """Planted share, no uncertainty of its own, and the word ``planted``, by id."""
    return {
        plant.labels.id: (plant.tail_fraction(threshold), math.nan, "planted") for plant in plants()
    }
