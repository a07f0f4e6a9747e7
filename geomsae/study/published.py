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

RANDOM_SETS = ("random:16384x2304", "random:16384x3584")
"""The study's random directions: as many rows, of the dimensions of each model."""


@dataclass(frozen=True, slots=True)
class Point:
    """One plotted point: the dictionary behind it and its share of pairs in the tails."""

    repo: str
    layer: int
    width: str
    l0: int
    tail_fraction: float
    uncertainty: float

    @property
    def labels(self) -> Dictionary:
        """The dictionary, as its repository and path name it."""
        family = next(family for family in PUBLISHED if family.name == "Gemma Scope")
        path = f"layer_{self.layer}/width_{self.width}/average_l0_{self.l0}/params.npz"
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


def published_offers() -> list[Offer]:
    """The study's own dictionaries on the Hub, in its order, then its random directions.

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
    for point in points:
        if point.labels.id not in offers:
            raise SourceError(f"{point.repo} no longer has the study's {point.labels.id}")
    drawn = [offer for name in RANDOM_SETS for offer in find(name)]
    return [offers[point.labels.id] for point in points] + drawn
