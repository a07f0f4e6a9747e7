"""Selecting among what a source offers: layers, widths, sites, and the canonical L0."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from geomsae.dictionary import EMBEDDING, canonical_distance
from geomsae.errors import SelectionError
from geomsae.sources.decoder import Offer

_SPAN = re.compile(r"(\d{1,4})(?:-(\d{1,4})(?::([1-9]\d{0,3}))?)?")


def parse_layers(text: str) -> set[int]:
    """Read ``12``, ``0,5,10``, ``0-25``, ``0-25:5``, ``embedding``, or several of them.

    Raises
    ------
    SelectionError
        If it is none of these.

    Examples
    --------
    >>> sorted(parse_layers("0-25:5,7"))
    [0, 5, 7, 10, 15, 20, 25]
    """
    layers: set[int] = set()
    for part in text.split(","):
        if part.strip() == "embedding":
            layers.add(EMBEDDING)
            continue
        match = _SPAN.fullmatch(part.strip())
        first, last, step = match.groups() if match else ("1", "0", None)
        span = range(int(first), int(last or first) + 1, int(step or 1))
        if not span:
            raise SelectionError(
                f"layers {text!r} cannot be read: write 12, or 0,5,10, or 0-25, or 0-25:5"
            )
        layers.update(span)
    return layers


def select_layers(offers: list[Offer], text: str) -> list[Offer]:
    """Keep the layers named in `text`; each of them must be there."""
    wanted = parse_layers(text)
    there = {offer.labels.layer for offer in offers}
    if missing := wanted - there:
        known = sorted(layer for layer in there if layer is not None and layer != EMBEDDING)
        span = f"{known[0]} to {known[-1]}" if known else "none"
        raise SelectionError(f"there is no layer {_listed(missing)}; the layers there: {span}")
    return [offer for offer in offers if offer.labels.layer in wanted]


def select_label(offers: list[Offer], name: str, text: str) -> list[Offer]:
    """Keep the offers whose label `name` is one of those in `text`; each must be there."""
    wanted = {part.strip() for part in text.split(",")}
    there = {str(getattr(offer.labels, name)) for offer in offers}
    if missing := wanted - there:
        raise SelectionError(
            f"there is no {name.replace('_label', '')} {_listed(missing)}; "
            f"there is {_listed(there) or 'none'}"
        )
    return [offer for offer in offers if str(getattr(offer.labels, name)) in wanted]


def select_l0(offers: list[Offer], text: str) -> list[Offer]:
    """Keep one L0 or several: ``canonical`` (also where nothing is said), ``all``, or labels."""
    if text == "all":
        return offers
    return (
        canonical(offers) if text in ("", "canonical") else select_label(offers, "l0_label", text)
    )


def canonical(offers: Iterable[Offer]) -> list[Offer]:
    """Of the dictionaries that differ in L0 alone, the one whose L0 is closest to 100.

    Of two as close, the lower. Where the L0 is not a number, everything is kept.
    """
    offers = list(offers)
    groups: dict[str, list[Offer]] = defaultdict(list)
    for offer in offers:
        groups[replace(offer.labels, l0_label="").id].append(offer)
    kept: set[str] = set()
    for group in groups.values():
        if any(math.isnan(offer.labels.l0) for offer in group):
            kept.update(offer.name for offer in group)
        else:
            kept.add(min(group, key=lambda offer: canonical_distance(offer.labels.l0)).name)
    return [offer for offer in offers if offer.name in kept]


def _listed(values: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, values), key=lambda text: (len(text), text)))
