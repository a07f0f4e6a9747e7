"""From sources into the store: what is there already stays, and no two ids meet."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath

from geomsae.dictionary import Dictionary, label_part
from geomsae.errors import GeomsaeError, SelectionError, TakenError
from geomsae.sources import Decoder, FileDecoder, Offer, Wanted, find
from geomsae.sources.listing import PYTORCH
from geomsae.sources.tensor import itemsize
from geomsae.store import Store
from geomsae.store.decoders import sha256
from geomsae.store.layout import CHUNK_BYTES

_IDENTITY = (
    "repo",
    "revision",
    "path",
    "tensor",
    "transposed",
    "file_size",
    "file_mtime_ns",
    "seed",
)
"""What makes two sources the same without reading them."""


PROCESS_BYTES = 200_000_000
"""What Python and its packages hold."""

FLIGHT_BYTES = 8 * CHUNK_BYTES
"""What a decoder holds while it is converted, at most: copies of one chunk."""

FLIGHTS = 4
"""Decoders of the Hub that are under way at a time, at most."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one offer."""

    id: str
    added: bool
    """False if the store had it already."""
    notes: tuple[str, ...]
    """What a user should be told."""


def convert(
    source: str | Iterable[Offer],
    store: Store,
    wanted: Wanted | None = None,
    progress: Callable[[float], object] = lambda _: None,
) -> Iterator[Outcome]:
    """Bring decoders into a store, one after another.

    Parameters
    ----------
    source : str or iterable of Offer
        What `geomsae.sources.find` takes, or what it gave.
    store : Store
        Where to.
    wanted : Wanted, optional
        Labels that select, or that supply what the source does not say.
    progress : callable
        Told the share of the decoder at work that was just written.

    Yields
    ------
    Outcome
        For each decoder, once it is in the store.

    Raises
    ------
    SourceError, SelectionError, DecoderError, StoreError
        With one sentence each. What was finished before stays.
    """
    offers = find(source, wanted) if isinstance(source, str) else source
    for offer in offers:
        there = _recorded(store, offer.labels, offer.identity) if offer.identity else None
        older = _older(store, offer) if there is None else None
        if older is not None and not offer.update:
            yield Outcome(older, False, (_newer_revision(store, older, offer),))
            continue
        if there is None:
            decoder = offer.open()
            if older is not None:
                decoder = _tagged(decoder, f"rev_{str(offer.identity['revision'])[:7]}")
            there = _recorded(store, decoder.labels, _identity(decoder))
        if there is None and decoder.labels.id in store.decoders:
            there, decoder = _tell_apart(store, decoder)
        if there is not None:
            yield Outcome(there, False, ())
            continue
        id = decoder.labels.id
        _check_neighbours(store, id, decoder.shape)
        try:
            store.add_decoder(decoder, progress)
        except TakenError:
            store.refresh()
            yield Outcome(id, False, ())
            continue
        tagged = id != offer.labels.id
        notes = (f"{offer.labels.id} is another decoder's: stored as {id}",) if tagged else ()
        yield Outcome(id, True, (*decoder.notes, *notes))


def at_once(offers: Iterable[Offer], memory: int | None = None) -> int:
    """How many decoders may be under way at a time: several where links are to be kept busy.

    Parameters
    ----------
    offers : iterable of Offer
        What is to be converted.
    memory : int, optional
        Bytes to keep within; a quarter of what is free by default.

    Raises
    ------
    GeomsaeError
        If there is not enough for one.
    """
    if memory is None:
        memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
        memory = max(memory, PROCESS_BYTES + FLIGHT_BYTES)
    fitting = (memory - PROCESS_BYTES) // FLIGHT_BYTES
    if fitting < 1:
        raise GeomsaeError(
            f"converting takes up to {(PROCESS_BYTES + FLIGHT_BYTES) / 1e6:,.0f} MB of memory, and "
            f"{memory / 1e6:,.0f} MB are allowed: give it more with --memory"
        )
    return min(fitting, FLIGHTS) if any(offer.identity for offer in offers) else 1


