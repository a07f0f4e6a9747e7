"""From what a user names to the dictionaries that it offers."""

from __future__ import annotations

import itertools
import math
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from geomsae.dictionary import SIZES, Dictionary, label_part
from geomsae.errors import SelectionError, SourceError
from geomsae.sources.decoder import Decoder, FileDecoder, Offer, Wanted, open_file
from geomsae.sources.families import families
from geomsae.sources.family import Family
from geomsae.sources.listing import READERS, Listing, headers, local_listing
from geomsae.sources.random import RandomDecoder
from geomsae.sources.releases import find_release
from geomsae.sources.selection import parse_layers, refuse, select

LARGE = 50_000_000_000
"""Bytes of files beyond which a source is not taken whole unless that is asked for."""

_REPO_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def find(source: str, wanted: Wanted | None = None) -> list[Offer]:
    """What a source has of what is wanted.

    Parameters
    ----------
    source : str
        A file, a folder, a repository of the Hub (``owner/name``), a dictionary by SAELens' name
        (``release/sae_id``), or ``random:NxD``.
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
        refuse(source, wanted, "tensor", "transpose", "revision", "cache", "update")
        offers = [Offer(drawn.labels, source, 4 * math.prod(drawn.shape), {}, lambda: drawn)]
    elif not Path(source).exists() and (named := find_release(source)):
        repo, path = named
        refuse(source, wanted, "seed")
        found = _on_hub(repo, wanted)
        offers = [o for o in found if o.name == path or o.name.startswith(f"{path}/")]
        if not offers:
            raise SourceError(f"{repo} has no decoder at {path}")
        wanted = replace(wanted, l0=wanted.l0 or "all")
    elif not Path(source).exists() and _is_repo_id(source):
        refuse(source, wanted, "seed")
        offers = _on_hub(source, wanted)
    else:
        refuse(source, wanted, "seed", "revision", "cache", "update")
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


def _on_hub(repo: str, wanted: Wanted) -> list[Offer]:
    from geomsae.sources.hub import hub_listing  # a heavy import that local files do without

    offers = _offers(hub_listing(repo, wanted.revision, cache=wanted.cache), wanted)
    return [replace(offer, update=wanted.update) for offer in offers]


def _is_repo_id(name: str) -> bool:
    """Whether `name` is formed like a repository's, ``owner/name``, and not like a file's."""
    return bool(_REPO_ID.fullmatch(name)) and Path(name).suffix not in READERS


def _offers(listing: Listing, wanted: Wanted) -> list[Offer]:
    """Every dictionary in a listing: those of a known family, or else each file as it is."""
    found = _recognised(listing)
    if not found:
        paths = listing.decoders
        # Of several files the names are tags, which --tag then selects.
        plain = wanted if len(paths) == 1 else replace(wanted, tag="")
        return _apart([_offer(listing, path, {}, plain) for path in paths])
    refused = {path: family.refused for path, (family, _) in found.items() if family.refused}
    asked = [path for path in refused if wanted.site and _site(*found[path]) == wanted.site]
    if asked or len(refused) == len(found):
        path = (asked or list(refused))[0]
        reason = refused[path]
        raise SourceError(f"{listing.name}/{path} cannot be taken: {reason}")
    offers = [
        _family_offer(listing, path, family, groups, wanted)
        for path, (family, groups) in found.items()
        if path not in refused
    ]
    return _apart(offers)


def _site(family: Family, groups: dict[str, str]) -> str:
    return str(family.labels_of(groups).get("site", ""))


def _recognised(listing: Listing) -> dict[str, tuple[Family, dict[str, str]]]:
    """The decoders of known families, with what their names say."""
    known = families()
    named = [family for family in known if family.is_repository(listing.name)]
    for candidates in (named, [family for family in known if family.by_path]):
        found = {}
        for path in listing.decoders:
            for family in candidates:
                groups = family.groups(listing.name, path)
                if groups is not None:
                    found[path] = (family, groups)
                    break
        if found:
            return found
    return {}


def _family_offer(
    listing: Listing, path: str, family: Family, groups: dict[str, str], wanted: Wanted
) -> Offer:
    beside = posixpath.normpath(family.config_path(path, groups) or ".")
    stated: dict[str, int] = {}
    if beside in listing.sizes:
        said = family.read_config(listing.text(beside), f"{listing.name}/{beside}")
        for name in SIZES:
            if re.fullmatch(r"[1-9]\d{0,11}", size := said.pop(name, "")):  # 0: not told
                stated[name] = int(size)
        groups = {**said, **groups}
    return _offer(listing, path, family.labels_of(groups), wanted, family.decoder, stated)


def _apart(offers: list[Offer]) -> list[Offer]:
    """Let no two offers have one id: what tells their paths apart goes into the tag."""
    ids = Counter(offer.labels.id for offer in offers)
    taken = {id for id, times in ids.items() if times == 1}
    made = []
    for offer in offers:
        if ids[offer.labels.id] == 1:
            made.append(offer)
            continue
        words = (offer.labels.tag, label_part(offer.name.rpartition(".")[0]))
        tag = "_".join(filter(None, words))
        tries = itertools.chain([tag], (f"{tag}_{number}" for number in itertools.count(2)))
        tagged = (replace(offer.labels, tag=each) for each in tries)
        labels = next(each for each in tagged if each.id not in taken)
        taken.add(labels.id)
        made.append(replace(offer, labels=labels, open=partial(_retagged, offer.open, labels)))
    return made


def _retagged(opened: Callable[[], Decoder], labels: Dictionary) -> Decoder:
    decoder = opened()
    return replace(decoder, labels=labels) if isinstance(decoder, FileDecoder) else decoder


def _offer(
    listing: Listing,
    path: str,
    said: Mapping[str, Any],
    wanted: Wanted,
    layout: Mapping[str, str] | None = None,
    stated: Mapping[str, int] | None = None,
) -> Offer:
    labels = Dictionary(**{**_supplied(wanted), **said})
    origin = listing.origin(path)
    identity: dict[str, str | int] = {}
    if "revision" in origin:  # what lies at one revision never changes
        identity = {name: origin[name] for name in ("repo", "revision", "path")}
        if wanted.tensor:
            identity["tensor"] = wanted.tensor
        if wanted.transpose is not None:
            identity["transposed"] = int(wanted.transpose)

    def opened() -> FileDecoder:
        tensors = headers(listing.file(path))
        return open_file(labels, tensors, wanted, origin, layout or {}, stated or {})

    return Offer(labels, path, listing.sizes[path], identity, opened)


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
