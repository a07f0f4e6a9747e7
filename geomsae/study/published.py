"""The published study of Gemma Scope: its dictionaries, and the tail shares read off its plots.

T. Walker, "Feature Geometry" (December 2024): cosine similarities of decoder rows of Gemma 2 2B at
every layer, and of Gemma 2 9B, pretrained against instruction-tuned, at layers 9, 20 and 31. The
shares were read from the pixels of the plots, with the uncertainty that this leaves.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

from geomsae.dictionary import Dictionary
from geomsae.errors import SourceError
from geomsae.sources import Offer, Wanted, find
from geomsae.sources.families import PUBLISHED

THRESHOLD = 0.1
"""The |cosine| beyond which the study counts a pair to the tail."""

D_MODEL = {"gemma-2-2b": 2304, "gemma-2-9b": 3584}
"""Dimensions of the models."""

RANDOM_SETS = ("random:16384x2304", "random:16384x3584")
"""The study's random directions: as many rows, of the dimensions of each model."""


@dataclass(frozen=True, slots=True)
class Point:
    """One plotted point: the dictionary behind it and its share of pairs in the tails."""

    repo: str
    layer: int
    width: str
    l0: int
    canonical_l0: int
    tail_fraction: float
    uncertainty: float

    @property
    def labels(self) -> Dictionary:
        """The dictionary, as its repository and path name it."""
        return self._labels(self.l0)

    @property
    def canonical(self) -> Dictionary:
        """The one of the same layer and width whose L0 is closest to 100."""
        return self._labels(self.canonical_l0)

    @property
    def d_model(self) -> int:
        """Dimensions of the model."""
        return D_MODEL[self.labels.model]

    def _labels(self, l0: int) -> Dictionary:
        family = next(family for family in PUBLISHED if family.name == "Gemma Scope")
        path = f"layer_{self.layer}/width_{self.width}/average_l0_{l0}/params.npz"
        return Dictionary(**family.labels_of(family.groups(self.repo, path) or {}))


def published_points() -> list[Point]:
    """Every point of the study's plots of tail shares, 32 of them."""
    text = files("geomsae.study").joinpath("feature_geometry.csv").read_text()
    return [
        Point(
            row["repo"],
            int(row["layer"]),
            row["width"],
            int(row["l0"]),
            int(row["canonical_l0"]),
            float(row["tail_fraction"]),
            float(row["uncertainty"]),
        )
        for row in csv.DictReader(text.splitlines())
    ]


def published_tails(threshold: float) -> dict[str, tuple[float, float, str]]:
    """Published share, its uncertainty, and the word ``published``, by id."""
    if abs(threshold - THRESHOLD) > 1e-12:
        return {}
    return {
        point.labels.id: (point.tail_fraction, point.uncertainty, "published")
        for point in published_points()
    }


def published_offers(*, every_l0: bool = False) -> list[Offer]:
    """The study's dictionaries on the Hub, the canonical ones of the same layers, and random sets.

    Parameters
    ----------
    every_l0 : bool
        Take all L0 of every layer, so that layers can be compared at one.

    Raises
    ------
    SourceError
        If the Hub cannot be reached, or lacks one of them.
    """
    points = published_points()
    offers = {
        offer.labels.id: offer
        for repo in dict.fromkeys(point.repo for point in points)
        for offer in find(repo, Wanted(width="16k", l0="all"))
    }
    ids = [point.labels.id for point in points] + [point.canonical.id for point in points]
    for id, point in zip(ids, points * 2, strict=True):
        if id not in offers:
            raise SourceError(f"{point.repo} no longer has the study's {id}")
    if every_l0:
        layers = {_layer(point.labels) for point in points}
        ids += [id for id, offer in offers.items() if _layer(offer.labels) in layers]
    drawn = [offer for name in RANDOM_SETS for offer in find(name)]
    return [offers[id] for id in dict.fromkeys(ids)] + drawn


def _layer(labels: Dictionary) -> tuple[str, str, int | None]:
    return labels.model, labels.variant, labels.layer
