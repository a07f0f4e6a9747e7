"""Selecting dictionaries by their labels: layers, widths, sites, and the canonical L0."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol, TypeVar

from geomsae.dictionary import EMBEDDING, Dictionary, canonical_distance
from geomsae.errors import SelectionError
from geomsae.sources.decoder import Wanted

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


class Labelled(Protocol):
    """Anything that is one dictionary: an offer of a source, or an entry of a store."""

    @property
    def labels(self) -> Dictionary:
        """Which dictionary it is."""


_Item = TypeVar("_Item", bound=Labelled)


def select(items: list[_Item], wanted: Wanted) -> list[_Item]:
    """Narrow dictionaries to those whose labels are wanted.

    Raises
    ------
    SelectionError
        If a label is wanted that none of them has, or no one has all of them.
    """
    chosen = items
    for name in ("model", "variant", "site", "width", "tag"):
        if text := getattr(wanted, name):
            chosen = select_label(chosen, name, text)
    if wanted.layer:
        chosen = select_layers(chosen, wanted.layer)
    chosen = select_l0(chosen, wanted.l0)
    if items and not chosen:
        raise SelectionError("there is no dictionary with all of these labels")
    return chosen


def refuse(source: str, wanted: Wanted, *words: str) -> None:
    """Refuse what a source of its kind cannot be asked for, rather than ignore it.

    Raises
    ------
    SelectionError
        If one of the `words`, fields of `Wanted`, is set.
    """
    for word in words:
        if getattr(wanted, word) != getattr(Wanted(), word):
            raise SelectionError(f"{source} takes no --{word}: leave it out")


def select_layers(items: list[_Item], text: str) -> list[_Item]:
    """Keep the layers named in `text`; each of them must be there."""
    wanted = parse_layers(text)
    there = {item.labels.layer for item in items}
    if missing := wanted - there:
        known = sorted(layer for layer in there if layer is not None and layer != EMBEDDING)
        span = f"{known[0]} to {known[-1]}" if len(known) > 1 else _listed(known) or "none"
        raise SelectionError(f"there is no layer {_listed(missing)}; the layers there: {span}")
    return [item for item in items if item.labels.layer in wanted]


def select_label(items: list[_Item], name: str, text: str) -> list[_Item]:
    """Keep the dictionaries whose label `name` is one of those in `text`; each must be there."""
    wanted = {part.strip() for part in text.split(",")}
    there = {str(getattr(item.labels, name)) for item in items}
    if missing := wanted - there:
        raise SelectionError(
            f"there is no {name.replace('_label', '')} {_listed(missing)}; "
            f"there is {_listed(there) or 'none'}"
        )
    return [item for item in items if str(getattr(item.labels, name)) in wanted]


def select_l0(items: list[_Item], text: str) -> list[_Item]:
    """Keep one L0 or several: ``canonical`` (also where nothing is said), ``all``, or labels."""
    if text == "all":
        return items
    return canonical(items) if text in ("", "canonical") else select_label(items, "l0_label", text)


def canonical(items: Iterable[_Item]) -> list[_Item]:
    """Of the dictionaries that differ in L0 alone, the one whose L0 is closest to 100.

    Of two as close, the lower. Where the L0 is not a number, everything is kept.
    """
    items = list(items)
    groups: dict[str, list[_Item]] = defaultdict(list)
    for item in items:
        groups[replace(item.labels, l0_label="").id].append(item)
    kept: set[str] = set()
    for group in groups.values():
        if any(math.isnan(item.labels.l0) for item in group):
            kept.update(item.labels.id for item in group)
        else:
            kept.add(min(group, key=lambda item: canonical_distance(item.labels.l0)).labels.id)
    return [item for item in items if item.labels.id in kept]


def _listed(values: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, values), key=lambda text: (len(text), text)))
