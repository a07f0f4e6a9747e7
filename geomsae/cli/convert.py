"""``geomsae convert``: decoders into the store."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

import click

from geomsae.cli.options import json_option, memory_option, store_option, wanted_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geomsae.sources import Offer, Wanted
    from geomsae.store import Store


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@store_option()
@wanted_options
@memory_option("a quarter")
@click.option("--dry-run", is_flag=True, help="Print what would be read and written, and stop.")
@json_option
def convert(
    sources: tuple[str, ...],
    location: str,
    wanted: Wanted,
    memory: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring decoders into the store.

    SOURCE is a repository of the Hugging Face Hub (google/gemma-scope-2b-pt-res), a file
    (.safetensors, .npz, .npy, .pt), a folder of them, or random:16384x2304 for directions drawn at
    random; also SAELens' names (gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82). Labels
    select where the source states them, and supply what it does not: a bare file needs --model.
    What is in the store already stays as it is.
    """
    import geomsae
    from geomsae.sources import find

    if as_json and not dry_run:
        raise click.UsageError("--json prints the table of --dry-run: give both")
    store = geomsae.open_store(location, create=True)
    if not dry_run:
        bring([offer for source in sources for offer in find(source, wanted)], store, memory)
        return
    from dataclasses import replace

    import pandas as pd

    from geomsae.cli.tables import print_table
    from geomsae.conversion import foresee

    listed = replace(wanted, cache=False)  # which would fetch what is only to be foreseen
    offers = [offer for source in sources for offer in find(source, listed)]
    table = pd.DataFrame(foresee(offers, store, whole=wanted.cache)).set_index("id")
    print_table(table, as_json=as_json, columns=["path", "there", "bytes_read", "bytes_written"])


def bring(offers: list[Offer], store: Store, memory: int | None = None) -> list[str]:
    """Convert offers with a bar in bytes, and return the ids that they have in the store.

    Those on the Hub are under way several at a time, as far as `memory`, in bytes, allows.
    """
    import geomsae
    from geomsae.cli.progress import meter, say
    from geomsae.conversion import Outcome, at_once
    from geomsae.errors import BusyError
    from geomsae.sources.interrupt import pause, reading_threads
    from geomsae.store.locks import Holder, OnWait, leave

    ids = []
    added = 0
    offers = _each_once(offers)
    with (
        meter(sum(offer.nbytes for offer in offers), "B") as progress,
        reading_threads(at_once(offers, memory)) as pool,
    ):

        def one(offer: Offer, on_wait: OnWait = leave) -> Outcome | None:
            # A decoder may be half of its file, or twice: what counts is its share of the rows.
            told = 0.0

            def advance(share: float) -> None:
                nonlocal told
                pause()
                told += share * offer.nbytes
                progress.advance(share * offer.nbytes)

            progress.at(offer.labels.id)
            try:
                (outcome,) = geomsae.convert([offer], store, progress=advance, on_wait=on_wait)
            except BusyError:
                progress.advance(-told)
                return None
            progress.advance(offer.nbytes - told)
            return outcome

        def wait(other: Holder) -> None:
            progress.say(f"waiting for {other}")

        def outcomes() -> Iterator[Outcome]:
            """First of what nobody is at, then of what other runs were at."""
            busy = []
            for offer, outcome in zip(offers, pool.map(one, offers), strict=True):
                if outcome is None:
                    busy.append(offer)
                else:
                    yield outcome
            yield from filter(None, pool.map(one, busy, repeat(wait)))

        for outcome in outcomes():
            for note in outcome.notes:
                progress.say(note)
            progress.say(f"{outcome.id}: {'stored' if outcome.added else 'is there already'}")
            ids.append(outcome.id)
            added += outcome.added
    say(f"{added} of {len(offers)} dictionaries added to {store.location}")
    if store.location.startswith("memory:"):
        say("a store in memory ends with this process: give --store a path, or a URL that lasts")
    return ids


def _each_once(offers: list[Offer]) -> list[Offer]:
    """Offers without those of files of the Hub that were named before."""
    seen = set()
    kept = []
    for offer in offers:
        key = (offer.labels.id, *sorted(offer.identity.items()))
        if not offer.identity or key not in seen:
            kept.append(offer)
        seen.add(key)
    return kept
