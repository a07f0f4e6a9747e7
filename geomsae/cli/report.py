"""``geomsae report``: the figures and the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from geomsae.cli.options import store_option, threshold_option

if TYPE_CHECKING:
    from geomsae.store import Store


@click.command()
@store_option()
@threshold_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder; else <store>-report.")
def report(location: str, threshold: float, out: Path | None) -> None:
    """Draw what the store holds: one HTML page, and each figure as PNG and SVG."""
    import geomsae

    draw_report(geomsae.open_store(location), threshold, out)


def draw_report(store: Store, threshold: float = 0.1, out: Path | None = None) -> None:
    """Write the report of a store and say where it is."""
    from geomsae.cli.progress import say
    from geomsae.pictures import write_report

    folder = out or Path(f"{store.location.rstrip('/')}-report")
    written = write_report(store.histograms(), folder, threshold)
    say(f"{len(written.figures)} pictures in {folder}")
    click.echo(written.page)
