"""From what a user names to the dictionaries that it offers."""

from __future__ import annotations

import itertools
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

from geomsae.dictionary import Dictionary, label_part
from geomsae.errors import SelectionError, SourceError
from geomsae.sources.decoder import FileDecoder, Offer, Wanted, open_file
from geomsae.sources.families import FAMILIES, Family
from geomsae.sources.listing import READERS, Listing, headers, local_listing
from geomsae.sources.random import RandomDecoder
from geomsae.sources.selection import parse_layers, refuse, select

LARGE = 50_000_000_000
"""Bytes of files beyond which a source is not taken whole unless that is asked for."""

_REPO_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def find(source: str, wanted: Wanted | None = None) -> list[Offer]:
    """What a source has of what is wanted.

    Parameters
    ----------
    source : str
        A file, a folder, a repository of the Hub (``owner/name``), or ``random:NxD``.
    wanted : Wanted, optional
        Labels that select, or that supply what the source does not say.

    Returns
    -------
    list of Offer
        At least one, each with labels of its own.

    Raises
    ------
    SourceError
        If there is no such source, or it cannot be read.
    SelectionError
        If nothing in it answers to `wanted`, or it does not say what must be known.

    Examples
    --------
    >>> [offer.labels.id for offer in find("random:128x16", Wanted(seed=3))]
    ['random/gaussian/128x16_seed_3']
    """
    wanted = wanted or Wanted()
    if not source:
        raise SourceError("a source needs a name: a file, a folder, or owner/name on the Hub")
    if drawn := RandomDecoder.parse(source, wanted.seed or 0):
        refuse(source, wanted, "tensor", "transpose", "revision")
        offers = [Offer(drawn.labels, source, 4 * math.prod(drawn.shape), lambda: drawn)]
    elif not Path(source).exists() and _is_repo_id(source):
        from geomsae.sources.hub import hub_listing  # a heavy import that local files do without

        refuse(source, wanted, "seed")
        offers = _offers(hub_listing(source, wanted.revision), wanted)
    else:
        refuse(source, wanted, "seed", "revision")
        offers = _offers(local_listing(Path(source)), wanted)
    chosen = select(offers, wanted)
    total = sum(offer.nbytes for offer in chosen)
    asked = (wanted.layer, wanted.width, wanted.l0, wanted.site, wanted.variant)
    if total > LARGE and not any(asked):
        raise SelectionError(
            f"{source} has {total / 1e9:,.0f} GB in {len(chosen)} files: "
            "select with --layer, --width or --l0, or say --l0 all"
        )
    return chosen


def _is_repo_id(name: str) -> bool:
    """Whether `name` is formed like a repository's, ``owner/name``, and not like a file's."""
    return bool(_REPO_ID.fullmatch(name)) and Path(name).suffix not in READERS


def _offers(listing: Listing, wanted: Wanted) -> list[Offer]:
    """Every dictionary in a listing: those of a known family, or else each file as it is."""
    for family in FAMILIES:
        said = {path: family.path_labels(path) for path in listing.sizes}
        if any(said.values()):
            repository = family.repository_labels(listing.name)
            return [
                _offer(listing, path, {**repository, **labels}, wanted, family)
                for path, labels in said.items()
                if labels is not None
            ]
    if len(listing.sizes) == 1:
        return [_offer(listing, path, {}, wanted, None) for path in listing.sizes]
    tags = _tags(list(listing.sizes))
    return [_offer(listing, path, {"tag": tag}, wanted, None) for path, tag in tags.items()]


def _tags(paths: list[str]) -> dict[str, str]:
    """A tag for each file of a folder: its name, and what it takes to tell it from the others."""
    tags: dict[str, str] = {}
    for path in paths:
        name = label_part(path.rpartition(".")[0])
        longer = (f"{name}_{number}" for number in itertools.count(2))
        tags[path] = next(
            tag for tag in itertools.chain([name], longer) if tag not in tags.values()
        )
    return tags


def _offer(
    listing: Listing,
    path: str,
    said: dict[str, Any],
    wanted: Wanted,
    family: Family | None,
) -> Offer:
    labels = Dictionary(**{**_supplied(wanted), **said})
    key = wanted.tensor or (family.tensor if family else "")
    return Offer(
        labels, path, listing.sizes[path], partial(_open, listing, path, labels, key, wanted)
    )


def _open(listing: Listing, path: str, labels: Dictionary, key: str, wanted: Wanted) -> FileDecoder:
    tensors = headers(listing.fetch(path))
    return open_file(labels, tensors, key, wanted.transpose, listing.origin(path))


def _supplied(wanted: Wanted) -> dict[str, Any]:
    """The labels that a user gives for a source that does not say them itself."""
    labels: dict[str, Any] = {
        name: getattr(wanted, name)
        for name in ("model", "variant", "site", "width", "tag")
        if getattr(wanted, name)
    }
    if "model" not in labels:
        labels["model"] = ""
    if wanted.layer:
        layers = parse_layers(wanted.layer)
        labels["layer"] = min(layers) if len(layers) == 1 else None
    if wanted.l0 not in ("", "all", "canonical") and "," not in wanted.l0:
        labels["l0_label"] = wanted.l0
        labels["l0"] = float(wanted.l0) if wanted.l0.replace(".", "", 1).isdecimal() else math.nan
    return labels