def foresee(offers: Iterable[Offer], store: Store) -> Iterator[dict[str, str | int | None]]:
    """What converting would do: for each offer its id, whether it is there, and the bytes.

    Only headers are read, and of files that have to be had whole not even those.

    Yields
    ------
    dict
        ``id``, ``path``, ``there`` (bool), ``bytes_read`` and ``bytes_written`` (at most: what is
        stored is compressed; None where only the whole file would tell).
    """
    for offer in offers:
        there = _recorded(store, offer.labels, offer.identity) if offer.identity else None
        if there is None and not offer.update:
            there = _older(store, offer)
        read = 0
        written: int | None = 0
        if there is None and PurePath(offer.name).suffix in PYTORCH and offer.identity:
            read, written = offer.nbytes, None
        elif there is None:
            decoder = offer.open()
            there = _recorded(store, decoder.labels, _identity(decoder))
            elements = math.prod(decoder.shape)
            if there is None:
                read, written = elements * itemsize(decoder.dtype), 4 * elements
        yield {
            "id": there or offer.labels.id,
            "path": offer.name,
            "there": there is not None,
            "bytes_read": read,
            "bytes_written": written,
        }


def _identity(decoder: Decoder) -> dict[str, str | int | None]:
    """What makes a decoder the same as one in a store, its values unread."""
    n_features, d_model = decoder.shape
    origin = {name: decoder.provenance.get(name) for name in _IDENTITY}
    return {"n_features": n_features, "d_model": d_model, **origin}


def _recorded(
    store: Store, labels: Dictionary, identity: Mapping[str, str | int | None]
) -> str | None:
    """The id under which the store has the same bytes of the same file with the same labels."""
    untagged = replace(labels, tag="")
    for id, attributes in store.decoders.items():
        if (
            (id == untagged.id or id.startswith(f"{untagged.id}/"))
            and replace(Dictionary.from_json(attributes), tag="").id == untagged.id
            and all(attributes.get(name) == value for name, value in identity.items())
        ):
            return id
    return None


def _older(store: Store, offer: Offer) -> str | None:
    """The id under which the store has another revision of a file of the Hub."""
    unpinned = {name: value for name, value in offer.identity.items() if name != "revision"}
    return _recorded(store, offer.labels, unpinned) if unpinned else None


def _newer_revision(store: Store, id: str, offer: Offer) -> str:
    there = str(store.attributes(id).get("revision", ""))
    return (
        f"{id} stays as revision {there[:7]} has it: --update takes that of revision "
        f"{str(offer.identity['revision'])[:7]} beside it"
    )


def _tagged(decoder: Decoder, tag: str) -> Decoder:
    """A decoder of a file with one more word in its tag."""
    if not isinstance(decoder, FileDecoder):
        return decoder
    joined = label_part("_".join(filter(None, (decoder.labels.tag, tag))))
    return replace(decoder, labels=replace(decoder.labels, tag=joined))


def _tell_apart(store: Store, decoder: Decoder) -> tuple[str | None, Decoder]:
    """What to do with a decoder whose id is taken.

    If the values are the same, the id under which they are stored; else the decoder with a tag
    that says what tells it from the other: its tensor, or its file.

    Raises
    ------
    SelectionError
        If nothing tells them apart.
    """
    digest = sha256(decoder)
    if store.decoders[decoder.labels.id]["sha256"] == digest:
        return decoder.labels.id, decoder
    file = str(decoder.provenance.get("path", ""))
    tensor = str(decoder.provenance.get("tensor", ""))
    taken = store.decoders[decoder.labels.id]
    for differs, name in (
        (taken.get("path") == file and taken.get("tensor") != tensor, tensor),
        (taken.get("path") != file, PurePath(file).stem),
    ):
        if isinstance(decoder, FileDecoder) and differs and name:
            tagged = _tagged(decoder, name)
            if tagged.labels.id not in store.decoders:
                return None, tagged
            if store.decoders[tagged.labels.id]["sha256"] == digest:
                return tagged.labels.id, tagged
    raise SelectionError(
        f"{decoder.labels.id} is in the store already, with other values than {file} has now: "
        "give --tag NAME to keep both"
    )


def _check_neighbours(store: Store, id: str, shape: tuple[int, int]) -> None:
    """Refuse an id above or below another's unless both have one shape.

    xarray aligns the groups of a tree with those that they lie in.
    """
    for other, attributes in store.decoders.items():
        there = (attributes["n_features"], attributes["d_model"])
        if there == shape:
            continue
        said = f"{other} has another shape, {there[0]} x {there[1]}"
        if other.startswith(f"{id}/"):
            raise SelectionError(f"{id} cannot lie above others: {said}; give it --tag NAME")
        if id.startswith(f"{other}/"):
            raise SelectionError(f"{id} cannot lie in there: {said}; give another --model")
