"""The figures, each a function from labelled results to what hvplot draws.

Every figure is built anew for each backend: Bokeh for the page, matplotlib for PNG and SVG.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import holoviews as hv
import hvplot.pandas  # noqa: F401 - gives data frames their hvplot
import numpy as np
import pandas as pd
import xarray as xr

from geomsae.analysis import isotropic_tail
from geomsae.dictionary import canonical_distance
from geomsae.labels import DIMENSION
from geomsae.sources.random import MODEL as RANDOM

WIDTH, HEIGHT = 860, 430
"""Pixels of a figure on the page: readable at laptop width."""

RED = "#c1272d"
GREY = "#b9c0c8"
COLOURS = ["#30638e", "#e08e0b", "#3a7d44", "#7b4b94", "#00798c", "#8d6a4f"]
MARKS: dict[str, dict[str, dict[str, Any]]] = {
    "bokeh": {
        "dot": {"size": 6},
        "diamond": {"size": 13, "marker": "diamond"},
        "dashed": {"line_dash": "dashed"},
    },
    "matplotlib": {
        "dot": {"s": 30},
        "diamond": {"s": 75, "marker": "D"},
        "dashed": {"linestyle": "--"},
    },
}
"""How each backend is told to draw what was measured, what was known, and a level."""

FACE = {"bokeh": "fill_color", "matplotlib": "facecolor"}
EDGE = {"bokeh": "line_alpha", "matplotlib": "linewidth"}
"""What each backend calls the inside and the rim of a band."""

_SERIES = ["variant", "width", "tag", "l0_name"]
"""Columns whose values make dictionaries one series, from layer to layer."""

_DRAWN_BIN = 0.01
_LAYERS_DRAWN = 6


@dataclass(frozen=True, slots=True)
class Figure:
    """One picture: a name for its files, what it shows, and how to draw it on a backend."""

    name: str
    title: str
    caption: str
    draw: Callable[[str], Any]


def figures(
    hist: xr.Dataset, table: pd.DataFrame, reference: pd.DataFrame, threshold: float
) -> Iterator[Figure]:
    """Every figure that these histograms can fill.

    Parameters
    ----------
    hist : Dataset, dims (dictionary, cosine)
        As `Store.histograms` gives it.
    table : DataFrame
        Its tail shares at this threshold, as `tail_table` gives them.
    reference : DataFrame
        Tail shares that are known beforehand, by id; may be empty.
    threshold : float
        Where the tails begin.
    """
    # Where the L0 is a word ("small") and no number, none of them is the closest to 100.
    table = table.assign(l0_name=table["l0_label"].where(table["l0"].isna(), ""))
    models = table[table["model"] != RANDOM]
    for labels, group in models.groupby(["model", "site"], sort=False):
        place = _words(*labels)
        if (group["layer"] >= 0).sum() > 1:
            yield _share_by_layer(place, group, table, reference, threshold)
        if group["variant"].nunique() > 1:
            yield from _variants(place, group, threshold)
        if any(len(layers) > 1 for _, layers in _probed(group)):
            yield _share_by_l0(place, group, threshold)
    for labels, group in models.groupby(["model", "variant", "site", "width"], sort=False):
        yield _tails(_words(*labels), group, table, hist, threshold)


def canonical_only(table: pd.DataFrame) -> pd.DataFrame:
    """Of the rows that differ in L0 alone, the one whose L0 is closest to 100."""
    alike = ["model", "site", "layer", *_SERIES]
    order = table["l0"].fillna(0.0).map(canonical_distance)  # those without a number are alone
    closest = table.loc[order.sort_values().index].drop_duplicates(alike)
    return table.loc[table.index.isin(closest.index)].sort_values("layer", kind="stable")


def _tails(
    place: str, group: pd.DataFrame, table: pd.DataFrame, hist: xr.Dataset, threshold: float
) -> Figure:
    """Counts of pairs in the tails: a few layers, and random directions beside them."""
    chosen = canonical_only(group)
    if len(chosen) > _LAYERS_DRAWN:
        fifth = chosen[chosen["layer"] % 5 == 0]
        chosen = (fifth if len(fifth) > 1 else chosen).iloc[:_LAYERS_DRAWN]
    curves = [
        (_curve_name(row, chosen), _binned(hist, str(id), threshold))
        for id, row in chosen.iterrows()
    ]
    pairs = int(chosen["n_pairs"].iloc[0])
    random = _random_set(table, int(chosen["d_model"].iloc[0]), int(chosen["n_features"].iloc[0]))
    if random is not None:
        scale = pairs / max(int(random["n_pairs"]), 1)
        name = "random" if scale == 1 else "random (scaled)"
        curves.append((name, _binned(hist, str(random.name), threshold) * scale))

    def draw(backend: str) -> Any:
        shades = hv.plotting.util.process_cmap("viridis_r", max(len(chosen), 2) + 1)[1:]
        colours = [*shades[: len(chosen)], RED]
        parts = []
        for colour, (name, counts) in zip(colours, curves, strict=False):
            curve = counts.rename("count").rename_axis("cosine").reset_index()
            parts.append(
                curve.hvplot.line(
                    x="cosine",
                    y="count",
                    label=name,
                    color=colour,
                    logy=True,
                    xlim=(-1, 1),
                    xlabel="cosine similarity of two features",
                    ylabel=f"pairs per {_DRAWN_BIN:g} of cosine (log)",
                )
            )
        return _sized(hv.Overlay(parts), backend, legend=len(curves) > 1)

    return Figure(
        f"tails_{place.replace(' ', '_')}",
        f"Tails of the cosine similarity, {place}",
        f"Pairs of features by cosine, of {pairs:,} pairs for each dictionary; the middle, "
        f"|cosine| below {threshold:g}, is left out. Empty bins are gaps.",
        draw,
    )


def _share_by_layer(
    place: str,
    group: pd.DataFrame,
    table: pd.DataFrame,
    reference: pd.DataFrame,
    threshold: float,
) -> Figure:
    """Tail share against layer, the random level in red, and what was known beforehand."""
    known = group[group["layer"] >= 0].sort_values("variant", key=_crowd, ascending=False)
    d_model = int(known["d_model"].iloc[0])
    level, level_name = _random_level(table, d_model, threshold)
    axes: dict[str, Any] = {
        "x": "layer",
        "y": "tail_fraction",
        "logy": True,
        "xlabel": "layer",
        "ylabel": f"share of pairs with |cosine| > {threshold:g} (log)",
    }

    def draw(backend: str) -> Any:
        parts = []
        beside = known.join(reference, how="inner")
        if len(beside):
            parts.append(
                beside.hvplot.scatter(
                    **{**axes, "y": "reference"},
                    label=str(beside["kind"].iloc[0]),
                    color=GREY,
                    hover_cols=["l0"],
                ).opts(**MARKS[backend]["diamond"])
            )
        series = known.groupby(_SERIES, sort=False)
        for colour, (labels, rows) in zip(_colours(), series, strict=False):
            name = _words(*labels)
            line = canonical_only(rows)
            parts += _band(line, backend, **axes, color=colour)
            parts += _dotted_line(
                line, backend, **axes, label=name, color=colour, hover_cols=["l0"]
            )
            others = rows.drop(index=line.index)
            if len(others):
                faint = {"label": f"{name}, other L0", "color": colour, "alpha": 0.35}
                parts.append(others.hvplot.scatter(**axes, **faint).opts(**MARKS[backend]["dot"]))
        ends = pd.DataFrame(
            {"layer": [known["layer"].min(), known["layer"].max()], "tail_fraction": level}
        )
        parts.append(
            ends.hvplot.line(**axes, label=level_name, color=RED).opts(**MARKS[backend]["dashed"])
        )
        return _sized(hv.Overlay(parts), backend, legend=True)

    return Figure(
        f"share_by_layer_{place.replace(' ', '_')}",
        f"Share of pairs in the tails by layer, {place}",
        f"Lines join the L0 closest to 100 at each layer; bands are 95 % intervals over the "
        f"features of each dictionary. Red: {level_name}, {level:.3g}.",
        draw,
    )


def _variants(place: str, group: pd.DataFrame, threshold: float) -> Iterator[Figure]:
    """Two or more variants beside each other, at the layers that they share."""
    for labels, rows in group.groupby(["width", "tag", "l0_name"], sort=False):
        shares = canonical_only(rows).pivot(
            index="layer", columns="variant", values="tail_fraction"
        )
        both = shares.dropna().sort_index()
        both = both[sorted(both, key=lambda v: -int((rows["variant"] == v).sum()))]
        if both.empty or both.shape[1] < 2:
            continue
        where = _words(place, *labels)

        def draw(backend: str, both: pd.DataFrame = both) -> Any:
            parts = []
            for colour, variant in zip(_colours(), both.columns, strict=False):
                axes: dict[str, Any] = {
                    "x": "layer",
                    "y": "tail_fraction",
                    "label": str(variant),
                    "color": colour,
                    "xlabel": "layer",
                    "ylabel": f"share of pairs with |cosine| > {threshold:g}",
                    "xlim": (both.index.min() - 1, both.index.max() + 1),
                    "ylim": (0, 1.1 * float(both.to_numpy().max())),
                }
                shares = both[variant].rename("tail_fraction").reset_index()
                parts += _dotted_line(shares, backend, **axes)
            return _sized(hv.Overlay(parts), backend, legend=True)

        yield Figure(
            f"variants_{where.replace(' ', '_')}",
            f"{' against '.join(map(str, both.columns))}, {where}",
            "At each layer that every variant has, the L0 closest to 100 of each: "
            "L0 itself moves the share, so look at it before a difference is believed.",
            draw,
        )


def _share_by_l0(place: str, group: pd.DataFrame, threshold: float) -> Figure:
    """Tail share against L0, where a layer has several."""
    probed = [(name, rows.sort_values("l0")) for name, rows in _probed(group) if len(rows) > 1]

    def draw(backend: str) -> Any:
        parts = []
        for colour, (name, rows) in zip(_colours(), probed, strict=False):
            axes: dict[str, Any] = {
                "x": "l0",
                "y": "tail_fraction",
                "logx": True,
                "logy": True,
                "xlim": (0.8 * group["l0"].min(), 1.25 * group["l0"].max()),
                "label": name,
                "color": colour,
                "xlabel": "L0: mean number of active features (log)",
                "ylabel": f"share of pairs with |cosine| > {threshold:g} (log)",
            }
            parts += _dotted_line(rows, backend, **axes)
        return _sized(hv.Overlay(parts), backend, legend=True)

    return Figure(
        f"share_by_l0_{place.replace(' ', '_')}",
        f"Share of pairs in the tails by sparsity, {place}",
        "Dictionaries of one layer and width that differ in L0 alone.",
        draw,
    )


def _probed(group: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Rows that differ in L0 alone, with the name of what they share."""
    known = group[group["l0"].notna()]
    alike = known.groupby(["variant", "layer", "width", "tag"], sort=False)
    return [
        (_words(variant, f"layer {layer}", width, tag), rows)
        for (variant, layer, width, tag), rows in alike
    ]


