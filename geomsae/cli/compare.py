"""``geomsae compare`` and ``geomsae neighbours``: features beside their nearest relatives."""

from __future__ import annotations

import click

from geomsae.cli.options import (
    Thresholds,
    crew_options,
    json_option,
    precision_option,
    store_option,
)


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
@json_option
def compare(
    ids: tuple[str, ...],
    location: str,
    matched: tuple[float, ...],
    precision: str,
    device: str,  # noqa: ARG001 - there is one yet
    memory: int | None,
    as_json: bool,
) -> None:
    """Compare dictionaries with each other, two at a time.

    For every two of those named: the mean cosine of a feature with the nearest of all features of
    the other dictionary, in both directions, and the share of features that are matched.
    """
    from itertools import combinations

    import pandas as pd

    import geomsae
    from geomsae.cli.progress import meter
    from geomsae.cli.tables import print_table
    from geomsae.comparisons import compare_stored

    if len(ids) < 2:
        raise click.UsageError("compare takes two dictionaries or more")
    store = geomsae.open_store(location)
    sizes = {id: store.attributes(id)["n_features"] for id in ids}
    couples = list(combinations(ids, 2))
    rows = []
    with meter(sum(sizes[a] * sizes[b] for a, b in couples), "pairs") as progress:
        for one, other in couples:
            progress.at(f"{one} and {other}")
            found = compare_stored(
                store,
                one,
                other,
                precision=precision,
                thresholds=matched,
                memory=memory,
                progress=progress.advance,
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
    table = pd.DataFrame(rows).set_index("id")
    shares = [f"{prefix}share_matched_{t:g}" for t in matched for prefix in ("", "other_")]
    shown = ["other", "mean_max_cosine", "other_mean_max_cosine", *shares]
    print_table(table, as_json=as_json, columns=shown)


@click.command()
@click.argument("id", metavar="ID")
@store_option()
@click.option("--feature", "feature", type=int, help="The neighbours of this feature alone.")
@click.option("--most", default=20, show_default=True, help="Pairs to print.")
@click.option("--opposite", is_flag=True, help="The most opposite pairs, not the most similar.")
@json_option
def neighbours(
    id: str, location: str, feature: int | None, most: int, opposite: bool, as_json: bool
) -> None:
    """Print the most similar pairs of features, or the neighbours of one.

    They were found by the pass that counted the pairs; features are numbered as published, from 0.
    """
    import pandas as pd

    import geomsae
    from geomsae.cli.tables import print_table
    from geomsae.errors import SelectionError, StoreError

    store = geomsae.open_store(location)
    if feature is not None:
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
        table.index = pd.Index([id] * len(table))
        print_table(table, as_json=as_json)
        return
    found = store.pairs(id)
    end = "top_opposite" if opposite else "top_similar"
    if end not in found:
        raise StoreError(f"no pairs of {id} are kept: 'geomsae histogram --pairs 1000'")
    kept = found.isel(pair=slice(0, most))
    kept = kept.isel(pair=kept[end].isel(member=0).values >= 0)
    table = pd.DataFrame(
        {
            "feature": kept[end].isel(member=0).values,
            "neighbour": kept[end].isel(member=1).values,
            "cosine": kept[f"{end}_cosine"].values,
        },
        index=pd.Index([id] * kept.sizes["pair"]),
    )
    print_table(table, as_json=as_json)
