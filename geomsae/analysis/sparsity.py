"""Sparsity held fixed: tail shares of dictionaries compared at one and the same L0.

The sparser a dictionary, the more of its pairs tend to lie in the tails, so two dictionaries of
unlike L0 differ even where nothing else does. Where one layer is published at several L0, the share
at an L0 between them can be read off: that is the comparison which sparsity does not confound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geomsae.dictionary import CANONICAL_L0
from geomsae.errors import SelectionError

GROUP = ("model", "variant", "site", "layer", "width", "tag")
"""The labels that dictionaries share which differ in their L0 alone."""


def share_by_l0(table: pd.DataFrame) -> pd.DataFrame:
    """Tail shares of the dictionaries that differ in their L0 alone, side by side.

    Parameters
    ----------
    table : DataFrame
        As `tail_table` gives it: the labels of `GROUP`, ``l0`` and ``tail_fraction``, and, where it
        is known, ``standard_error``.

    Returns
    -------
    DataFrame
        Indexed by `GROUP` and ``l0``, rising: ``dictionary``, the id; ``tail_fraction`` and
        ``standard_error`` (float64, NaN where not known); ``n_without_l0``, how many dictionaries
        of the group were left out because their L0 is not known. Groups with fewer than two known
        L0 are left out whole.

    Raises
    ------
    SelectionError
        If the table lacks a column.

    Examples
    --------
    >>> labels = {"model": "m", "variant": "pt", "site": "res", "width": "16k", "tag": ""}
    >>> table = pd.DataFrame({**labels, "layer": 5, "l0": [82, 22], "tail_fraction": [1e-4, 3e-4]})
    >>> share_by_l0(table)["tail_fraction"].tolist()
    [0.0003, 0.0001]
    """
    plain = _plain(table)
    plain["n_without_l0"] = plain.groupby(list(GROUP), dropna=False)["l0"].transform(_unknown)
    known = plain[plain["l0"].notna()]
    several = known.groupby(list(GROUP), dropna=False)["l0"].transform("nunique") > 1
    return known[several].set_index([*GROUP, "l0"]).sort_index(kind="stable")


def at_common_l0(table: pd.DataFrame, l0: float = CANONICAL_L0) -> pd.DataFrame:
    """The tail share of every group of dictionaries at one L0.

    Between the two measured L0 that enclose the one asked for, log(tail share) is taken to be
    linear in log(L0), which is exact for a power law. A share is never extrapolated, and one that
    was measured at the L0 asked for is given as it was measured.

    Parameters
    ----------
    table : DataFrame
        As `share_by_l0` takes it.
    l0 : float
        Mean number of active features per token.

    Returns
    -------
    DataFrame
        Indexed by `GROUP`, one row for each: ``l0``, the one asked for; ``l0_low`` and ``l0_high``,
        the neighbours that the share was read off between, equal where it was measured, and the
        ends of the measured range where it lies outside; ``n_l0``, how many L0 were measured;
        ``n_without_l0``, the dictionaries left out because theirs is not known;
        ``tail_fraction`` and ``standard_error`` (float64); ``reason``, empty where there is a
        share, and else why it is NaN.

    Raises
    ------
    SelectionError
        If `l0` is not a positive number, or the table lacks a column.

    Notes
    -----
    With w = log(l0 / low) / log(high / low), the share p = p_low^(1 - w) p_high^w. By the delta
    method (Casella and Berger, Statistical Inference, 2002, section 5.5.4) its standard error is
    p sqrt(((1 - w) e_low / p_low)^2 + (w e_high / p_high)^2), the two dictionaries being
    independent. The error says nothing of how far the truth is from a power law between the two.

    Examples
    --------
    >>> labels = {"model": "m", "variant": "pt", "site": "res", "width": "16k", "tag": ""}
    >>> table = pd.DataFrame({**labels, "layer": 5, "l0": [50, 200], "tail_fraction": [4e-4, 1e-4]})
    >>> at_common_l0(table, 100)["tail_fraction"].round(12).tolist()
    [0.0002]
    >>> at_common_l0(table, 300)["reason"].tolist()
    ['L0 300 lies outside the measured range, 50 to 200']
    """
    return _per_group(table, l0, _enclosing, _share_between, "tail_fraction")


def slope_of_l0(table: pd.DataFrame, l0: float = CANONICAL_L0) -> pd.DataFrame:
    """How steeply the tail share of each group falls with L0, where one L0 lies.

    Parameters
    ----------
    table : DataFrame
        As `share_by_l0` takes it.
    l0 : float
        Where the slope is wanted.

    Returns
    -------
    DataFrame
        Indexed by `GROUP`: ``l0_low``, ``l0_high``, ``n_l0`` and ``n_without_l0`` as `at_common_l0`
        gives them; ``slope``, the change of log(tail share) per change of log(L0) between the two
        neighbours, -1 where twice the L0 halves the share; its ``standard_error``; ``reason``,
        empty where there is a slope. Where the L0 was itself measured, the neighbours are the two
        on either side of it; at an end of the range, it and the next one.

    Raises
    ------
    SelectionError
        As `at_common_l0`.

    Examples
    --------
    >>> labels = {"model": "m", "variant": "pt", "site": "res", "width": "16k", "tag": ""}
    >>> table = pd.DataFrame({**labels, "layer": 5, "l0": [50, 200], "tail_fraction": [4e-4, 1e-4]})
    >>> slope_of_l0(table, 100)["slope"].round(12).tolist()
    [-1.0]
    """
    return _per_group(table, l0, _on_either_side, _slope_between, "slope")


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that matter here; an L0 without a logarithm counts as not known."""
    for name in (*GROUP, "l0", "tail_fraction"):
        if name not in table:
            raise SelectionError(
                f"the table has no column {name!r}: give it as geomsae.tail_table makes it"
            )
    plain = table[[*GROUP, "l0", "tail_fraction"]].astype({"l0": float, "tail_fraction": float})
    plain["l0"] = plain["l0"].where((plain["l0"] > 0) & (plain["l0"] < math.inf))
    plain["standard_error"] = math.nan
    if "standard_error" in table:
        plain["standard_error"] = table["standard_error"].astype(float)
    plain.insert(len(GROUP) + 1, "dictionary", table.index)
    return plain