def _binned(hist: xr.Dataset, id: str, threshold: float) -> pd.Series[float]:
    """Counts of one dictionary in wider bins, without the middle, empty bins as gaps."""
    fine = hist["count"].sel({DIMENSION: id})
    centre = np.round(fine["cosine"].values / _DRAWN_BIN - 0.5) * _DRAWN_BIN + _DRAWN_BIN / 2
    counts = pd.Series(fine.values.astype(float), index=centre.round(6)).groupby(level=0).sum()
    return counts.where((counts > 0) & (np.abs(counts.index) > threshold))


def _random_set(table: pd.DataFrame, d_model: int, n_features: int) -> pd.Series[Any] | None:
    """The random directions of these dimensions, of the number of rows closest to the real one."""
    drawn = table[(table["model"] == RANDOM) & (table["d_model"] == d_model)]
    if drawn.empty:
        return None
    nearest = int((drawn["n_features"] - n_features).abs().to_numpy().argmin())
    return drawn.iloc[nearest]


def _random_level(table: pd.DataFrame, d_model: int, threshold: float) -> tuple[float, str]:
    """The share that random directions have: drawn ones, or by the exact law where none fell in."""
    drawn = table[(table["model"] == RANDOM) & (table["d_model"] == d_model)]
    if len(drawn) and drawn["n_tail"].sum():
        return float(drawn["n_tail"].sum() / drawn["n_pairs"].sum()), "random directions"
    return isotropic_tail(d_model, threshold), "isotropic directions (exact)"


