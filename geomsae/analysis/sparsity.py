"""Sparsity held fixed: tail shares of dictionaries compared at one and the same L0.

The sparser a dictionary, the more of its pairs tend to lie in the tails, so two dictionaries of
unlike L0 differ even where nothing else does. Where one layer is published at several L0, the share
at an L0 between them can be read off: that is the comparison which sparsity does not confound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

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
    return _per_group(table, l0, _read_off, ("tail_fraction", "standard_error"))


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
        empty where there is a slope. At an L0 that was measured, the neighbours are the L0 on either
        side of it, or the only one at the end of the range.

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
    return _per_group(table, l0, _slope, ("slope", "standard_error"))


