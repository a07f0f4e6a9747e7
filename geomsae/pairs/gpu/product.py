"""Products of two panels by cuBLAS, in one of the precisions."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from geomsae.pairs.gpu.panels import SCALE, DevicePanel

PROMOTED = 512
"""Dimensions of a float16 product that are summed on the tensor cores before they are added in
float32: their sums are cut off, not rounded, so that an error grows with every step."""


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
    if precision != "fp16x3":
        _gemm(precision, rows.parts[0], cols.parts[0], out, range(rows.parts[0].shape[1]))
        return
    (high, low), (col_high, col_low) = rows.parts, cols.parts
    every = range(high.shape[1])
    _gemm("float16", high, col_low, out, every)
    _gemm("float16", low, col_high, out, every, add=True)
    for first in every[::PROMOTED]:
        some = every[first : first + PROMOTED]
        _gemm("float16", high, col_high, out, some, add=True)


def _gemm(kind: str, rows: Any, cols: Any, out: Any, part: range, *, add: bool = False) -> None:
    """Set `out` to a product over some of the dimensions, or add it to what is there."""
    from cupy.cuda import cublas, runtime

    inner, outer, compute = {
        "float32": (runtime.CUDA_R_32F, runtime.CUDA_R_32F, cublas.CUBLAS_COMPUTE_32F),
        "tf32": (runtime.CUDA_R_32F, runtime.CUDA_R_32F, cublas.CUBLAS_COMPUTE_32F_FAST_TF32),
        "float16": (runtime.CUDA_R_16F, runtime.CUDA_R_32F, cublas.CUBLAS_COMPUTE_32F),
        "float64": (runtime.CUDA_R_64F, runtime.CUDA_R_64F, cublas.CUBLAS_COMPUTE_64F),
    }[kind]
    scale = _number(SCALE**-2 if kind == "float16" else 1.0, out.dtype.name)
    before = _number(1.0 if add else 0.0, out.dtype.name)
    n, m = out.shape
    wide = rows.shape[1]
    skipped = part.start * rows.itemsize
    # To cuBLAS, which counts columns first, rows are columns: it is given the columns' panel first.
    cublas.gemmEx(
        _handle(),
        cublas.CUBLAS_OP_T,
        cublas.CUBLAS_OP_N,
        *(m, n, len(part), scale.ctypes.data),
        *(cols.data.ptr + skipped, inner, wide),
        *(rows.data.ptr + skipped, inner, wide),
        before.ctypes.data,
        *(out.data.ptr, outer, m),
        compute,
        cublas.CUBLAS_GEMM_DEFAULT,
    )


@cache
def _handle() -> int:
    """A handle whose mathematics no setting of the environment changes."""
    from cupy.cuda import cublas

    handle = int(cublas.create())
    cublas.setMathMode(handle, cublas.CUBLAS_DEFAULT_MATH)
    return handle


@cache
def _number(value: float, dtype: str) -> np.ndarray[Any, Any]:
    """A number where cuBLAS can look it up."""
    return np.array(value, dtype)
