"""``geomsae verify``: whether everything in the store is as it was written, and adds up."""

from __future__ import annotations

import click

from geomsae.cli.options import json_option, store_option


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@store_option()
@json_option
def verify(ids: tuple[str, ...], location: str, as_json: bool) -> None:
    """Check every chunk in the store, and every result against its decoder.

    All dictionaries, or those named. Counts are held against a checksum, and against the number of
    pairs, the sum of cosines and the sum of squared cosines that the decoder implies; degrees
    against the counts, and pairs against their rows.
    """
    import pandas as pd

    import geomsae
    from geomsae.cli.progress import meter
    from geomsae.cli.tables import print_table
    from geomsae.errors import StoreError
    from geomsae.verification import verify as check

    store = geomsae.open_store(location)
    chosen = list(ids) or list(store.decoders)
    rows = sum(store.attributes(id)["n_features"] for id in chosen)
    found = []
    with meter(rows, "rows") as progress:
        for finding in check(store, chosen, progress.advance):
            found.append(finding)
            progress.at(finding.id)
    table = pd.DataFrame(found, columns=["id", "part", "problem"]).set_index("id")
    table.insert(1, "state", ["damaged" if problem else "whole" for problem in table["problem"]])
    print_table(table, as_json=as_json)
    bad = [finding for finding in found if finding.problem]
    if bad:
        first = bad[0]
        raise StoreError(
            f"{len(bad)} of {len(found)} parts of {location} are damaged, {first.part} of "
            f"{first.id} for one ({first.problem}): move them away, then make them again"
        )
