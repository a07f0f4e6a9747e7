"""``geomsae compare`` and ``geomsae neighbours``: features beside their nearest relatives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geomsae.cli.options import (
    Thresholds,
    crew_options,
    json_option,
    precision_option,
    store_option,
)

if TYPE_CHECKING:
    import pandas as pd

    from geomsae.store import Store

_MEMBERS_SHOWN = 8
"""Features of a group that the text names."""


def _picture(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a picture that cannot be drawn before anything is counted."""
    if path is None:
        return None
    from geomsae.errors import SelectionError
    from geomsae.pictures.heatmap import check_picture

    try:
        return check_picture(path)
    except SelectionError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID ID...")
@store_option()
@click.option(
    "--matched",
    type=Thresholds(),
    default="0.7,0.9,0.95",
    show_default=True,
    metavar="COSINES",
    help="From which cosine a feature counts as matched.",
)
@precision_option("Arithmetic of the products.")
@crew_options
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_picture,
    metavar="FILE",
    help="Draw the mean cosines of all couples into a .png or .svg.",
)
@json_option
def compare(
    ids: tuple[str, ...],
    location: str,
    matched: tuple[float, ...],
    precision: str,
    by: dict[str, Any],
    picture: Path | None,
    as_json: bool,
) -> None:
    """Compare dictionaries with each other, two at a time.

    For every two of those named: the mean cosine of a feature with the nearest of all features of
    the other dictionary, in both directions, and the share of features that are matched.
    """
    from itertools import combinations

    import pandas as pd

    import geomsae
    from geomsae.analysis.comparison import comparison_matrix
    from geomsae.cli.progress import meter, say
    from geomsae.cli.tables import print_table
    from geomsae.comparisons import compare_stored

    if len(ids) < 2:
        raise click.UsageError("compare takes two dictionaries or more")
    store = geomsae.open_store(location)
    sizes = {id: store.attributes(id)["n_features"] for id in ids}
    couples = list(combinations(ids, 2))
    rows, means = [], []
    with meter(sum(sizes[a] * sizes[b] for a, b in couples), "pairs") as progress:
        for one, other in couples:
            progress.at(f"{one} and {other}")
            found = compare_stored(
                store,
                one,
                other,
                precision=precision,
                thresholds=matched,
                **by,
                progress=progress.advance,
                say=progress.say,
            )
            row = {"id": one, "other": other, "n_pairs": int(found["n_pairs"])}
            for prefix in ("", "other_"):
                mean = f"{prefix}mean_max_cosine"
                row[mean] = float(found[mean])
                for t in matched:
                    for name in ("share_matched", "n_unmatched", "mean_partners"):
                        value = found[f"{prefix}{name}"].sel(threshold=t).item()
                        row[f"{prefix}{name}_{t:g}"] = value
            rows.append(row)
            means.append(found[["mean_max_cosine", "other_mean_max_cosine"]])
    table = pd.DataFrame(rows).set_index("id")
    shares = [f"{prefix}share_matched_{t:g}" for t in matched for prefix in ("", "other_")]
    shown = ["other", "mean_max_cosine", "other_mean_max_cosine", *shares]
    print_table(table, as_json=as_json, columns=shown)
    if picture is not None:
        from geomsae.pictures.heatmap import draw_matrix

        say(f"the picture is {draw_matrix(comparison_matrix(means), picture)}")


@click.command()
@click.argument("id", metavar="ID")
@store_option()
@click.option("--feature", "feature", type=int, help="The neighbours of this feature alone.")
@click.option(
    "--most",
    type=click.IntRange(0),
    help="Pairs or groups to print; else 20, and all groups with --json.",
)
@click.option("--opposite", is_flag=True, help="The most opposite pairs, not the most similar.")
@click.option(
    "--groups",
    "joined_from",
    type=float,
    metavar="COSINE",
    help="The groups of features that pairs with at least this cosine join.",
)
@json_option
def neighbours(
    id: str,
    location: str,
    feature: int | None,
    most: int | None,
    opposite: bool,
    joined_from: float | None,
    as_json: bool,
) -> None:
    """Print the most similar pairs of features, the neighbours of one, or groups of them.

    They were found by the pass that counted the pairs; features are numbered as published, from 0.
    Beside each stands its address on Neuronpedia, where that is known to show the dictionary.
    """
    import geomsae

    store = geomsae.open_store(location)
    if joined_from is not None:
        if feature is not None or opposite:
            raise click.UsageError("--groups goes with neither --feature nor --opposite")
        _print_groups(store, id, joined_from, most, as_json)
    elif feature is not None:
        _print_pairs(store, id, _nearest_to(store, id, feature), as_json)
    else:
        _print_pairs(store, id, _most_extreme(store, id, opposite, most), as_json)


