"""Products of two panels by cuBLAS, in one of the precisions."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from geomsae.pairs.gpu.panels import SCALE, DevicePanel

PROMOTED = 768
"""Dimensions of a float16 product that are summed on the tensor cores, at most, before they are
added in float32: their sums are cut off, not rounded, so that an error grows with every step."""


def multiply(precision: str, rows: DevicePanel, cols: DevicePanel, out: Any) -> None:
    """Multiply each row of one panel by each of another, on the current stream.

    Parameters
    ----------
    precision : {"float32", "tf32", "fp16x3", "float64"}
        ``float32`` keeps to IEEE arithmetic and ``tf32`` lets tensor cores round the factors to 10
        bits. ``fp16x3`` adds up high x high + high x low + low x high of float16 halves.
    rows, cols : DevicePanel
        Made for this precision.
    out : array, shape (rows, columns), float32 or float64
        Filled with their cosines.
    """
    n, m = out.shape
    wide = rows.parts[0].shape[1]
    to = out.data.ptr, m, n, wide
    if precision != "fp16x3":
        _gemm((precision, False), rows.parts[0].data.ptr, cols.parts[0].data.ptr, *to, wide)
        return
    high, low = (part.data.ptr for part in rows.parts)
    col_high, col_low = (part.data.ptr for part in cols.parts)
    _gemm(("float16", False), high, col_low, *to, wide)
    _gemm(("float16", True), low, col_high, *to, wide)
    step = _step(wide)
    for first in range(0, wide, step):
        skipped = 2 * first
        part = min(step, wide - first)
        _gemm(("float16", True), high + skipped, col_high + skipped, *to, part)


def _step(wide: int) -> int:
    """Dimensions to sum at a time: parts of about one length, whole steps of a tensor core.

    Examples
    --------
    >>> _step(2304), _step(3584), _step(384)
    (768, 720, 384)
    """
    parts = -(-wide // PROMOTED)
    return min(wide, -(-wide // parts // 16) * 16)


def _gemm(
    kind: tuple[str, bool], rows: int, cols: int, out: int, m: int, n: int, wide: int, part: int
) -> None:
    """Set `out`, or add to it, products over `part` dimensions of rows of `wide` numbers.

    Everything is an address or a number: a tile takes the card less time than Python takes to look
    a few things up.
    """
    gemm, handle, transposed, plain, default = _cublas()
    inner, outer, compute, scale, before = _words(*kind)
    # To cuBLAS, which counts columns first, rows are columns: it is given the columns' panel first.
    gemm(
        *(handle, transposed, plain, m, n, part, scale),
        *(cols, inner, wide, rows, inner, wide),
        *(before, out, outer, m, compute, default),
    )


@cache
def _cublas() -> tuple[Any, int, int, int, int]:
    """Its product, a handle whose mathematics no setting of the environment changes, and words."""
    from cupy.cuda import cublas

    handle = int(cublas.create())
    cublas.setMathMode(handle, cublas.CUBLAS_DEFAULT_MATH)
    words = cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, cublas.CUBLAS_GEMM_DEFAULT
    return cublas.gemmEx, handle, *words


@cache
def _words(kind: str, add: bool) -> tuple[int, int, int, int, int]:
    """Types of the factors and of the product, how it is computed, and where two numbers lie."""
    from cupy.cuda import cublas, runtime

    inner, outer, compute = {
        "float32": (runtime.CUDA_R_32F, runtime.CUDA_R_32F, cublas.CUBLAS_COMPUTE_32F),
        "tf32": (runtime.CUDA_R_32F, runtime.CUDA_R_32F, cublas.CUBLAS_COMPUTE_32F_FAST_TF32),
        "float16": (runtime.CUDA_R_16F, runtime.CUDA_R_32F, cublas.CUBLAS_COMPUTE_32F),
        "float64": (runtime.CUDA_R_64F, runtime.CUDA_R_64F, cublas.CUBLAS_COMPUTE_64F),
    }[kind]
    dtype = "float64" if kind == "float64" else "float32"
    scale = _number(SCALE**-2 if kind == "float16" else 1.0, dtype)
    before = _number(1.0 if add else 0.0, dtype)
    return inner, outer, compute, scale.ctypes.data, before.ctypes.data


@cache
def _number(value: float, dtype: str) -> np.ndarray[Any, Any]:
    """A number that stays where it is, for cuBLAS to find."""
    return np.array(value, dtype)
