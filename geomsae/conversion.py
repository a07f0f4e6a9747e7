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
from geomsae.store.locks import OnWait, in_silence

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
    on_wait: OnWait = in_silence,
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
    on_wait : callable
        Told who is converting the same decoder, if somebody is; to raise is to go away instead.

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
        there, decoder, notes = _decide(store, offer)
        while there is None and decoder is not None:
            if decoder.labels.id in store.decoders:
                there, decoder = _tell_apart(store, decoder)
                if there is not None:
                    break
                notes = (f"{offer.labels.id} is another decoder's: it goes to {decoder.labels.id}",)
            _check_neighbours(store, decoder.labels.id, decoder.shape)
            try:
                store.add_decoder(decoder, progress, on_wait)
            except TakenError:  # another run was first: with the same values, or with others
                store.refresh()
                if decoder.labels.id not in store.decoders:
                    raise  # what lies there is no finished decoder
                there = _recorded(store, decoder.labels, _identity(decoder))
                continue
            yield Outcome(decoder.labels.id, True, (*decoder.notes, *notes))
            break
        if there is not None:
            yield Outcome(there, False, notes)


def _decide(store: Store, offer: Offer) -> tuple[str | None, Decoder | None, tuple[str, ...]]:
    """Where the store has what is offered; else the decoder, opened; and what a user is told."""
    there = _recorded(store, offer.labels, offer.identity) if offer.identity else None
    if there is not None:
        return there, None, ()
    older = _older(store, offer)
    if older is not None and not offer.update:
        return older, None, (_newer_revision(store, older, offer),)
    decoder = offer.open()
    if older is not None:
        decoder = _tagged(decoder, f"rev_{str(offer.identity['revision'])[:7]}")
    return _recorded(store, decoder.labels, _identity(decoder)), decoder, ()


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


def foresee(
    offers: Iterable[Offer], store: Store, *, whole: bool = False
) -> Iterator[dict[str, str | int | None]]:
    """What converting would do: for each offer its id, whether it is there, and the bytes.

    Only headers are read, and of files that have to be had whole not even those.

    Parameters
    ----------
    offers : iterable of Offer
        What would be converted.
    store : Store
        Where to.
    whole : bool
        Whether files would be had whole.

    Yields
    ------
    dict
        ``id``, ``path``, ``there`` (bool), ``bytes_read`` and ``bytes_written`` (at most: what is
        stored is compressed; None where only the whole file would tell).
    """
    for offer in offers:
        id, there = offer.labels.id, None
        read, written = offer.nbytes, None
        if not (offer.identity and PurePath(offer.name).suffix in PYTORCH):
            there, decoder, _ = _decide(store, offer)
            if there is None and decoder is not None:
                id, written = decoder.labels.id, 4 * math.prod(decoder.shape)
                if not whole:
                    read = math.prod(decoder.shape) * itemsize(decoder.dtype)
        else:
            there = _recorded(store, offer.labels, offer.identity)
            if there is None and not offer.update:
                there = _older(store, offer)
        yield {
            "id": there or id,
            "path": offer.name,
            "there": there is not None,
            "bytes_read": 0 if there else read,
            "bytes_written": 0 if there else written,
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
    repo = str(decoder.provenance.get("repo", ""))
    tensor = str(decoder.provenance.get("tensor", ""))
    taken = store.decoders[decoder.labels.id]
    for differs, name in (
        (taken.get("path") == file and taken.get("tensor") != tensor, tensor),
        (taken.get("path") != file, PurePath(file).stem),
        (taken.get("repo", "") != repo, repo.partition("/")[0]),
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
