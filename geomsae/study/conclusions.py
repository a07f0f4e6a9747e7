"""The study's points in four columns, and which of its conclusions hold in each of them.

What was published; what is measured on the published dictionary; on the canonical one; and at one
L0 for all. Nothing here knows an answer beforehand: every conclusion is a question put to numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geomsae.analysis.null import isotropic_tail
from geomsae.analysis.sparsity import at_common_l0
from geomsae.study.published import THRESHOLD, published_points

COLUMNS = ("published", "measured", "canonical", "common_l0")
"""The columns, in their order."""

_GROUP = ["model", "variant", "site", "layer", "width"]


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Whether one conclusion of the study holds in one column.

    Parameters
    ----------
    claim : str
        The conclusion, and how it is decided.
    column : str
        One of `COLUMNS`.
    holds : bool or None
        None where numbers that it needs are missing.
    because : str
        The numbers.
    """

    claim: str
    column: str
    holds: bool | None
    because: str


def four_columns(table: pd.DataFrame, common_l0: float | None = None) -> pd.DataFrame:
    """Every published point beside what is measured of it.

    Parameters
    ----------
    table : DataFrame
        As `geomsae.tail_table` gives it at a threshold of 0.1.
    common_l0 : float, optional
        The L0 of the fourth column, which is left empty without it.

    Returns
    -------
    DataFrame
        Indexed by the id of the published dictionary: its labels, `COLUMNS` (NaN where the table
        has no such dictionary, or the common L0 lies outside the measured range), the
        ``uncertainty`` of the published figure, ``canonical_l0``, and the ``isotropic`` share.
    """
    matched = None if common_l0 is None else at_common_l0(table, common_l0).reset_index()
    rows = []
    for point in published_points():
        labels = point.labels
        row = {name: getattr(labels, name) for name in (*_GROUP, "l0")}
        row |= {
            "id": labels.id,
            "published": point.tail_fraction,
            "uncertainty": point.uncertainty,
            "measured": _share(table, labels.id),
            "canonical": _share(table, point.canonical.id),
            "canonical_l0": point.canonical_l0,
            "common_l0": np.nan if matched is None else _matched_share(matched, row),
            "isotropic": isotropic_tail(point.d_model, THRESHOLD),
        }
        rows.append(row)
    return pd.DataFrame(rows).set_index("id")


def _share(table: pd.DataFrame, id: str) -> float:
    return float(table["tail_fraction"].get(id, np.nan))


def _matched_share(matched: pd.DataFrame, row: dict[str, object]) -> float:
    alike = np.all([matched[name] == row[name] for name in _GROUP], axis=0)
    found = matched.loc[alike, "tail_fraction"]
    return float(found.iloc[0]) if len(found) else np.nan


def conclusions(columns: pd.DataFrame) -> list[Conclusion]:
    """Put the three conclusions of the study to each column.

    Parameters
    ----------
    columns : DataFrame
        As `four_columns` gives it.
    """
    return [
        Conclusion(claim, column, *decide(columns.assign(share=columns[column])))
        for claim, decide in _CLAIMS.items()
        for column in COLUMNS
    ]


Decision = tuple[bool | None, str]


def _heavier_than_random(columns: pd.DataFrame) -> Decision:
    """Compare every layer of the smaller model with isotropic directions."""
    layers = _layers(columns)
    if layers["share"].isna().any():
        return None, _missing(layers)
    ratio = layers["share"] / layers["isotropic"]
    least, most = ratio.min(), ratio.max()
    return bool(least > 1), f"{least:,.0f} to {most:,.0f} times the isotropic share"


def _clustered_in_the_middle(columns: pd.DataFrame) -> Decision:
    """Compare the middle third of the layers with the first and the last."""
    layers = _layers(columns)
    if layers["share"].isna().any():
        return None, _missing(layers)
    first, middle, last = (part.mean() for part in np.array_split(layers["share"].to_numpy(), 3))
    told = (
        f"mean share {first:.3g} in the first third, {middle:.3g} in the middle, {last:.3g} after"
    )
    return bool(middle > max(first, last)), told


def _tuning_makes_uniform(columns: pd.DataFrame) -> Decision:
    """Compare the tuned with the pretrained model at the middle of its three layers."""
    larger = columns[columns["model"] == columns.loc[columns["variant"] == "it", "model"].iloc[0]]
    layer = int(np.median(sorted(set(larger["layer"]))))
    at = larger[larger["layer"] == layer].set_index("variant")["share"]
    if at.isna().any():
        return None, f"layer {layer} is missing"
    return bool(at["it"] < at["pt"]), f"layer {layer}: tuned {at['it']:.3g}, before {at['pt']:.3g}"


_CLAIMS: dict[str, Callable[[pd.DataFrame], Decision]] = {
    "heavier than random: at every layer a larger share than isotropic directions": (
        _heavier_than_random
    ),
    "clustered in the middle layers: a larger mean share there than in the thirds around": (
        _clustered_in_the_middle
    ),
    "tuning makes the middle layer more uniform: a smaller share than before": (
        _tuning_makes_uniform
    ),
}


def _layers(columns: pd.DataFrame) -> pd.DataFrame:
    """The points of the model of which every layer was studied, in order."""
    model = columns["model"].value_counts().idxmax()
    return columns[columns["model"] == model].sort_values("layer")


def _missing(layers: pd.DataFrame) -> str:
    absent = layers["layer"][layers["share"].isna()]
    return f"{len(absent)} of {len(layers)} layers are missing"
