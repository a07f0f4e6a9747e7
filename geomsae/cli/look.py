"""``geomsae ls`` and ``geomsae tails``: what is there, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from geomsae.cli.options import json_option, result_options, store_option, wanted_options

if TYPE_CHECKING:
    from geomsae.sources import Wanted


@click.command()
@click.argument("source", required=False)
@store_option()
@wanted_options
@json_option
def ls(source: str | None, location: str, wanted: Wanted, as_json: bool) -> None:
    """List what the store has, or what SOURCE offers."""
    import pandas as pd

    import geomsae
    from geomsae.cli.progress import say
    from geomsae.cli.tables import print_table
    from geomsae.sources import find
    from geomsae.sources.selection import refuse

    if source is None:
        store = geomsae.open_store(location)
        if not store.decoders:
            say(f"the store {location} is empty: bring decoders into it with 'geomsae convert'")
        table = store.catalog().loc[store.select(wanted)]
        print_table(
            table,
            as_json=as_json,
            columns=["n_features", "d_model", "l0", "source_dtype", "histograms"],
        )
        return
    # What is asked of a file when it is read means nothing to a list.
    refuse(f"ls {source}", wanted, "tensor", "transpose", "cache", "update")
    offers = find(source, wanted)
    rows = [
        {**offer.labels.coordinates(), "path": offer.name, "bytes": offer.nbytes}
        for offer in offers
    ]
    table = pd.DataFrame(rows, index=[offer.labels.id for offer in offers])
    print_table(table, as_json=as_json, columns=["path", "bytes"])


@click.command()
@store_option()
@result_options
@json_option
def tails(location: str, threshold: float, bins: int, precision: str, as_json: bool) -> None:
    """Print the share of pairs with |cosine| above a threshold.

    Beside it stand the ends of its 95 % interval, over the features of the dictionary, where
    degrees were counted at this threshold, and the share that directions uniform on the sphere
    would have.
    """
    import geomsae
    from geomsae.cli.progress import say
    from geomsae.cli.tables import print_table
    from geomsae.tables import stored_tail_table

    table = stored_tail_table(geomsae.open_store(location), threshold, bins, precision)
    if not len(table):
        say(f"the store {location} has no such histograms: count them with 'geomsae histogram'")
    print_table(
        table,
        as_json=as_json,
        columns=["n_features", "n_pairs", "n_tail", "tail_fraction", "lower", "upper", "isotropic"],
    )
