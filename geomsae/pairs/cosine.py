"""The lazy histogram of pairwise cosines of any matrix."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from operator import getitem
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.highlevelgraph import HighLevelGraph

from geomsae.ask import Ask
from geomsae.bins import DEFAULT_BINS
from geomsae.errors import DecoderError
from geomsae.features import features
from geomsae.histogram import histogram
from geomsae.pairs.budget import Job
from geomsae.pairs.count import count_super_tile
from geomsae.pairs.kernel import TileRows, check_device, kernel
from geomsae.pairs.panels import Panel, make_panel
from geomsae.pairs.plan import (
    LARGEST_SIDE,
    TILE,
    SuperTile,
    plan_rectangle,
    plan_triangle,
    tile_rows,
    tiles_along,
)
from geomsae.pairs.tally import Floors, Tally
from geomsae.pairs.workers import cluster_client, gpu_here

_ABSORBED_AT_ONCE = 32
"""Tallies that one task takes in: few enough that they do not pile up."""


def cosine_histogram(
    w: Any,
    v: Any = None,
    *,
    bins: int = DEFAULT_BINS,
    precision: str = "float32",
    thresholds: Iterable[float] = (),
    neighbours: int = 0,
    pairs: int = 0,
    device: str = "auto",
) -> xr.Dataset:
    """Histogram of the cosine similarity of pairs of rows, and what else one pass can tell.

    Each row is divided by its norm, taken in float64, and rounded to `precision`; every unordered
    pair of rows of `w` is counted once, or every pair of a row of `w` and a row of `v`. Rows of
    zero norm have no direction: they are left out and counted.

    Parameters
    ----------
    w : array_like, shape (n_features, d_model)
        NumPy array, Dask array or DataArray, whose dimension ``feature``, if it has one, is taken
        as the rows. Any real type.
    v : array_like, shape (m_features, d_model), optional
        Another matrix.
    bins : int
        Number of equal bins on [-1, 1], each half-open ``[left, right)`` but for the last.
    precision : {"float32", "float64", "fp16x3", "tf32"}
        Arithmetic of the products; the last two on a GPU. ``tf32`` does not keep to the accuracy
        of the others.
    thresholds : iterable of float
        For each feature, count its pairs in the tails at each of these: its degree. Each lies on
        an edge of the bins, in (0, 1).
    neighbours : int
        For each feature, find so many nearest neighbours, and the most opposite one.
    pairs : int
        Find so many of the most similar pairs, and of the most opposite ones.
    device : {"auto", "cpu", "gpu"}
        What multiplies, wherever it is computed. By default a GPU if this process has one and is
        no client of a cluster.

    Returns
    -------
    Dataset, dims (cosine,)
        Lazy; ``compute`` runs on any Dask scheduler. ``count`` (cosine) int64 adds up to
        ``n_pairs`` exactly; ``n_excluded`` are the rows left out. Scalar coordinates of `w` stay.
        With `thresholds`, ``degree`` (feature, threshold) int64. With `neighbours`, ``nearest`` and
        ``nearest_cosine`` (feature, rank), ``opposite`` and ``opposite_cosine`` (feature): numbers
        of rows, -1 where there is none, and cosines, NaN there. With `pairs`, ``top_similar`` and
        ``top_opposite`` (pair, member), and ``top_similar_cosine`` and ``top_opposite_cosine``
        (pair). Of two matrices the members of a pair are a row of `w` and a row of `v`, and what is
        said of the features of `v` begins with ``other_``, along ``other_feature``.

    Raises
    ------
    GeomsaeError
        If something cannot be asked, as a threshold that is no edge.
    DeviceError
        If there is no such device, or it cannot do the arithmetic.
    DecoderError
        If a matrix has not two dimensions or no real numbers, or the two disagree in theirs; when
        computed, if rows are NaN or infinite.

    Notes
    -----
    At every bin edge, the number of pairs below it differs from that of float64 arithmetic by no
    more than the pairs within 2e-6 of that edge. In float32 the largest error of a cosine that was
    seen is 1.2e-6, between nearly equal rows of 384 dimensions (token directions of MiniLM, and
    random ones): a sum of d products that are all of one sign rounds d times in one direction.
    Cosines below 0.1 are off by 2e-7 or less. The counts are the same, bit for bit, on machines
    of one kind, whatever the scheduler and the number of workers. Of neighbours with equal cosines
    the one with the lower number comes first.

    Examples
    --------
    >>> import numpy as np
    >>> hist = cosine_histogram(np.eye(3), bins=4).compute()
    >>> hist["count"].values
    array([0, 0, 3, 0])
    >>> int(hist.n_pairs)
    3
    >>> cosine_histogram(np.array([[2, 0], [1, 1], [0, 3]]), neighbours=1).nearest.values
    array([[1],
           [0],
           [1]])
    """
    ask = Ask(bins, precision, tuple(thresholds), neighbours, pairs)
    first, coords = _matrix(w)
    n, m, second = first.shape[0], None, None
    if v is not None:
        second, other = _matrix(v)
        if first.shape[1] != second.shape[1]:
            raise DecoderError(
                f"rows of {first.shape[1]} and of {second.shape[1]} dimensions have no cosine: "
                "they are directions of different spaces"
            )
        m = second.shape[0]
        coords = {k: c for k, c in coords.items() if k in other and c.equals(other[k])}
    graph = _Graph(ask, first, second, _device(device, precision))
    dataset = histogram(
        graph.array("count", (bins,), np.int64),
        graph.array("n_pairs", (), np.int64),
        graph.array("n_excluded", (), np.int64),
        coords,
    )
    found = features(
        ask, n, m, lambda variable: graph.array(variable.name, variable.shape, variable.dtype)
    )
    return dataset.merge(found).assign_attrs(precision=precision, device=graph.device)


def _device(device: str, precision: str) -> str:
    """What is meant by a device, if it can do the arithmetic."""
    if device == "auto":
        device = "gpu" if cluster_client() is None and gpu_here() else "cpu"
    if device == "cpu" or cluster_client() is None:
        check_device(device, precision)
    return device


def _matrix(w: Any) -> tuple[Any, dict[Any, xr.DataArray]]:
    """The data of a matrix, features first, and its scalar coordinates."""
    coords: dict[Any, xr.DataArray] = {}
    if isinstance(w, xr.DataArray):
        if "feature" in w.dims:
            w = w.transpose("feature", ...)
        coords = {name: coord for name, coord in w.coords.items() if coord.ndim == 0}
        w = w.data
    if not isinstance(w, da.Array):
        w = np.asarray(w)
    if w.ndim != 2 or 0 in w.shape or w.dtype.kind not in "fiu":
        shape = " x ".join(map(str, w.shape)) or "a single value"
        raise DecoderError(
            f"a decoder is a matrix of real numbers, one row per feature, not {shape} of {w.dtype}"
        )
    return w, coords


class _Graph:
    """The tasks behind a lazy histogram, and arrays that hang on them.

    Written down by hand: there are as many tasks as super-tiles, and making each of them an object
    of its own would take longer than some of them run.
    """

    def __init__(self, ask: Ask, w: Any, v: Any, device: str) -> None:
        self.device = device
        self._name = f"cosine-histogram-{uuid.uuid4().hex}"
        self._tasks: dict[Any, Any] = {}
        self._layers: dict[str, Any] = {self._name: self._tasks}
        self._needs: dict[str, set[str]] = {self._name: set()}
        n, m = w.shape[0], None if v is None else v.shape[0]
        rows = self._sides("rows", w, ask)
        cols = rows if v is None else self._sides("cols", v, ask)
        side, held, card_bytes = _tasks(ask, w, v, device)
        plan = plan_triangle(n, side) if m is None else plan_rectangle(n, m, side)
        floors = (self._name, "floors")
        self._tasks[floors] = (Floors.none, ask, n, m)
        whole: Any = None
        for first in range(0, len(plan), _ABSORBED_AT_ONCE):
            parts = []
            for number, part in enumerate(plan[first : first + _ABSORBED_AT_ONCE], first):
                parts.append((self._name, "part", number))
                sides = [rows[tile] for tile in part.rows], [cols[tile] for tile in part.cols]
                sizes = n, n if m is None else m
                how = device, held, card_bytes
                self._tasks[parts[-1]] = (_count_from, part, *sides, ask, floors, *sizes, *how)
            before, whole = whole, (self._name, "whole", first)
            self._tasks[whole] = (_absorb, before, parts, ask, n, m)
        self._found = (self._name, "found")
        self._tasks[self._found] = (_found, whole, rows if v is None else rows + cols)

    def _sides(self, side: str, w: Any, ask: Ask) -> list[Any]:
        """The tasks that make a panel of each tile of rows; for a GPU, the rows themselves."""
        if isinstance(w, da.Array):
            w = w.rechunk({0: TILE, 1: -1})
            self._layers.update(w.dask.layers)
            self._needs.update({name: set(needs) for name, needs in w.dask.dependencies.items()})
            self._needs[self._name].add(w.name)
            blocks: list[Any] = [(w.name, tile, 0) for tile in range(w.numblocks[0])]
        else:
            spans = (tile_rows(tile, len(w)) for tile in range(tiles_along(len(w))))
            blocks = [w[start:stop] for start, stop in spans]
        keys = [(self._name, side, tile) for tile in range(len(blocks))]
        for tile, (key, block) in enumerate(zip(keys, blocks, strict=True)):
            if self.device == "gpu":
                self._tasks[key] = (_HostRows, block, tile * TILE)
            else:
                self._tasks[key] = (make_panel, block, ask.dtype, tile * TILE)
        return keys

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> da.Array:
        """One of the answers, as a lazy array of one block."""
        layer = f"{name}-{self._name}"
        key = (layer, *(0 for _ in shape))
        layers = {**self._layers, layer: {key: (getitem, self._found, name)}}
        graph = HighLevelGraph(layers, {**self._needs, layer: {self._name}})
        return da.Array(graph, layer, tuple((size,) for size in shape), dtype)


def _tasks(ask: Ask, w: Any, v: Any, device: str) -> tuple[int | None, int, int]:
    """Tiles along a side of a task, those of them that are held, and bytes of a GPU to keep to."""
    if device == "cpu":
        return None, LARGEST_SIDE, 0
    from geomsae.pairs.gpu.budget import plan_card, usual_device_memory

    job, *others = (Job(x.shape[0], x.shape[1], TILE) for x in (w, v) if x is not None)
    other = others[0] if others else None
    budget = plan_card(job, ask, usual_device_memory(ask.precision), other=other)
    return budget.side, budget.held, budget.device_bytes


def _count_from(
    super_tile: SuperTile,
    rows: list[Panel | _HostRows],
    cols: list[Panel | _HostRows],
    ask: Ask,
    floors: Floors,
    n: int,
    m: int,
    device: str,
    held: int,
    card_bytes: int,
) -> Tally:
    mine = kernel(device)
    mine.keep_within(card_bytes)
    row_side = _Given(rows, super_tile.rows.start, n, ask.precision)
    same = super_tile.triangle
    col_side = row_side if same else _Given(cols, super_tile.cols.start, m, ask.precision)
    return count_super_tile(super_tile, row_side, col_side, ask, floors, mine, held)


@dataclass(frozen=True, slots=True)
class _HostRows:
    """Rows of one tile that are brought to a GPU by whoever counts with them."""

    block: Any
    first: int

    @property
    def rows(self) -> int:
        return len(self.block)

    @property
    def n_directed(self) -> int:
        return int(np.count_nonzero(np.any(self.block, axis=1)))


@dataclass(frozen=True, slots=True)
class _Given:
    """Some of the rows along one side, in memory already."""

    sides: list[Panel | _HostRows]
    first: int
    n: int
    precision: str

    def panel(self, tile: int) -> TileRows:
        """The panel of a tile; on a GPU a new one, which lives as long as it is in use."""
        side = self.sides[tile - self.first]
        if isinstance(side, Panel):
            return side
        return kernel("gpu").make_panel(side.block, self.precision, side.first)

    def panels(self, tiles: range) -> dict[int, TileRows]:
        """Those of several tiles."""
        return {tile: self.panel(tile) for tile in tiles}

    def keep(self, tiles: range) -> None:
        """Nothing is in anybody's way."""

    def ahead(self, tile: int) -> None:
        """Nothing is left to be made ready."""


def _absorb(whole: Tally | None, parts: list[Tally], ask: Ask, n: int, m: int | None) -> Tally:
    """What was found before, and in some more super-tiles, without a change to what was given."""
    more = Tally.empty(ask, range(n), None if m is None else range(m))
    for part in parts if whole is None else [whole, *parts]:
        more.absorb(part)
    return more


def _found(whole: Tally, sides: list[Panel | _HostRows]) -> dict[str, Any]:
    """Every answer, by its name."""
    excluded = sum(side.rows - side.n_directed for side in sides)
    totals = {"n_pairs": np.int64(whole.n_pairs), "n_excluded": np.int64(excluded)}
    return {"count": whole.count, **totals, **whole.found()}
