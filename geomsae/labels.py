"""Selecting dictionaries by any of their labels: the xarray index along ``dictionary``.

A pandas MultiIndex would drop the labels that a selection fixes, would not be written to Zarr and
could not take a list for one label and a slice for another. This index keeps every label as an
ordinary coordinate of the dimension ``dictionary`` and answers each query with positions.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from xarray.core.indexing import IndexSelResult

from geomsae.dictionary import LABELS, SIZES

DIMENSION = "dictionary"

_MEANING = {DIMENSION: "id of the dictionary", **LABELS, **SIZES}


class DictionaryIndex(xr.Index):
    """An index over dictionaries, queried by any mixture of their labels.

    A label is matched by a scalar, by any of a list, or by a slice that includes both ends.
    Several labels in one ``sel`` must all match. The dimension stays, whatever is selected; only
    ``sel(dictionary=ID)`` takes a single dictionary out of it, as it does everywhere in xarray.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        """One row per dictionary, the ids as index, one column per label."""

    @classmethod
    def from_variables(
        cls, variables: Mapping[Any, xr.Variable], *, options: Mapping[str, Any]
    ) -> Self:
        for name, variable in variables.items():
            if variable.dims != (DIMENSION,):
                raise ValueError(f"{name!r} does not lie along {DIMENSION!r} alone")
        columns = {name: _values(variable.data) for name, variable in variables.items()}
        ids = pd.Index(columns.pop(DIMENSION), name=DIMENSION, dtype=object)
        return cls(pd.DataFrame(columns, index=ids))

    def create_variables(
        self, variables: Mapping[Any, xr.Variable] | None = None
    ) -> dict[Hashable, xr.Variable]:
        made: dict[Hashable, xr.Variable] = {}
        for name in (DIMENSION, *self.table.columns):
            old = (variables or {}).get(name)
            attrs = old.attrs if old is not None else {"long_name": _MEANING[str(name)]}
            encoding = old.encoding if old is not None else {}
            made[name] = xr.Variable((DIMENSION,), self._column(name), attrs, encoding)
        return made

    def _column(self, name: Hashable) -> NDArray[Any]:
        column = self.table.index if name == DIMENSION else self.table[name]
        return _values(column)

    def to_pandas_index(self) -> pd.Index:
        """Ids and labels as levels, so that none is lost on the way to pandas."""
        return self.table.set_index(list(self.table.columns), append=True).index

    def isel(self, indexers: Mapping[Any, Any]) -> Self | None:
        indexer = indexers[DIMENSION]
        if isinstance(indexer, xr.Variable):
            if indexer.dims != (DIMENSION,):
                return None
            indexer = indexer.data
        if np.ndim(indexer) == 0 and not isinstance(indexer, slice):
            return None
        return type(self)(self.table.iloc[indexer])

    def sel(
        self, labels: dict[Any, Any], method: str | None = None, tolerance: Any = None
    ) -> IndexSelResult:
        if method is not None or tolerance is not None:
            raise ValueError("dictionaries are selected by exact labels, lists and slices")
        wanted = {name: _plain(label) for name, label in labels.items()}
        chosen = np.ones(len(self.table), dtype=bool)
        for name, label in wanted.items():
            matches = _matches(self._column(name), label, str(name))
            chosen &= matches
        if not chosen.any() and not any(isinstance(v, slice) for v in wanted.values()):
            asked = ", ".join(f"{name}={label!r}" for name, label in wanted.items())
            raise KeyError(f"no dictionary has {asked} together")
        positions = np.flatnonzero(chosen)
        if list(wanted) == [DIMENSION]:
            return IndexSelResult({DIMENSION: self._positions_of_ids(wanted[DIMENSION], positions)})
        return IndexSelResult({DIMENSION: positions})

    def _positions_of_ids(self, label: Any, positions: NDArray[np.intp]) -> Any:
        """A single id leaves the dimension; a list of ids gives them in the order asked for."""
        if isinstance(label, slice):
            return positions
        if isinstance(label, list):
            return self.table.index.get_indexer(pd.Index(label, dtype=object))
        return int(positions[0])

    def equals(self, other: xr.Index, **kwargs: Any) -> bool:
        return isinstance(other, DictionaryIndex) and self.table.equals(other.table)

    def join(self, other: Self, how: str = "inner") -> Self:
        both = [self.table, other.table]
        if how == "outer":
            joined = pd.concat(both)
            joined = joined[~joined.index.duplicated()].sort_index()
        elif how == "right":
            joined = other.table
        elif how == "left":
            joined = self.table
        else:
            joined = self.table[self.table.index.isin(other.table.index)]
        return type(self)(joined)

    def reindex_like(self, other: Self) -> dict[Hashable, Any]:
        return {DIMENSION: self.table.index.get_indexer(other.table.index)}

    @classmethod
    def concat(
        cls,
        indexes: Sequence[Self],
        dim: Hashable,
        positions: Iterable[Iterable[int]] | None = None,
    ) -> Self:
        table = pd.concat([index.table for index in indexes])
        if positions is not None:
            order = np.argsort(np.concatenate([np.asarray(list(p)) for p in positions]))
            table = table.iloc[order]
        return cls(table)

    def _repr_inline_(self, max_width: int) -> str:
        return f"{type(self).__name__} ({len(self.table)} by {', '.join(self.table.columns)})"


