"""``geomsae verify``: whether everything in the store is as it was written, and adds up."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import click

from geomsae.cli.options import json_option, store_option

if TYPE_CHECKING:
    from geomsae.store import Store
    from geomsae.store.repair import Repair
    from geomsae.verification import Finding

Row: TypeAlias = "tuple[Finding, str]"
"""What was found, and what became of it."""

DAMAGED = "damaged"


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@store_option()
@click.option("--repair", is_flag=True, help="Set aside what is bad, into <store>-set-aside.")
@json_option
def verify(ids: tuple[str, ...], location: str, repair: bool, as_json: bool) -> None:
    """Check every chunk in the store, all metadata, and every result against its decoder.

    All dictionaries, or those named. Counts are held against a checksum, and against the number of
    pairs, the sum of cosines and the sum of squared cosines that the decoder implies; degrees
    against the counts, and pairs against their rows. Folders are walked, so that what has vanished
    from the catalogue is found.

    With --repair, what is bad is moved beside the store, and nothing is deleted: a result alone, a
    decoder with its results. Then convert and histogram make just that again. Let nothing else
    write to the store meanwhile.
    """
    from geomsae.store.repair import repair_at

    mending = repair_at(location) if repair else None
    store, rows = _open(location, mending, as_json)
    rows += [(finding, _become(finding, mending)) for finding in _look(store, ids)]
    _print(rows, as_json)
    _tell_of_unguarded(rows)
    if mending:
        _tell_what_is_next(rows, location, mending.folder)
    else:
        _refuse(rows, location)


def _open(location: str, mending: Repair | None, as_json: bool) -> tuple[Store, list[Row]]:
    """Open a store, its own metadata mended if need be; and what became of that."""
    import geomsae
    from geomsae.errors import StoreError
    from geomsae.store.repair import damaged_root
    from geomsae.verification import Finding

    try:
        return geomsae.open_store(location), []
    except StoreError:
        root = damaged_root(location)
        if root is None:
            raise
    finding = Finding(root.id, root.part, root.problem, root)
    if mending is None:
        _print([(finding, DAMAGED)], as_json)
        raise StoreError(
            f"the metadata of the store {location} is damaged ({root.problem}), and nothing else "
            f"can be read before '{_again(location)}' writes it anew"
        )
    became = mending.mend(root)
    return geomsae.open_store(location), [(finding, became)]


def _become(finding: Finding, mending: Repair | None) -> str:
    """What became of a part, mended if it has to be."""
    from geomsae.store.repair import SET_ASIDE

    if not finding.problem:
        return SET_ASIDE if mending and mending.has_set_aside(finding.place) else "whole"
    return mending.mend(finding.place) if mending else DAMAGED


def _look(store: Store, ids: tuple[str, ...]) -> list[Finding]:
    """Verify, with a bar in rows."""
    from geomsae.cli.progress import meter
    from geomsae.verification import look_around
    from geomsae.verification import verify as check

    places = look_around(store, ids or None)
    decoders = [place for place in places if place.part == "decoder" and not place.problem]
    found = []
    with meter(
        sum(place.attributes.get("n_features", 0) for place in decoders), "rows"
    ) as progress:
        for finding in check(store, progress=progress.advance, places=places):
            found.append(finding)
            progress.at(finding.id)
    return found


def _print(rows: list[Row], as_json: bool) -> None:
    import pandas as pd

    from geomsae.cli.tables import print_table

    table = pd.DataFrame(
        [(f.id, f.part, state, f.problem, not f.unguarded) for f, state in rows],
        columns=["id", "part", "state", "problem", "guarded"],
    )
    print_table(table.set_index("id"), as_json=as_json, columns=["part", "state", "problem"])


def _tell_of_unguarded(rows: list[Row]) -> None:
    from geomsae.cli.progress import say

    unguarded = sum(finding.unguarded for finding, _ in rows)
    if unguarded:
        say(
            f"{unguarded} of {len(rows)} parts are from before metadata was guarded: their values "
            "were held against checksums, their metadata against nothing"
        )


def _tell_what_is_next(rows: list[Row], location: str, folder: str) -> None:
    """Say what was set aside, and which verbs make it again."""
    from geomsae.cli.progress import say
    from geomsae.store.repair import SET_ASIDE

    bad = [finding for finding, _ in rows if finding.problem]
    if not bad:
        say(f"nothing to repair: all {len(rows)} parts of {location} are whole")
        return
    if any(state == SET_ASIDE for _, state in rows):
        say(f"what was damaged is in {folder}")
    lost = {f.id: f.place.attributes for f in bad if f.part == "decoder"}
    for id, known in lost.items():
        origin = known.get("repo") or known.get("path")
        say(
            f"bring {id} back with 'geomsae convert SOURCE --store {location}'"
            + (f": it was made of {origin}" if origin else "")
        )
    if lost or any(f.place.kind in ("histogram", "features") for f in bad):
        say(f"then 'geomsae histogram --store {location}' counts what is missing")


def _refuse(rows: list[Row], location: str) -> None:
    """Fail if anything is damaged."""
    from geomsae.errors import StoreError

    bad = [finding for finding, _ in rows if finding.problem]
    if bad:
        first = bad[0]
        raise StoreError(
            f"{len(bad)} of {len(rows)} parts of {location} are damaged, {first.part} of "
            f"{first.id} for one ({first.problem}): '{_again(location)}' sets them aside, to be "
            "made again"
        )


def _again(location: str) -> str:
    return f"geomsae verify --repair --store {location}"
