"""Panels: the rows of one tile, normalised, with what the conservation laws need to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.errors import DecoderError
from geomsae.memory import empty
from geomsae.pairs.compiled import compiled


@dataclass(frozen=True, slots=True)
class Panel:
    """Unit rows of one tile.

    Parameters
    ----------
    first : int
        Number of the first row.
    unit : ndarray, shape (rows, d_model), float32 or float64
        Rows divided by their norms; a row of zero norm stays zero.
    directed : ndarray, shape (rows,), bool
        Which rows have a direction: those whose norm is not zero.
    total : ndarray, shape (d_model,), float64
        Sum of the unit rows.
    squares : float
        Sum of their squared norms, after rounding.
    """

    first: int
    unit: NDArray[Any]
    directed: NDArray[np.bool_]
    total: NDArray[np.float64]
    squares: float

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.unit)

    @property
    def n_directed(self) -> int:
        """Rows that have a direction."""
        return int(np.count_nonzero(self.directed))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self.unit.nbytes + self.directed.nbytes + self.total.nbytes)


def make_panel(block: Any, precision: str, first_row: int = 0, *, overwrite: bool = False) -> Panel:
    """Normalise the rows of one tile.

    Parameters
    ----------
    block : array_like, shape (rows, d_model)
        Rows as published.
    precision : str
        ``float32`` or ``float64``: what the unit rows are rounded to. Norms are float64.
    first_row : int
        Number of the first row.
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
    directed = np.empty(len(rows), np.bool_)
    total = np.zeros(rows.shape[1])
    n_bad, first_bad, squares = _normalise(rows, unit, directed, total)
    if n_bad:
        raise not_finite(n_bad, first_bad, first_row, len(rows))
    return Panel(first_row, unit, directed, total, squares)


def not_finite(n_bad: int, first_bad: int, first_row: int, n: int) -> DecoderError:
    """The error that says which of `n` rows are NaN or infinite."""
    return DecoderError(
        f"{n_bad:,} of the rows from {first_row:,} to {first_row + n - 1:,} are NaN or "
        f"infinite (the first: row {first_row + first_bad}): they have no direction"
    )


@compiled
def _normalise(
    rows: NDArray[Any],
    unit: NDArray[Any],
    directed: NDArray[np.bool_],
    total: NDArray[np.float64],
) -> tuple[int, int, float]:
    """Write unit rows and add them up; returns how many rows are bad, the first, and squares."""
    n_bad = 0
    first_bad = -1
    squares = 0.0
    wide = np.empty(rows.shape[1])  # lets unit rows take the place of the others
    for i in range(rows.shape[0]):
        norm = _widen(rows[i], 1.0, wide)
        if not 1e-140 < norm < 1e140:  # float64 rows whose squares vanish or overflow
            largest = np.float64(np.abs(rows[i]).max())
            if largest > 0.0 and np.isfinite(largest):
                norm = _widen(rows[i], 1.0 / largest, wide)
        if not np.isfinite(norm):
            first_bad = i if n_bad == 0 else first_bad
            n_bad += 1
        directed[i] = norm != 0.0
        squares += _divide(wide, 1.0 / norm if norm != 0.0 else 0.0, unit[i], total)
    return n_bad, first_bad, squares


@compiled
def _widen(row: NDArray[Any], scale: float, wide: NDArray[np.float64]) -> Any:
    """Copy a row as float64, times `scale`; returns its norm."""
    square = 0.0
    for j in range(row.shape[0]):
        value = np.float64(row[j]) * scale
        wide[j] = value
        square += value * value
    return np.sqrt(square)


@compiled
def _divide(
    wide: NDArray[np.float64], inverse: float, unit: NDArray[Any], total: NDArray[np.float64]
) -> Any:
    """Write a scaled row, add it to the total, and return the sum of its squares, in one go."""
    squares = 0.0
    for j in range(wide.shape[0]):
        unit[j] = wide[j] * inverse
        value = np.float64(unit[j])
        total[j] += value
        squares += value * value
    return squares
