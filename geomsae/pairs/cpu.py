"""The tile kernel of the CPU: one product of unit rows, binned in one compiled pass."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.pairs.compiled import compiled
from geomsae.pairs.plan import STRIP

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
        buffer = _local.buffer = np.empty(size, rows.dtype)
    out = buffer[:size].reshape(len(rows), len(cols))
    return np.matmul(rows, cols.T, out=out)


@compiled
def _bin(product: NDArray[Any], limit: int, counts: NDArray[np.int64]) -> Any:
    """Bin the first `limit + i` values of each row `i`, and return their sum.

    The bin of a cosine c is floor(c bins / 2) + bins / 2, in float64: exact for a float32 c, whose
    product with the number of bins has fewer than 53 bits. With an odd number of bins no edge lies
    at 0, and half a bin is added before rounding down.
    """
    bins = counts.shape[0]
    half = bins / 2
    shift = 0.5 * (bins % 2)
    middle = bins // 2
    last = bins - 1
    total = 0.0
    for i in range(product.shape[0]):
        row_total = 0.0
        for j in range(min(limit + i, product.shape[1])):
            value = np.float64(product[i, j])
            number = math.floor(value * half + shift) + middle
            counts[min(max(number, 0), last)] += 1
            row_total += value
        total += row_total
    return total