def _unknown(l0: pd.Series) -> int:
    return int(l0.isna().sum())


def _per_group(
    table: pd.DataFrame,
    l0: float,
    choose: Callable[[NDArray[np.float64], float], tuple[float, float, str]],
    answer: Callable[[pd.DataFrame, float], tuple[float, float]],
    name: str,
) -> pd.DataFrame:
    """One row for each group: what `answer` makes of the two L0 that `choose` chooses."""
    if not (math.isfinite(l0) and l0 > 0):
        raise SelectionError(f"an L0 of {l0:g} does not exist: ask for a positive number")
    keys: list[Any] = []
    rows: list[dict[str, Any]] = []
    for key, group in _plain(table).groupby(list(GROUP), dropna=False):
        known = group[group["l0"].notna()]
        measured = np.unique(known["l0"].to_numpy())
        low, high, reason = _ends(measured, l0, choose)
        points = known[known["l0"].isin([low, high])].sort_values("l0")
        reason = reason or _why_not(points)
        value, error = (math.nan, math.nan) if reason else answer(points, l0)
        keys.append(key)
        rows.append(
            {
                "l0": float(l0),
                "l0_low": low,
                "l0_high": high,
                "n_l0": measured.size,
                "n_without_l0": _unknown(group["l0"]),
                name: value,
                "standard_error": error,
                "reason": reason,
            }
        )
    columns = ["l0", "l0_low", "l0_high", "n_l0", "n_without_l0", name, "standard_error", "reason"]
    return pd.DataFrame(rows, pd.MultiIndex.from_tuples(keys, names=GROUP), columns)


def _ends(
    measured: NDArray[np.float64],
    l0: float,
    choose: Callable[[NDArray[np.float64], float], tuple[float, float, str]],
) -> tuple[float, float, str]:
    """The two L0 to read between, or the ends of the range and why there is nothing to read."""
    if not measured.size:
        return math.nan, math.nan, "no L0 is known"
    least, most = float(measured[0]), float(measured[-1])
    if not least <= l0 <= most:
        return least, most, f"L0 {l0:g} lies outside the measured range, {least:g} to {most:g}"
    return choose(measured, l0)


def _enclosing(measured: NDArray[np.float64], l0: float) -> tuple[float, float, str]:
    """The closest L0 below and above, both the one asked for where it was measured."""
    return float(measured[measured <= l0][-1]), float(measured[measured >= l0][0]), ""


def _on_either_side(measured: NDArray[np.float64], l0: float) -> tuple[float, float, str]:
    """The closest other L0 below and above; at an end of the range, the one asked for."""
    below, above = measured[measured < l0], measured[measured > l0]
    low, high = float(below[-1]) if below.size else l0, float(above[0]) if above.size else l0
    return low, high, "" if low < high else "a single L0 has no slope"


def _why_not(points: pd.DataFrame) -> str:
    """Why nothing can be read off between these, empty if it can."""
    for l0, at in points.groupby("l0"):
        share = float(at["tail_fraction"].iloc[0])
        if len(at) > 1:
            return f"{' and '.join(map(str, at['dictionary']))} have the same L0, {l0:g}"
        if math.isnan(share):
            return f"the tail share at L0 {l0:g} is not known"
        if share == 0 and len(points) > 1:
            return f"the tail share at L0 {l0:g} is 0 and has no logarithm"
    return ""


def _share_between(points: pd.DataFrame, l0: float) -> tuple[float, float]:
    """The share at an L0 and its standard error, linear between the logarithms of both."""
    share, error = (points[name].to_numpy() for name in ("tail_fraction", "standard_error"))
    if len(points) == 1:
        return float(share[0]), float(error[0])
    low, high = points["l0"]
    part = math.log(l0 / low) / math.log(high / low)
    parts = np.array([1 - part, part])
    found = float(np.exp(parts @ np.log(share)))
    return found, found * float(np.linalg.norm(parts * error / share))


def _slope_between(points: pd.DataFrame, _: float) -> tuple[float, float]:
    """The slope of the logarithm of the share against that of the L0, and its standard error."""
    share, error = (points[name].to_numpy() for name in ("tail_fraction", "standard_error"))
    low, high = points["l0"]
    run = math.log(high / low)
    return math.log(share[1] / share[0]) / run, float(np.linalg.norm(error / share)) / run