def index_dictionaries(dataset: xr.Dataset) -> xr.Dataset:
    """Give `dataset` the index over ``dictionary``, so that every label selects.

    A dataset that was written to Zarr or netCDF and opened again carries its labels but no index
    of ours; this puts it back.

    Parameters
    ----------
    dataset : Dataset
        With a dimension ``dictionary``, its ids, and the labels as coordinates along it.

    Raises
    ------
    ValueError
        If the dimension or one of the labels is missing.
    """
    names = list(_MEANING)
    missing = [name for name in names if name not in dataset.coords]
    if missing:
        raise ValueError(f"the dataset has no coordinate {missing[0]!r}")
    return dataset.drop_indexes(names, errors="ignore").set_xindex(names, DictionaryIndex)


def _values(column: Any) -> NDArray[Any]:
    """Numbers as they are, text as objects: the only kind that every version writes to Zarr."""
    values = np.asarray(column)
    return values if values.dtype.kind in "if" else values.astype(object)


def _plain(label: Any) -> Any:
    """A label as a scalar, a list or a slice of plain Python values."""
    if isinstance(label, slice):
        if label.step is not None:
            raise ValueError(f"a slice of labels takes no step: {label}")
        return slice(_plain(label.start), _plain(label.stop))
    if isinstance(label, (xr.DataArray, xr.Variable)):
        label = label.values
    if isinstance(label, (range, set, tuple, pd.Index, pd.Series)):
        label = list(label)
    if isinstance(label, np.ndarray):
        label = label.tolist()
    if isinstance(label, np.generic):
        label = label.item()
    return label


def _matches(values: NDArray[Any], label: Any, name: str) -> NDArray[np.bool_]:
    """Which of `values` a label selects; a label that selects nothing is a KeyError."""
    if isinstance(label, slice):
        inside = np.ones(values.size, dtype=bool)
        if label.start is not None:
            inside &= values >= label.start
        if label.stop is not None:
            inside &= values <= label.stop
        return inside
    for one in label if isinstance(label, list) else [label]:
        if not _equal(values, one).any():
            there = ", ".join(map(str, np.unique(values)[:12])) or "nothing"
            raise KeyError(f"no dictionary has {name}={one!r}; there is {there}")
    if isinstance(label, list):
        chosen = [_equal(values, one) for one in label]
        return np.asarray(np.any(chosen, axis=0)) if chosen else np.zeros(values.size, bool)
    return _equal(values, label)


def _equal(values: NDArray[Any], one: Any) -> NDArray[np.bool_]:
    if isinstance(one, float) and np.isnan(one):
        return np.asarray(values != values)
    return np.asarray(np.broadcast_to(values == one, values.shape))