def _dotted_line(rows: pd.DataFrame, backend: str, **axes: Any) -> list[Any]:
    """A line through points that are each to be seen."""
    dots = rows.hvplot.scatter(**axes).opts(**MARKS[backend]["dot"])
    return [rows.hvplot.line(**axes), dots]


def _band(rows: pd.DataFrame, backend: str, **axes: Any) -> list[Any]:
    """The 95 % interval around a line, where it is known all along it."""
    if "lower" not in rows or not (rows["lower"] > 0).all() or len(rows) < 2:
        return []
    ends = {**axes, "y": "lower", "y2": "upper"}
    band = rows.hvplot.area(**ends, alpha=0.25, stacked=False, hover=False)
    return [band.opts(**{FACE[backend]: axes["color"], EDGE[backend]: 0})]


def _curve_name(row: pd.Series[Any], among: pd.DataFrame) -> str:
    """The labels that tell one curve from the others of its figure."""
    layer = f"layer {row['layer']}" if row["layer"] >= 0 else ""
    differ = [row[name] for name in ("tag", "l0_name") if among[name].nunique() > 1]
    return _words(layer, *differ) or _words(row["variant"], row["tag"]) or str(row["model"])


def _crowd(column: pd.Series[Any]) -> pd.Series[int]:
    """How often each value comes: the base of a comparison usually comes most often."""
    return column.map(column.value_counts())


def _words(*labels: object) -> str:
    return " ".join(str(label) for label in labels if label not in ("", None))


def _colours() -> Iterator[str]:
    while True:
        yield from COLOURS


def _sized(plot: hv.Overlay, backend: str, legend: bool) -> Any:
    """The size and the legend, said in the words of each backend."""
    options: dict[str, Any] = {"show_grid": True, "show_legend": legend}
    if legend:
        options["legend_position"] = "right"
    if backend == "bokeh":
        options.update(width=WIDTH, height=HEIGHT)
    return plot.opts(**options, backend=backend)
