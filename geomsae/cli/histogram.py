"""``geomsae histogram``: count the pairs of every dictionary that has no histogram yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from geomsae.cli.options import count_options, store_option

if TYPE_CHECKING:
    from geomsae.store import Store


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@store_option()
@click.option("--bins", default=2000, show_default=True, help="Equal bins on [-1, 1].")
@count_options
def histogram(ids: tuple[str, ...], location: str, bins: int, precision: str, device: str) -> None:
    """Count the cosine similarity of every pair of features.

    All dictionaries in the store that have no such histogram yet, or those named. Each one is
    kept, whole, before the next is begun.
    """
    import geomsae

    count_pairs(geomsae.open_store(location), list(ids) or None, bins, precision, device)


def count_pairs(
    store: Store,
    ids: list[str] | None = None,
    bins: int = 2000,
    precision: str = "float32",
    device: str = "auto",
) -> None:
    """Count what is missing, with a bar in pairs."""
    import geomsae
    from geomsae.cli.progress import meter, say
    from geomsae.results import missing_histograms

    missing = missing_histograms(store, ids, bins=bins, precision=precision)
    pairs = {id: n * (n - 1) // 2 for id in missing for n in [store.attributes(id)["n_features"]]}
    with meter(sum(pairs.values()), "pairs") as progress:
        made = geomsae.compute_histograms(
            store,
            missing,
            bins=bins,
            precision=precision,
            device=device,
            progress=progress.advance,
        )
        for id in missing:
            progress.at(id)
            next(made)
            progress.say(f"{id}: {pairs[id]:,} pairs counted")
    if not missing:
        say(f"nothing to do: every dictionary in {store.location} has this histogram")
