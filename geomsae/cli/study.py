"""``geomsae study``, ``reproduce`` and ``demo``: the whole way, from decoders to the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from geomsae.cli.histogram import count_pairs
from geomsae.cli.options import (
    crew_options,
    json_option,
    precision_option,
    store_option,
    wanted_options,
)
from geomsae.cli.report import draw_report

if TYPE_CHECKING:
    from geomsae.sources import Wanted


@click.command()
@store_option("store-demo")
def demo(location: str) -> None:
    """Go the whole way on planted decoders: no network, no GPU, no weights.

    Decoders with clusters of known size are made on the spot, laid out as Gemma Scope's files are,
    converted, counted and drawn. The report shows measured beside planted.
    """
    import tempfile
    from pathlib import Path

    import geomsae
    from geomsae.cli.progress import meter, say
    from geomsae.sources import Wanted, find
    from geomsae.study.planted import MODEL, RANDOM_SET, SITE, plants, write_plants

    store = geomsae.open_store(location, create=True)
    there = set(store.decoders)
    missing = [plant for plant in plants() if plant.labels.id not in there]
    say(f"planting {len(missing)} decoders and converting them into {location}")
    with meter(len(missing) + 1, "decoders") as progress, tempfile.TemporaryDirectory() as folder:
        for plant, repository in write_plants(Path(folder), missing):
            progress.at(plant.labels.id)
            wanted = Wanted(model=MODEL, variant=plant.variant, site=SITE, l0="all")
            list(geomsae.convert(find(str(repository), wanted), store))
            (repository / plant.path).unlink()
            progress.advance(1)
        progress.at(RANDOM_SET)
        list(geomsae.convert(RANDOM_SET, store))
    count_pairs(store)
    draw_report(store)


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@store_option()
@wanted_options
@precision_option("Arithmetic of the products.")
@crew_options
def study(
    sources: tuple[str, ...],
    location: str,
    wanted: Wanted,
    precision: str,
    by: dict[str, Any],
) -> None:
    """Go the whole way with a selection of your own: convert, histogram, report.

    SOURCE and labels are those of convert. Two repositories of one model, pretrained and tuned, are
    drawn beside each other: study google/gemma-scope-2-270m-pt google/gemma-scope-2-270m-it
    --site res --tag all --width 16k --l0 small.
    """
    import geomsae
    from geomsae.cli.convert import bring
    from geomsae.results import usual_ask
    from geomsae.sources import find

    store = geomsae.open_store(location, create=True)
    offers = [offer for source in sources for offer in find(source, wanted)]
    ids = bring(offers, store, by["memory"])
    count_pairs(store, ids, usual_ask(precision=precision), by)
    draw_report(store, precision=precision)


@click.command()
@store_option()
@click.option(
    "--l0-matched",
    is_flag=True,
    help="Fetch every L0 of each layer (29 GB in all), to compare layers at one.",
)
@click.option("--l0", "common", type=float, help="That one L0; else 100.")
@precision_option("Arithmetic of the products; float64 is the reference to check with.")
@crew_options
@json_option
def reproduce(
    location: str,
    l0_matched: bool,
    common: float | None,
    precision: str,
    by: dict[str, Any],
    as_json: bool,
) -> None:
    """Repeat the published study of Gemma Scope, from the Hub to the report.

    Its 32 dictionaries of Gemma 2 2B and 9B, and the canonical ones where it took others, are
    fetched at their newest revision (5 GB of decoders), converted and counted, with random
    directions of the same size. Each published share is printed beside that of the published
    dictionary, that of the canonical one and, if asked for, that at one L0 for all; then, which of
    the study's conclusions hold in each of these columns.
    """
    import geomsae
    from geomsae.cli.convert import bring
    from geomsae.cli.progress import say
    from geomsae.cli.tables import print_table
    from geomsae.results import usual_ask
    from geomsae.study.conclusions import COLUMNS, conclusions, four_columns
    from geomsae.study.published import THRESHOLD, published_offers
    from geomsae.tables import stored_tail_table

    if common is not None and not l0_matched:
        raise click.UsageError("--l0 is where layers are compared: give it with --l0-matched")
    store = geomsae.open_store(location, create=True)
    ids = bring(published_offers(every_l0=l0_matched), store, by["memory"])
    count_pairs(store, ids, usual_ask(precision=precision), by)
    table = stored_tail_table(store, THRESHOLD, precision=precision)
    columns = four_columns(table, (100.0 if common is None else common) if l0_matched else None)
    print_table(columns, as_json=as_json, columns=["l0", "canonical_l0", *COLUMNS, "isotropic"])
    for found in conclusions(columns):
        holds = {True: "holds", False: "does not hold", None: "cannot be said"}[found.holds]
        say(f"{found.column}: {holds} - {found.claim} ({found.because})")
    draw_report(store, THRESHOLD, precision=precision, table=table, quiet=as_json)
