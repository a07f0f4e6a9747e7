"""``geomsae demo`` and ``geomsae reproduce``: a whole study, from decoders to the report."""

from __future__ import annotations

import click

from geomsae.cli.histogram import count_pairs
from geomsae.cli.options import crew_options, precision_option, store_option
from geomsae.cli.report import draw_report


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
@store_option()
@precision_option("Arithmetic of the products; float64 is the reference to check with.")
@crew_options
def reproduce(location: str, precision: str, device: str, memory: int | None) -> None:
    """Repeat the published study of Gemma Scope, from the Hub to the report.

    Its 32 dictionaries of Gemma 2 2B and 9B (5 GB of decoders) are fetched at their newest
    revision, converted and counted, with random directions of the same size. The report shows
    measured beside published.
    """
    import geomsae
    from geomsae.cli.convert import bring
    from geomsae.results import usual_ask
    from geomsae.study.published import published_offers

    store = geomsae.open_store(location, create=True)
    ids = bring(published_offers(), store, memory)
    count_pairs(store, ids, usual_ask(precision=precision), device, memory)
    draw_report(store, precision=precision)
