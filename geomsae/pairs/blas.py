"""Products of a tile by BLAS, on one of its threads for each worker thread.

That is the fastest layout, and gives the same bits on all of them: a product on two threads is cut
in two, and rounds differently from one on a single thread.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 - its functions are looked up by their addresses
import threadpoolctl
from numba.extending import get_cython_function_address
from numpy.typing import NDArray

_lock = threading.Lock()
_users = 0
_before: list[int] = []


def product(rows: NDArray[Any], cols: NDArray[Any], out: NDArray[Any]) -> None:
    """Multiply each of some rows by each of some others.

    Parameters
    ----------
    rows, cols : ndarray, shape (n, d) and (m, d)
        Of one type.
    out : ndarray, shape (n, m), of that type
        Filled.
    """
    np.matmul(rows, cols.T, out=out)


def gram(rows: NDArray[Any], out: NDArray[Any]) -> None:
    """Multiply each of some rows by itself and those before it: half of the work of a product.

    NumPy would fill the other half too, and SciPy's own call holds the interpreter's lock.

    Parameters
    ----------
    rows : ndarray, shape (n, d), float32 or float64
        C-contiguous.
    out : ndarray, shape (n, n), of that type
        Filled on and below the diagonal.
    """
    number = ctypes.c_float if rows.dtype == np.float32 else ctypes.c_double
    n, d = (ctypes.c_int64(size) for size in rows.shape)  # low bytes first: an int32 as well
    one, zero = number(1), number(0)
    # To Fortran the rows are columns, and what is above the diagonal is below it.
    words: list[Any] = [ctypes.c_char(b"U"), ctypes.c_char(b"T"), n, d, one]
    _syrk(rows.dtype.name)(
        *map(ctypes.addressof, words),
        rows.ctypes.data,
        ctypes.addressof(d),
        ctypes.addressof(zero),
        out.ctypes.data,
        ctypes.addressof(n),
    )


@cache
def _syrk(dtype: str) -> Callable[..., None]:
    """The symmetric rank-k update of SciPy's BLAS, called without the interpreter's lock."""
    name = {"float32": "ssyrk", "float64": "dsyrk"}[dtype]
    address = get_cython_function_address("scipy.linalg.cython_blas", name)
    function: Callable[..., None] = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 10)(address)
    return function


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Let each product run on the thread that asks for it, for as long as any thread is inside.

    Most libraries have one limit for the whole process: the first thread to enter remembers it,
    and the last one to leave restores it. Where each thread has its own, it is restored for each.
    """
    global _users
    with _lock:
        if _users == 0:
            _before[:] = [library.num_threads for library in _libraries()]
        _users += 1
        for library in _libraries():
            _set(library, 1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            for library, threads in zip(_libraries(), _before, strict=True):
                if _users == 0 or getattr(library, "threading_layer", "") == "openmp":
                    _set(library, threads)


@cache
def _libraries() -> list[Any]:
    """The BLAS libraries in this process."""
    found = threadpoolctl.ThreadpoolController().lib_controllers
    return [library for library in found if library.user_api == "blas"]


def _set(library: Any, threads: int) -> None:
    """Set the limit from whichever thread this is.

    Since version 3.8 threadpoolctl lets a single thread set the limits of OpenBLAS, and silently
    ignores all others until that one has let go.
    """
    let_go = getattr(library, "clear_controlling_thread", None)
    if let_go:
        let_go(force=True)
    library.set_num_threads(threads)
    if let_go:
        let_go(force=True)
