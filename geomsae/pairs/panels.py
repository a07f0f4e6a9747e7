"""Panels: the rows of one tile, normalised, with what the conservation laws need to know."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.errors import DecoderError
from geomsae.pairs.compiled import compiled
from geomsae.pairs.memory import empty


@dataclass(frozen=True, slots=True)
class Panel:
    """Unit rows of one tile.

    Parameters
    ----------
    unit : ndarray, shape (rows, d_model), float32 or float64
        Rows divided by their norms; a row of zero norm stays zero.
    n_excluded : int
        Rows of zero norm, which have no direction.
    total : ndarray, shape (d_model,), float64
        Sum of the unit rows.
    squares : float
        Sum of their squared norms, after rounding.
    """

    unit: NDArray[Any]
    n_excluded: int
    total: NDArray[np.float64]
    squares: float

    @property
    def n_valid(self) -> int:
        """Rows that have a direction."""
        return len(self.unit) - self.n_excluded

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self.unit.nbytes + self.total.nbytes)


def make_panel(block: Any, precision: str, first_row: int = 0, *, overwrite: bool = False) -> Panel:
    """Normalise the rows of one tile.

    Parameters
    ----------
    block : array_like, shape (rows, d_model)
        Rows as published.
    precision : str
        ``float32`` or ``float64``: what the unit rows are rounded to. Norms are float64.
    first_row : int
        Number of the first row, for the message.
    overwrite : bool
        Let the unit rows take the place of `block`, if it is an array of their type.

    Raises
    ------
    DecoderError
        If rows are NaN or infinite; the sentence gives their number.
    """
    rows = np.ascontiguousarray(block)
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)
    unit = rows if overwrite and rows.dtype == precision else empty(rows.shape, precision)
    total = np.zeros(rows.shape[1])
    n_excluded, n_bad, first_bad, squares = _normalise(rows, unit, total)
    if n_bad:
        raise DecoderError(
            f"{n_bad:,} of the rows from {first_row:,} to {first_row + len(rows) - 1:,} are NaN or "
            f"infinite (the first: row {first_row + first_bad}): they have no direction"
        )
    return Panel(unit, n_excluded, total, squares)


@compiled
def _normalise(
    rows: NDArray[Any], unit: NDArray[Any], total: NDArray[np.float64]
) -> tuple[int, int, int, float]:
    """Write unit rows and add them up; returns zero rows, bad rows, the first bad one, squares."""
    n_excluded = 0
    n_bad = 0
    first_bad = -1
    squares = 0.0
    for i in range(rows.shape[0]):
        scale = 1.0
        norm = _norm(rows[i], scale)
        if not 1e-140 < norm < 1e140:  # float64 rows whose squares vanish or overflow
            largest = np.float64(np.abs(rows[i]).max())
            if largest > 0.0 and np.isfinite(largest):
                scale = 1.0 / largest
                norm = _norm(rows[i], scale)
        if not np.isfinite(norm):
            first_bad = i if n_bad == 0 else first_bad
            n_bad += 1
        if norm == 0.0:
            n_excluded += 1
            unit[i, :] = 0
            continue
        inverse = 1.0 / norm
        for j in range(rows.shape[1]):
            unit[i, j] = np.float64(rows[i, j]) * scale * inverse
        for j in range(rows.shape[1]):
            value = np.float64(unit[i, j])
            total[j] += value
            squares += value * value
    return n_excluded, n_bad, first_bad, squares


@compiled
def _norm(row: NDArray[Any], scale: float) -> Any:
    square = 0.0
    for j in range(row.shape[0]):
        value = np.float64(row[j]) * scale
        square += value * value
    return np.sqrt(square)


class PanelCache:
    """Runs of panels kept in one process by a budget of bytes, each loaded by one thread.

    What is in use stays alive whatever the budget; the least recently used goes first.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[Hashable, Future[list[Panel]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], list[Panel]], budget: int) -> list[Panel]:
        """The panels under `key`, loaded by the first thread that asks.

        Parameters
        ----------
        key : hashable
            What they are panels of.
        load : callable
            Makes them.
        budget : int
            Bytes to keep, these included.
        """
        with self._lock:
            future = self._held.get(key)
            mine = future is None
            if future is None:
                future = self._held[key] = Future()
            self._held.move_to_end(key)
        if mine:
            try:
                future.set_result(load())
            except BaseException as error:
                with self._lock:
                    self._held.pop(key, None)
                future.set_exception(error)
            self._forget_oldest(budget)
        return future.result()

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._held.clear()

    def _forget_oldest(self, budget: int) -> None:
        with self._lock:
            ready = [
                (key, sum(panel.nbytes for panel in future.result()))
                for key, future in self._held.items()
                if future.done() and not future.exception()
            ]
            excess = sum(nbytes for _, nbytes in ready) - budget
            for key, nbytes in ready[:-1]:
                if excess <= 0:
                    return
                del self._held[key]
                excess -= nbytes