def _nearest_to(store: Store, id: str, feature: int) -> pd.DataFrame:
    """The neighbours of one feature, and the most opposite."""
    import pandas as pd

    from geomsae.errors import SelectionError, StoreError

    found = store.features(id)
    if not 0 <= feature < found.sizes["feature"]:
        raise SelectionError(
            f"{id} has no feature {feature}: they are 0 to {found.sizes['feature'] - 1}"
        )
    if "nearest" not in found:
        raise StoreError(f"no neighbours of {id} are kept: 'geomsae histogram --neighbours 1'")
    one = found.isel(feature=feature)
    rows = [
        {
            "rank": int(rank),
            "neighbour": int(one["nearest"].sel(rank=rank)),
            "cosine": float(one["nearest_cosine"].sel(rank=rank)),
        }
        for rank in one["rank"].values
    ]
    last = {"neighbour": int(one["opposite"]), "cosine": float(one["opposite_cosine"])}
    table = pd.DataFrame([*rows, {"rank": "opposite", **last}])
    table.insert(0, "feature", feature)
    return table


def _most_extreme(store: Store, id: str, opposite: bool, most: int | None) -> pd.DataFrame:
    """The most similar or the most opposite pairs."""
    import pandas as pd

    from geomsae.errors import StoreError

    found = store.pairs(id)
    end = "top_opposite" if opposite else "top_similar"
    if end not in found:
        raise StoreError(f"no pairs of {id} are kept: 'geomsae histogram --pairs 1000'")
    kept = found.isel(pair=slice(0, 20 if most is None else most))
    kept = kept.isel(pair=kept[end].isel(member=0).values >= 0)
    return pd.DataFrame(
        {
            "feature": kept[end].isel(member=0).values,
            "neighbour": kept[end].isel(member=1).values,
            "cosine": kept[f"{end}_cosine"].values,
        }
    )


def _print_pairs(store: Store, id: str, table: pd.DataFrame, as_json: bool) -> None:
    """Print pairs of features with their addresses, which the text leaves out if there are none."""
    import pandas as pd

    from geomsae.cli.tables import print_table

    addresses = {"address": "feature", "neighbour_address": "neighbour"}
    shown = list(table.columns)
    for column, of in addresses.items():
        table[column] = _addresses(store, id, table[of].tolist())
        if table[column].any():
            shown.append(column)
    table.index = pd.Index([id] * len(table))
    print_table(table, as_json=as_json, columns=shown)


def _print_groups(
    store: Store, id: str, joined_from: float, most: int | None, as_json: bool
) -> None:
    """Print the groups of features that similar pairs join, the largest first."""
    import numpy as np
    import pandas as pd

    from geomsae.analysis.groups import groups
    from geomsae.cli.progress import say
    from geomsae.cli.tables import print_table
    from geomsae.errors import StoreError

    pairs = store.pairs(id)
    if "top_similar" not in pairs:
        raise StoreError(f"no pairs of {id} are kept: 'geomsae histogram --pairs 1000'")
    found = groups(pairs, joined_from, store.attributes(id)["n_features"])
    ends = np.cumsum(found["size"].values)
    members = [part.tolist() for part in np.split(found["feature"].values, ends)[:-1]]
    columns = ["group", "size", "n_pairs", "largest_cosine"]
    table = pd.DataFrame({name: found[name].values for name in columns})
    if as_json:
        table["members"] = members
        table["addresses"] = [_addresses(store, id, several) for several in members]
    else:
        table["members"] = [_first_few(several) for several in members]
    kept = most if most is not None or as_json else 20
    table.index = pd.Index([id] * len(table))
    print_table(table.iloc[:kept], as_json=as_json)
    shown = len(table.iloc[:kept])
    say(
        f"{len(table):,} groups join {found.sizes['member']:,} features, "
        f"{found['share_grouped'].item():.3%} of {id}; {shown:,} are shown"
    )


def _first_few(members: list[int]) -> str:
    """Numbers of features, and how many more there are."""
    first = ", ".join(map(str, members[:_MEMBERS_SHOWN]))
    more = len(members) - _MEMBERS_SHOWN
    return f"{first} and {more:,} more" if more > 0 else first


def _addresses(store: Store, id: str, features: list[int]) -> list[str]:
    """Where Neuronpedia shows these features; empty where it is not known to."""
    from geomsae.sources.neuronpedia import neuronpedia_address

    known = store.attributes(id)
    repo, path = known.get("repo", ""), known.get("path", "")
    return [neuronpedia_address(repo, path, feature) for feature in features]
