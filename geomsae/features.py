"""What one pass tells about features and pairs beside the histogram: its variables, labelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from geomsae.ask import Ask

OTHER = "other_"
"""What the names of variables begin with that tell about the features of a second dictionary."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the answer.

    Parameters
    ----------
    name : str
        What it is called.
    dims : tuple of str
        Its dimensions.
    shape : tuple of int
        Their lengths.
    dtype : str
        Its type.
    meaning : str
        What it says.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    meaning: str


def variables(ask: Ask, n: int, m: int | None = None) -> Iterator[Variable]:
    """Every variable that an ask is answered with.

    Parameters
    ----------
    ask : Ask
        What was asked.
    n, m : int
        Features of the dictionary, and of another one if pairs are of one feature of each.
    """
    yield from _of_features(ask, n, "", "other " if m is not None else "")
    if m is not None:
        yield from _of_features(ask, m, OTHER, "")
    if ask.pairs:
        for end, order in (("similar", "falling"), ("opposite", "rising")):
            name, shape = f"top_{end}", (ask.pairs, 2)
            yield Variable(name, ("pair", "member"), shape, "int64", f"the most {end} pairs")
            yield Variable(
                f"{name}_cosine", ("pair",), shape[:1], ask.dtype, f"their cosines, {order}"
            )


def _of_features(ask: Ask, n: int, prefix: str, whose: str) -> Iterator[Variable]:
    feature = f"{prefix}feature"
    if ask.thresholds:
        shape = (n, len(ask.thresholds))
        meaning = "pairs of the feature with |cosine| beyond the threshold"
        yield Variable(f"{prefix}degree", (feature, "threshold"), shape, "int64", meaning)
    if ask.neighbours:
        shape = (n, ask.neighbours)
        for name, dims, sizes, text in (
            ("nearest", (feature, "rank"), shape, "nearest neighbours"),
            ("opposite", (feature,), shape[:1], "most opposite feature"),
        ):
            yield Variable(f"{prefix}{name}", dims, sizes, "int64", f"{whose}{text}")
            yield Variable(
                f"{prefix}{name}_cosine", dims, sizes, ask.dtype, "cosine similarity with it"
            )


def features(ask: Ask, n: int, m: int | None, values: Callable[[Variable], Any]) -> xr.Dataset:
    """Label the answers about features and pairs.

    Parameters
    ----------
    ask : Ask
        What was asked.
    n, m : int
        As `variables` takes them.
    values : callable
        Gives the values of a variable, NumPy or Dask.

    Returns
    -------
    Dataset
        Empty where nothing was asked beside the histogram.
    """
    found = {
        variable.name: (variable.dims, values(variable), {"long_name": variable.meaning})
        for variable in variables(ask, n, m)
    }
    coords: dict[str, Any] = {}
    if ask.thresholds:
        thresholds = np.array(ask.thresholds)
        coords["threshold"] = ("threshold", thresholds, {"long_name": "least |cosine|"})
    if ask.neighbours:
        ranks = np.arange(ask.neighbours)
        coords["rank"] = ("rank", ranks, {"long_name": "0 for the nearest"})
    return xr.Dataset(found, coords)
