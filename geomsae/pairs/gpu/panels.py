"""Panels on a card: the rows of one tile, brought there through pinned memory and normalised."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.pairs.gpu import launch
from geomsae.pairs.gpu.card import own_memory
from geomsae.pairs.panels import not_finite

SCALE = 64.0
"""What unit rows are multiplied with before they are split: the small parts stay normal numbers."""

ALIGNED = 8
"""Tensor cores want rows of a multiple of so many numbers."""

_one_at_a_time = threading.Lock()
_local = threading.local()


@dataclass(frozen=True, slots=True)
class DevicePanel:
    """Unit rows of one tile on a card.

    Parameters
    ----------
    first : int
        Number of the first row.
    rows : int
        How many there are.
    parts : tuple of arrays, shape (rows, d_model or a little more)
        The unit rows in the precision's type, zeros at their ends; or the high and the low halves
        of 64 times them, float16.
    directed : array, shape (rows,), bool
        Which rows have a direction.
    n_directed : int
        How many have.
    total : ndarray, shape (d_model,), float64
        Sum of the unit rows, on the host.
    squares : float
        Sum of their squared norms, after rounding.
    """

    first: int
    rows: int
    parts: tuple[Any, ...]
    directed: Any
    n_directed: int
    total: NDArray[np.float64]
    squares: float

    @property
    def nbytes(self) -> int:
        """Bytes held on the card."""
        return sum(int(part.nbytes) for part in self.parts) + self.rows


def make_panel(
    block: Any,
    precision: str,
    first_row: int = 0,
    *,
    overwrite: bool = False,  # noqa: ARG001 - the rows on the card are others anyway
) -> DevicePanel:
    """Normalise the rows of one tile on the card; see `geomsae.pairs.panels.make_panel`.

    Parameters
    ----------
    block : array_like, shape (rows, d_model)
        Rows as published.
    precision : str
        What the products will be computed in.
    first_row : int
        Number of the first row.
    overwrite : bool
        Ignored: the host's rows are only read.

    Raises
    ------
    DecoderError
        If rows are NaN or infinite; the sentence gives their number.
    DeviceMemoryError
        If the card has no room for them.
    """
    import cupy

    rows = np.ascontiguousarray(block)
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)
    n, d = rows.shape
    pinned = _pinned(rows.nbytes)[: rows.nbytes].view(rows.dtype).reshape(rows.shape)
    np.copyto(pinned, rows)
    # One stream for all threads: memory that one of them lets go of serves the next.
    with _one_at_a_time, own_memory(), _stream():
        wide = -(-d // ALIGNED) * ALIGNED
        # What stays is asked for first, so that what does not leaves no holes between.
        directed = cupy.empty(n, np.bool_)
        halves = [cupy.empty((n, wide), np.float16) for _ in range(2 * (precision == "fp16x3"))]
        unit = cupy.empty((n, wide), np.float64 if precision == "float64" else np.float32)
        there = cupy.empty(rows.shape, rows.dtype)
        there.set(pinned, _stream())
        total = cupy.zeros(d, np.float64)
        squares, bad = cupy.zeros(1, np.float64), cupy.array([0, -(2**31)], np.int32)
        launch.normalise(there, unit, directed, total, squares, bad)
        if halves:
            _split(unit, *halves)
        n_bad, first_bad = (int(value) for value in bad.get())
        if n_bad:
            raise not_finite(n_bad, -1 - first_bad, first_row, n)
        has = directed.get()
        known = total.get(), float(squares.get()[0])
        _stream().synchronize()
        parts = tuple(halves) or (unit,)
        return DevicePanel(first_row, n, parts, directed, int(np.count_nonzero(has)), *known)


def _split(unit: Any, high: Any, low: Any) -> None:
    """Fill two float16 numbers for each: together they hold 64 times it to 22 bits."""
    scaled = unit * np.float32(SCALE)
    high[...] = scaled
    low[...] = scaled - high


@cache
def _stream() -> Any:
    """The stream on which everything is brought to the card."""
    import cupy

    return cupy.cuda.Stream(non_blocking=True)


def _pinned(nbytes: int) -> NDArray[np.uint8]:
    """Memory of this thread that the card copies from by itself."""
    import cupy

    held: NDArray[np.uint8] | None = getattr(_local, "pinned", None)
    if held is None or held.nbytes < nbytes:
        _local.memory = cupy.cuda.alloc_pinned_memory(nbytes)
        held = _local.pinned = np.frombuffer(_local.memory, np.uint8, nbytes)
    return held
