"""``geomsae histogram`` and ``geomsae plan``: count pairs, and what counting them would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from geomsae.cli.options import ask_options, crew_options, json_option, store_option

if TYPE_CHECKING:
    from geomsae.ask import Ask
    from geomsae.store import Store


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@store_option()
@ask_options
@crew_options
def histogram(ids: tuple[str, ...], location: str, ask: Ask, by: dict[str, Any]) -> None:
    """Count the cosine similarity of every pair of features.

    All dictionaries in the store that have no such histogram yet, or those named. Each one is
    kept, whole, before the next is begun. The same pass finds the degree of each feature, its
    nearest neighbours, and the most similar and most opposite pairs.
    """
    import geomsae

    count_pairs(geomsae.open_store(location), list(ids) or None, ask, by)


def count_pairs(
    store: Store,
    ids: list[str] | None = None,
    ask: Ask | None = None,
    by: dict[str, Any] | None = None,
) -> None:
    """Count what is missing, with a bar in pairs."""
    from dataclasses import asdict

    import geomsae
    from geomsae.cli.progress import meter, say
    from geomsae.results import missing_histograms, usual_ask

    ask = ask or usual_ask()
    missing = missing_histograms(store, ids, ask)
    pairs = {id: n * (n - 1) // 2 for id in missing for n in [store.attributes(id)["n_features"]]}
    with meter(sum(pairs.values()), "pairs") as progress:
        made = geomsae.compute_histograms(
            store,
            missing,
            **asdict(ask),
            **(by or {}),
            begin=progress.at,
            progress=progress.advance,
            say=progress.say,
        )
        for id in made:
            progress.say(f"{id}: {pairs[id]:,} pairs counted")
    if not missing:
        say(f"nothing to do: every dictionary in {store.location} has this histogram")


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@store_option()
@ask_options
@crew_options
@json_option
def plan(
    ids: tuple[str, ...],
    location: str,
    ask: Ask,
    by: dict[str, Any],
    as_json: bool,
) -> None:
    """Print what histogram would read, compute and hold, and how long it would take.

    For each dictionary without such a histogram: pairs, tasks, threads, bytes read and bytes held
    at most, and seconds, from trying this machine for one.
    """
    import pandas as pd

    import geomsae
    from geomsae.cli.progress import say
    from geomsae.cli.tables import print_table
    from geomsae.results import foresee

    store = geomsae.open_store(location)
    rows = list(foresee(store, list(ids) or None, ask, **by))
    if not rows:
        say(f"nothing to do: every dictionary in {store.location} has this histogram")
    columns = ["pairs", "tasks", "device", "threads", "bytes_read", "bytes_held", "seconds"]
    others = ["id", "n_features", "d_model", "operations", "device_bytes"]
    table = pd.DataFrame(rows, columns=[*others, *columns])
    print_table(table.set_index("id"), as_json=as_json, columns=columns)
