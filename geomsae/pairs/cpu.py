"""The tile kernel of the CPU: one product of unit rows, binned in one compiled pass."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.pairs.compiled import compiled
from geomsae.pairs.memory import empty
from geomsae.pairs.plan import STRIP

_APART = 4
"""Neighbouring values that are counted apart from each other."""

_local = threading.local()


def count_rectangle(rows: NDArray[Any], cols: NDArray[Any], counts: NDArray[np.int64]) -> float:
    """Count the cosine of every pair of a unit row and a unit column.

    Parameters
    ----------
    rows, cols : ndarray, shape (n, d) and (m, d), float32 or float64
        Unit rows.
    counts : ndarray, shape (bins,), int64
        Added to.

    Returns
    -------
    float
        The sum of all cosines counted.
    """
    return float(_bin(_product(rows, cols), len(cols), counts))


def count_triangle(rows: NDArray[Any], counts: NDArray[np.int64]) -> float:
    """Count the cosine of every unordered pair among unit rows; see `count_rectangle`."""
    total = 0.0
    for first in range(0, len(rows), STRIP):
        strip = rows[first : first + STRIP]
        product = _product(strip, rows[: first + len(strip)])
        total += _bin(product, first, counts)
    return total


def _product(rows: NDArray[Any], cols: NDArray[Any]) -> NDArray[Any]:
    """All cosines, in a buffer that this thread uses again for the next product."""
    size = len(rows) * len(cols)
    buffer = getattr(_local, "buffer", None)
    if buffer is None or buffer.size < size or buffer.dtype != rows.dtype:
        buffer = _local.buffer = empty((size,), rows.dtype.name)
    out = buffer[:size].reshape(len(rows), len(cols))
    return np.matmul(rows, cols.T, out=out)


@compiled
def _bin(product: NDArray[Any], limit: int, counts: NDArray[np.int64]) -> Any:
    """Bin the first `limit + i` values of each row `i`, and return their sum.

    The bin of a cosine c is floor(c bins / 2) + bins / 2, in float64: exact for a float32 c, whose
    product with the number of bins has fewer than 53 bits. With an odd number of bins no edge lies
    at 0, and half a bin is added before rounding down.

    A row's numbers of bins are found first, in vector registers. Most cosines fall into a few bins,
    so that one count would wait for the last: neighbours go to counts of their own.
    """
    bins = counts.shape[0]
    half = bins / 2
    shift = 0.5 * (bins % 2)
    middle = np.int32(bins // 2)
    first, last = np.int32(0), np.int32(bins - 1)
    number = np.empty(product.shape[1], np.int32)
    apart = np.zeros((_APART, bins), np.int64)
    total = 0.0
    for i in range(product.shape[0]):
        width = min(limit + i, product.shape[1])
        row_total = 0.0
        for j in range(width):
            value = np.float64(product[i, j])
            floor = np.int32(np.floor(value * half + shift))
            number[j] = min(max(floor + middle, first), last)
            row_total += value
        total += row_total
        even = width - width % _APART
        for j in range(0, even, _APART):
            for k in range(_APART):
                apart[k, number[j + k]] += 1
        for j in range(even, width):
            apart[0, number[j]] += 1
    for k in range(_APART):
        counts += apart[k]
    return total
