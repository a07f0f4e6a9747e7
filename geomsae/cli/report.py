"""``geomsae report``: the figures and the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from geomsae.cli.options import result_options, store_option

if TYPE_CHECKING:
    from pandas import DataFrame

    from geomsae.store import Store


@click.command()
@store_option()
@result_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder; else <store>-report.")
def report(location: str, threshold: float, bins: int, precision: str, out: Path | None) -> None:
    """Draw what the store holds: one HTML page, and each figure as PNG and SVG."""
    import geomsae

    draw_report(geomsae.open_store(location), threshold, bins, precision, out)


def draw_report(
    store: Store,
    threshold: float = 0.1,
    bins: int = 2000,
    precision: str = "float32",
    out: Path | None = None,
    table: DataFrame | None = None,
    quiet: bool = False,
) -> None:
    """Write the report of a store and say where it is; on stderr alone if `quiet`.

    Its `stored_tail_table`, if that is there already, need not be made again.
    """
    from geomsae.cli.progress import say
    from geomsae.pictures import write_report
    from geomsae.tables import stored_tail_table

    place = store.location.rstrip("/")
    beside = place if store.hierarchy.is_local else place.rpartition("/")[2]
    folder = out or Path(f"{beside}-report")
    if table is None:
        table = stored_tail_table(store, threshold, bins, precision)
    written = write_report(store.histograms(bins, precision), folder, threshold, table)
    say(f"{len(written.figures)} pictures in {folder}")
    click.echo(written.page, err=quiet)
